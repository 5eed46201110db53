"""`tamiz models`: a person changes the status of versions, sees the history, and each change is a model event."""

import json
import os
import pwd
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from schemas.configuration.settings import Settings, load
from schemas.errors import BrokerError
from schemas.records import ModelEvent, RetrainRequest
from schemas.security.actor import MAX_LENGTH, os_actor
from schemas.topics import topic_table
from stream_app.kafka.topic_admin import create_topics
from stream_app.kafka.topic_reader import read_to_end
from tamiz.main import app
from tamiz.services.retrainer_service import training_actor
from tests.conftest import Kafka
from tests.helpers.bundles.small_bundle import small_bundle
from training.registry import mlflow_registry, version_transitions

NOBODY = "127.0.0.1:1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two versions with skill: the first is champion, the second awaits approval."""
    settings = Settings(state_dir=tmp_path / "state", model_name="small", bootstrap_servers=NOBODY)
    small_bundle(tmp_path / "bundle")
    (tmp_path / "evaluation").mkdir()
    for _ in range(2):
        mlflow_registry.register(
            settings,
            tmp_path / "bundle",
            report=tmp_path / "evaluation",
            metrics={},
            params={},
            tags={"gate_status": "skill"},
        )
    version_transitions.promote(settings, 1, "there is no other [yet]")
    version_transitions.make_challenger(settings, 2, "awaiting-approval", "it is better")
    return settings


def runner(settings: Settings, **more: str) -> CliRunner:
    env = {"TAMIZ_STATE_DIR": str(settings.state_dir), "TAMIZ_MODEL_NAME": settings.model_name, "COLUMNS": "200"}
    return CliRunner(env={**env, "TAMIZ_BOOTSTRAP_SERVERS": NOBODY, "MLFLOW_TRACKING_URI": None, **more})


def test_the_list_shows_champion_and_waiting_versions(settings: Settings) -> None:
    result = runner(settings).invoke(app, ["models", "list"])
    assert result.exit_code == 0
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in result.stdout.splitlines() if "│" in line]
    assert cells == [["2", "challenger"], ["1", "champion"]]
    result = runner(settings).invoke(app, ["models", "history"])
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert [lines[1], lines[3]] == ["there is no other [yet]", "it is better"]
    assert "version 2 awaiting-approval by" in lines[2]


def test_without_a_broker_a_transition_is_valid_and_one_line_warns(settings: Settings) -> None:
    twice = runner(settings).invoke(app, ["models", "promote", "1", "--reason", "we agree"])
    assert "is champion already" in str(twice.exception)
    result = runner(settings).invoke(app, ["models", "promote", "2", "--reason", "we agree"])
    assert result.exit_code == 0
    assert "version 2 is champion; previous champion: version 1" in result.stdout
    assert len(result.stderr.splitlines()) == 1
    assert NOBODY in result.stderr
    assert mlflow_registry.champion(settings) == 2


def test_a_transition_names_the_owner_of_the_process_not_the_environment(settings: Settings) -> None:
    forged = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER", "HOSTNAME"), "mallory")
    result = runner(settings, **forged).invoke(app, ["models", "reject", "2", "--reason", "no", "--json"])
    by = msgspec.json.decode(result.stdout)["by"]
    assert by == os_actor()
    assert (by.split("@")[0], "mallory" in by) == (f"os:{pwd.getpwuid(os.getuid()).pw_name}", False)


def test_versions_history_and_transitions_are_printed_as_json(settings: Settings) -> None:
    def run(*arguments: str) -> Any:
        return json.loads(runner(settings).invoke(app, ["models", *arguments, "--json"]).stdout)

    assert [(v["version"], v["status"]) for v in run("list")] == [(2, "challenger"), (1, "champion")]
    assert run("reject", "2", "--reason", "it is not")["change"] == "rejected"
    assert [(m["version"], m["change"]) for m in run("history")] == [
        (1, "promoted"),
        (2, "awaiting-approval"),
        (2, "rejected"),
    ]


