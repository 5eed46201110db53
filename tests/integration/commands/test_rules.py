"""`tamiz rules` and `tamiz lists` on a real broker: what people change, who may, and what the history keeps."""

import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import RuleError, TamizError
from schemas.records import DriftAlert
from schemas.rules import Rule, RulesEvidence, RulesFile
from schemas.time_units import DAY_MS
from stream_app.rules.record_writer import write_records
from stream_app.rules.ruleset_records import (
    RulesetRefusedError,
    activate_ruleset,
    approve_ruleset,
    read_ruleset_log,
    roll_back_ruleset,
)
from tamiz.main import app
from tamiz.services.tested_rulesets import keep_evidence
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings

pytestmark = pytest.mark.kafka
DATASET = load_dataset("terminal_transactions")
MONTH = RulesEvidence(from_ms=0, until_ms=30 * DAY_MS, transactions=1_000, matches={"large": 3})
SHORT = msgspec.structs.replace(MONTH, until_ms=2 * DAY_MS)


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, tmp_path / "state", dataset="terminal_transactions")


def ruleset(mode: Any = "shadow", version: int = 1, limit: int = 300) -> RulesFile:
    when = f"amount > {limit} and card_count_7d >= 3"
    rule = Rule(id="large", version=version, when=when, effect="review", reason="a large amount", mode=mode)
    return RulesFile(rules=(rule,))


def write_toml(path: Path, rules: RulesFile) -> Path:
    lines = []
    for rule in rules.rules:
        lines += [
            "[[rules]]",
            *(f"{k} = {json.dumps(v)}" for k, v in msgspec.to_builtins(rule).items() if v is not None),
        ]
    path.write_text("\n".join(lines))
    return path


def run(settings: Settings, *words: str) -> Result:
    environment = {name: value for name, value in child_environment(settings).items() if name.startswith("TAMIZ_")}
    return CliRunner(env={**environment, "COLUMNS": "250"}).invoke(app, list(words))


def ok(settings: Settings, *words: str) -> str:
    result = run(settings, *words)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def in_force(settings: Settings) -> tuple[int, RulesFile] | None:
    found = read_ruleset_log(settings, DATASET).in_force
    return None if found is None else (found.record.number, found.record.content)


def test_a_rule_is_shadowed_tested_activated_and_rolled_back(settings: Settings, tmp_path: Path) -> None:
    file = str(write_toml(tmp_path / "rules.toml", ruleset()))
    assert "large version 1: shadow, review" in ok(settings, "rules", "check", file)
    assert "no rules are in force" in ok(settings, "rules", "list")
    assert "record 1 is in force: 1 shadow" in ok(settings, "rules", "activate", file, "--reason", "try it")
    write_toml(tmp_path / "rules.toml", ruleset("live"))
    refused = run(settings, "rules", "activate", file, "--reason", "go")
    assert isinstance(refused.exception, RuleError)
    assert "large: live without a test; run `tamiz rules test`" in str(refused.exception)
    keep_evidence(settings, ruleset(), SHORT)
    assert "it covers 2.0" in str(run(settings, "rules", "activate", file, "--reason", "go").exception)
    keep_evidence(settings, ruleset(), MONTH)
    assert "record 2 is in force: 1 live" in ok(settings, "rules", "activate", file, "--reason", "go")
    listed = ok(settings, "rules", "list")
    assert "record 2, activated by os:" in listed
    assert "amount > 300 and card_count_7d >= 3" in listed
    assert "record 3 is in force, again as in record 1: 1 shadow" in ok(
        settings, "rules", "rollback", "--reason", "too many"
    )
    assert "record 4 is in force: no rules" in ok(settings, "rules", "rollback", "--reason", "still")
    assert "nothing to roll back" in str(run(settings, "rules", "rollback", "--reason", "more").exception)
    history = ok(settings, "rules", "history")
    assert [line.split(" by ")[0] for line in history.splitlines() if not line.startswith(" ")] == [
        "1, activated",
        "2, activated",
        "3, rolled back to record 1",
        "4, rolled back",
    ]
    assert "tested on 1,000 transactions, 1970-01-01 00:00 to 1970-01-31 00:00" in history
    assert [e["record"]["number"] for e in json.loads(ok(settings, "rules", "history", "--json"))] == [1, 2, 3, 4]


