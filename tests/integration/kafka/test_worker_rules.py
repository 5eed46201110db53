"""Rules and lists in a worker process: from which transaction on they hold, and that this is known afterwards."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chaos.rule_changes import RuleTopics, rule
from chaos.run import own_topics
from schemas.configuration.settings import Settings
from schemas.rules import RuleActivation, RulesFile
from stream_app.decisions.decision_explanation import explain
from stream_app.kafka.topic_admin import admin, topic_ids
from stream_app.worker.worker import make_worker
from tests.conftest import Kafka
from tests.helpers.services.worker_process import (
    isolated_settings,
    read_topic,
    running_worker,
    wait_for,
)
from tests.integration.services.test_worker import produce

pytestmark = pytest.mark.kafka
ALWAYS = "score >= 0"


@pytest.fixture
def settings(kafka: Kafka, real_registry: Settings) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, real_registry.state_dir)


@pytest.fixture
def topics(settings: Settings) -> Iterator[RuleTopics]:
    made = RuleTopics(settings)
    yield made
    made.close()


def decisions(settings: Settings, at_least: int) -> list[dict[str, Any]]:
    return [json.loads(r.value) for r in read_topic(settings.bootstrap, settings.decisions_topic, at_least=at_least)]


def stamps(settings: Settings) -> list[RuleActivation]:
    records = read_topic(settings.bootstrap, settings.rule_activations_topic)
    return [msgspec.json.decode(r.value, type=RuleActivation) for r in records if r.value]


def test_without_the_topics_of_rules_a_worker_decides_without_them(
    kafka: Kafka, real_registry: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = own_topics(real_registry, kafka.bootstrap_servers, 1)
    with admin(settings.bootstrap) as client:
        client.delete_topics([settings.lists_topic])
    wait_for(lambda: not topic_ids(settings.bootstrap, [settings.lists_topic]), 30)
    _, services = make_worker(settings)
    assert services._worker_loop.rules is None
    assert f"no rules and lists: topics missing: {settings.lists_topic}; create them with" in caplog.text


def test_a_ruleset_holds_from_the_stamped_transaction_on_and_after_a_crash_and_explain_applies_it_again(
    settings: Settings, topics: RuleTopics, real_payloads: list[bytes], tmp_path: Path
) -> None:
    with running_worker(settings, tmp_path) as worker:
        produce(settings, real_payloads[:200])
        before = decisions(settings, 200)
        assert {d["ruleset"] for d in before} == {None}
        assert stamps(settings) == []
        topics.add_ruleset(RulesFile(rules=(rule(ALWAYS, "block"),)))
        wait_for(lambda: worker.readiness()["ruleset"] == 1, 30)
        produce(settings, real_payloads[200:400])
        held = decisions(settings, 400)
        assert worker.stop(signal.SIGKILL) == -signal.SIGKILL
    topics.add_ruleset(RulesFile(rules=(rule("score > 1 +"),)))
    topics.add_ruleset(RulesFile(rules=(rule(ALWAYS, "allow"),)))
    with running_worker(settings, tmp_path):
        produce(settings, real_payloads[400:600])
        after = decisions(settings, 600)
    by_id: dict[str, set[str]] = {}
    for decision in (*held, *after):
        by_id.setdefault(decision["decision_id"], set()).add(json.dumps(decision))
    assert [found for found in by_id.values() if len(found) > 1] == [], "decided again, by the same rules"
    assert sorted({(d["ruleset"] or 0, d["decided_by"], d["outcome"]) for d in after if d["ruleset"]}) == [
        (1, "rule", "decline"),
        (3, "rule", "approve"),
    ]
    assert sum(d["ruleset"] == 3 for d in after) == 200
    assert {(s.ruleset, s.lists_offset) for s in stamps(settings)} == {(1, 0), (3, 0)}
    for ruleset in (None, 1, 3):
        explained = explain(settings, next(d["decision_id"] for d in after if d["ruleset"] == ruleset))
        assert explained.reproduced, (ruleset, explained.reproduction)
        read = [(match.when, match.values) for match in explained.matches]
        assert read == ([] if ruleset is None else [(ALWAYS, {"score": explained.decision.score})])