def test_a_model_that_was_never_trained_has_no_versions(tmp_path: Path) -> None:
    empty = runner(Settings(state_dir=tmp_path, model_name="small"))
    assert "no version is registered yet" in empty.invoke(app, ["models", "list"]).stdout
    assert "no version was promoted or rejected yet" in empty.invoke(app, ["models", "history"]).stdout


@pytest.mark.kafka
def test_every_transition_is_published(settings: Settings, kafka: Kafka) -> None:
    own = {"TAMIZ_TOPIC_PREFIX": f"{uuid.uuid4()}-", "TAMIZ_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    names, people = load(own), runner(settings, **own)
    topic = names.model_events_topic
    unpublished = people.invoke(app, ["models", "promote", "2", "--reason", "we agree"])
    assert (unpublished.exit_code, f"nothing was published to {topic}" in unpublished.stderr) == (0, True)
    create_topics(names.bootstrap, [t for t in topic_table(names) if t.role == "model-events"], 1)
    for arguments in (["rollback", "--reason", "it alerts on all"], ["reject", "2", "--reason", "never again"]):
        result = people.invoke(app, ["models", *arguments])
        assert (result.exit_code, result.stderr) == (0, "")
    records = [r for batch in read_to_end(names.bootstrap, topic) for r in batch]
    events = [msgspec.json.decode(r.value or b"", type=ModelEvent) for r in records]
    assert [(e.model_version, e.change, e.reason) for e in events] == [
        (1, "rolled-back", "it alerts on all"),
        (2, "rejected", "never again"),
    ]
    assert {r.key for r in records} == {b"small"}


@pytest.mark.kafka
def test_a_person_requests_a_training(settings: Settings, kafka: Kafka) -> None:
    names = {
        "TAMIZ_TOPIC_PREFIX": f"{uuid.uuid4()}-",
        "TAMIZ_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
    }
    topic = next(t for t in topic_table(load(names)) if t.role == "retrain-requests")
    create_topics(kafka.bootstrap_servers, [topic], 1)
    result = runner(settings, **names).invoke(app, ["retrain", "--reason", "a new season"])
    assert result.exit_code == 0, result.output
    [record] = [r for batch in read_to_end(kafka.bootstrap_servers, topic.name) for r in batch]
    sent = msgspec.json.decode(record.value or b"", type=RetrainRequest)
    assert (record.key, sent.model_version, sent.cause, sent.reason) == (b"small", 1, "manual", "a new season")
    assert sent.correlation_id in result.stdout


def test_requesting_a_training_without_a_broker_is_an_error(settings: Settings, tmp_path: Path) -> None:
    unpublished = runner(settings).invoke(app, ["retrain", "--reason", "a new season"])
    assert isinstance(unpublished.exception, BrokerError)
    nothing = runner(Settings(state_dir=tmp_path / "empty", model_name="small")).invoke(
        app, ["retrain", "--reason", "why"]
    )
    assert "tamiz train FILE" in str(nothing.exception)


def test_the_history_names_who_requested_a_training_in_printable_text(settings: Settings) -> None:
    for version, by in enumerate(("os:ana@laptop", "\x1b[2J[/nope]\n\u202e" + "x" * 480), 1):
        fields = {
            "correlation_id": "l",
            "model": "small",
            "model_version": 1,
            "cause": "manual",
            "features": [],
            "by": by,
        }
        times = {"reason": "why", "from_ms": 0, "until_ms": 1, "requested_at_ms": 1}
        request = msgspec.convert({**fields, **times}, RetrainRequest)
        version_transitions.promote(settings, version, "it is better", by=training_actor(request))
    actors = [m.by for m in version_transitions.history(settings)][-2:]
    assert actors[0] == "tamiz retrainer for os:ana@laptop"
    assert actors[1].startswith(r"tamiz retrainer for \x1b[2J[/nope]\n\u202exxx")
    assert (len(actors[1]), actors[1].isprintable()) == (MAX_LENGTH, True)
    shown = runner(settings).invoke(app, ["models", "history"]).stdout
    assert " by tamiz retrainer for os:ana@laptop" in shown
    assert "\x1b" not in shown
    assert training_actor(msgspec.structs.replace(request, by=None)) == "tamiz retrainer"