def test_a_rule_goes_live_without_a_test_for_a_stated_reason(settings: Settings, tmp_path: Path) -> None:
    file = str(write_toml(tmp_path / "rules.toml", ruleset("live")))
    ok(settings, "rules", "activate", file, "--reason", "attack", "--force", "fraud now")
    (entry,) = json.loads(ok(settings, "rules", "history", "--json"))
    assert entry["record"]["reason"] == "attack (without a test: fraud now)"
    assert entry["record"]["evidence"] is None


def test_a_rule_that_is_live_already_or_goes_off_needs_no_test(settings: Settings) -> None:
    activate_ruleset(settings, DATASET, ruleset("live"), reason="r", by="os:ana@h", evidence=MONTH)
    extra = Rule(id="night", version=1, when="hour < 5", effect="review", reason="night")
    both = RulesFile(rules=(*ruleset("live").rules, extra))
    activate_ruleset(settings, DATASET, both, reason="r", by="os:ana@h")
    activate_ruleset(settings, DATASET, ruleset("off"), reason="r", by="os:ana@h")
    assert in_force(settings) == (3, ruleset("off"))


def test_a_changed_condition_needs_a_new_version(settings: Settings) -> None:
    activate_ruleset(settings, DATASET, ruleset(), reason="r", by="os:ana@h")
    with pytest.raises(RuleError, match="rule 'large': version 1 has another when in record 1; raise its version to 2"):
        activate_ruleset(settings, DATASET, ruleset(limit=500), reason="r", by="os:ana@h")
    activate_ruleset(settings, DATASET, ruleset(limit=500, version=2), reason="r", by="os:ana@h")
    with pytest.raises(RulesetRefusedError, match="these rules are in force already, as record 2"):
        activate_ruleset(settings, DATASET, ruleset(limit=500, version=2), reason="r", by="os:ana@h")


