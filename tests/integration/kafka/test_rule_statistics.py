"""Live statistics of rules on a real broker: published, and continued by the next monitor."""

import threading
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from monitoring.drift.context import AlertContext
from monitoring.performance.rule_performance import RulePerformance
from schemas.configuration.settings import Settings
from schemas.log_chain import START
from schemas.records import Decision, Label, RuleMatch
from schemas.rules import Rule, RulesetRecord, RulesFile
from schemas.time_units import DAY_MS
from stream_app.kafka.kafka_clients import client_config
from stream_app.monitor.monitor_input import MonitorInput
from stream_app.monitor.monitor_intake import KnownVersions, MonitorIntake, TransactionEnds
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.monitor.rule_monitor import show_rules
from stream_app.monitor.version_bundles import VersionBundles
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, recreate_topic

START_MS = 1_700_000_000_000
RULES = RulesFile(
    rules=tuple(
        Rule(id=name, version=2, when="score > 0.5", effect="review", reason="", mode="live")
        for name in ("night", "never")
    )
)
NIGHT = RuleMatch(kind="rule", name="night", version=2, effect="review", mode="live", reason="")


def decision(settings: Settings, number: int, after_ms: int = 0) -> Decision:
    return Decision(
        decision_id="",
        transaction_id=f"t{number}",
        score=0.6,
        outcome="review",
        model_outcome="approve",
        decided_by="rule",
        exploration_share=None,
        ruleset=1,
        matches=(NIGHT,),
        threshold=0.0,
        model=settings.model_name,
        model_version=1,
        event_time_ms=START_MS + after_ms,
    )


def send(settings: Settings, topic: str, *records: msgspec.Struct) -> None:
    producer = KafkaProducer(**client_config(settings.bootstrap), acks="all")
    for record in records:
        producer.send(topic, msgspec.json.encode(record), key=b"k")
    producer.flush()
    producer.close()


def started(source: MonitorInput) -> RulePerformance:
    """A monitor's statistics when it has read what there is."""
    rules = source.assign(AlertContext())
    assert list(source.replay(threading.Event())) == []
    return rules


@pytest.mark.kafka
def test_statistics_are_published_and_the_next_monitor_counts_no_match_and_no_label_twice(
    kafka: Kafka, tmp_path: Path
) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, tmp_path, label_delay_days=0)
    metrics, ends = MonitorMetrics(), TransactionEnds(settings)
    versions = KnownVersions(lambda: {1}, lambda: {1})
    intake = MonitorIntake(settings, metrics, versions, VersionBundles(lambda version: tmp_path), ends)
    ruleset = RulesetRecord(
        number=1, change="activated", content=RULES, by="os:ana", at_ms=START_MS, reason="", after=START
    )
    label = Label(transaction_id="t0", fraud=True, reported_at_ms=START_MS)
    send(settings, settings.rules_topic, ruleset, msgspec.structs.replace(ruleset, content=RulesFile()))
    send(settings, settings.decisions_topic, *(decision(settings, n) for n in range(6)))
    send(settings, settings.labels_topic, label)
    sources = [MonitorInput(settings, intake, lambda: None) for _ in range(3)]
    try:
        found = started(sources[0]).evaluate(START_MS + DAY_MS)
        assert found is not None
        assert {(c.name, c.in_force, c.matches, c.labels.rows) for c in found.report.rules} == {
            ("night", True, 6, 1),
            ("never", True, 0, 0),
        }, "the second record of that number is not in the chain of the history"
        send(settings, settings.rule_statistics_topic, found.report)
        send(settings, settings.decisions_topic, decision(settings, 6))

        again = started(sources[1])
        found = again.evaluate(START_MS + 31 * DAY_MS)
        assert found is not None
        assert {c.name: (c.matches, c.labels.rows) for c in found.report.rules} == {"night": (7, 1), "never": (0, 0)}
        assert {a.summary for a in found.alerts} == {
            "rule night v2 (live) matches nothing for 30 days; its last match was on 2023-11-14",
            "rule never v2 (live) matches nothing for 30 days; it never matched",
        }
        show_rules(metrics, found.report)
        labels = {"rule": "night", "version": "2", "problem": "no-matches"}
        assert metrics.registry.get_sample_value("tamiz_rule_live_problems", labels) == 1

        send(settings, settings.rule_statistics_topic, found.report)
        recreate_topic(settings, settings.decisions_topic)
        send(settings, settings.decisions_topic, decision(settings, 7, 32 * DAY_MS))
        after = started(sources[2]).evaluate(START_MS + 32 * DAY_MS)
        assert after is not None
        assert [(c.name, c.matches, c.problem) for c in after.report.rules if c.matches] == [("night", 8, None)]
    finally:
        for source in sources:
            source.close()
        ends.close()