def test_where_a_second_person_is_required_another_one_approves(settings: Settings, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(settings, rules_second_person=True)
    file = str(write_toml(tmp_path / "rules.toml", ruleset("live")))
    keep_evidence(settings, ruleset(), MONTH)
    assert "record 1 waits for another person" in ok(settings, "rules", "activate", file, "--reason", "burst")
    assert in_force(settings) is None
    assert "another person must approve it" in str(run(settings, "rules", "approve", "1", "--reason", "me").exception)
    assert "waits for approval: record 1, proposed by os:" in ok(settings, "rules", "list")
    approved = approve_ruleset(settings, DATASET, 1, reason="agreed", by="web:bo")
    assert (approved.number, approved.proposal, approved.evidence) == (2, 1, MONTH)
    assert in_force(settings) == (2, ruleset("live"))
    with pytest.raises(RulesetRefusedError, match="record 1 is no proposal that waits for approval; waiting: none"):
        approve_ruleset(settings, DATASET, 1, reason="again", by="web:bo")
    roll_back_ruleset(settings, DATASET, reason="too many", by="os:ana@h")
    assert in_force(settings) == (2, ruleset("live"))
    approve_ruleset(settings, DATASET, 3, reason="agreed", by="web:bo")
    assert in_force(settings) == (4, RulesFile())


def test_of_people_who_write_at_once_the_later_is_refused_in_one_line(settings: Settings) -> None:
    """As many as the threads meet; each either takes effect or says that it did not."""
    results: list[int | str] = []
    start = threading.Barrier(4)

    def write(person: int) -> None:
        start.wait()
        try:
            record = activate_ruleset(settings, DATASET, ruleset(version=person), reason="r", by=f"web:{person}")
            results.append(record.number)
        except TamizError as error:
            results.append(str(error))

    people = [threading.Thread(target=write, args=(person,)) for person in range(1, 5)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    entries = read_ruleset_log(settings, DATASET).entries
    numbers = sorted(n for n in results if isinstance(n, int))
    assert numbers == [e.record.number for e in entries if e.in_chain]
    refused = [text for text in results if isinstance(text, str)]
    assert len(refused) == len([e for e in entries if not e.in_chain])
    assert all("two people wrote at once; see `tamiz rules list` and repeat the change" in text for text in refused)


def test_values_are_added_imported_listed_and_removed(settings: Settings, tmp_path: Path) -> None:
    assert "stolen: 2 of field card added; block" in ok(
        settings, "lists", "add", "stolen", "4711", "4712", "--effect", "block", "--reason", "reported"
    )
    ok(
        settings,
        "lists",
        "add",
        "trip",
        "4711",
        "--effect",
        "snooze",
        "--rule",
        "large",
        "--reason",
        "t",
        "--until",
        "1h",
    )
    (tmp_path / "cards.csv").write_text("card,reason\n9001, known\n 9002,\n")
    ok(settings, "lists", "import", str(tmp_path / "cards.csv"), "--list", "stolen", "--reason", "October")
    found = json.loads(ok(settings, "lists", "list", "stolen", "--json"))
    assert [(e["value"], e["effect"], e["reason"]) for e in found] == [
        ("9002", None, "October"),
        ("9001", None, "known"),
        ("4712", "block", "reported"),
        ("4711", "block", "reported"),
    ]
    ok(settings, "lists", "remove", "stolen", "4711", "--reason", "found")
    assert "4711" not in ok(settings, "lists", "list", "stolen")
    assert "'4711' is not on list 'stolen'" in str(
        run(settings, "lists", "remove", "stolen", "4711", "--reason", "found").exception
    )
    table = ok(settings, "lists", "list")
    assert [line.split("│")[1].strip() for line in table.splitlines() if "│" in line] == ["stolen", "stolen", "trip"]


def test_an_entry_that_no_transaction_can_meet_is_refused_in_one_line(settings: Settings) -> None:
    words = ["lists", "add", "stolen", "4711", "--reason", "r"]
    for more, expected in [
        (["--field", "terminals"], "field 'terminals' cannot be on a list; did you mean 'terminal'?"),
        (
            ["--field", "amount"],
            "field 'amount' cannot be on a list: the data set 'terminal_transactions' has card, term",
        ),
        (["--effect", "snooze"], "effect 'snooze', rule None: a snooze names its rule"),
        (["--until", "tomorrow"], "until 'tomorrow' is neither a duration nor a time"),
    ]:
        assert str(run(settings, *words, *more).exception).startswith(expected)
    assert json.loads(ok(settings, "lists", "list", "--json")) == []


def test_the_cards_of_an_alert_are_added_by_one_command(settings: Settings) -> None:
    alert = DriftAlert(
        incident_id="drift-1", change="opened", kind="attack", severity="critical", model=settings.model_name,
        model_version=1, features=(), summary="few cards", opened_at_ms=DAY_MS, happened_at_ms=DAY_MS, evidence=(),
        examples=(), cards=("17", "23"),
    )  # fmt: skip
    write_records(settings, settings.drift_alerts_topic, [("drift-1", msgspec.json.encode(alert))])
    words = ["lists", "add", "attack", "--effect", "block", "--reason", "card testing", "--from-alert"]
    assert "attack: 2 of field card added; block" in ok(settings, *words, "drift-1")
    assert [e["value"] for e in json.loads(ok(settings, "lists", "list", "attack", "--json"))] == ["23", "17"]
    unknown = str(run(settings, *words, "drift-2").exception)
    assert unknown == "no alert of incident 'drift-2' names a card; latest ones that name cards: drift-1"
