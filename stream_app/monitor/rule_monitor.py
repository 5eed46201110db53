"""Live statistics of rules in the monitor: restored from `rule-statistics`, published there, and shown as metrics."""

from collections.abc import Mapping

from kafka import TopicPartition

from monitoring.performance.rule_performance import RulePerformance, RulePolicy
from schemas.configuration.settings import Settings
from schemas.rule_report import RuleReport
from schemas.time_units import DAY_MS
from schemas.topics import MAX_RECORD_BYTES
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import last_records
from stream_app.monitor.monitor_metrics import MonitorMetrics

LOOKBACK_RECORDS = 20  # of `rule-statistics`, of any model


def restore_rules(settings: Settings, intake: RecordIntake, ends: Mapping[TopicPartition, int]) -> RulePerformance:
    """The statistics as last published, or empty ones. ends: of the partitions of `decisions` and `labels`.

    Offsets beyond an end are of a topic that was deleted or truncated: they are not used. Raises BrokerError if the
    broker does not respond or the topic does not exist.
    """
    s = settings
    reports = [
        report
        for record in last_records(s.bootstrap, s.rule_statistics_topic, LOOKBACK_RECORDS, keep_bytes=MAX_RECORD_BYTES)
        if (report := intake.read_ours(record, RuleReport)) is not None
    ]
    restored = max(reports, key=lambda report: report.until_ms, default=None)
    policy = RulePolicy(maturity_ms=s.label_delay_days * DAY_MS)
    rules = RulePerformance(s.model_name, policy, restored)
    for partition, end in ends.items():
        rules.limit_offset(partition.topic == s.decisions_topic, partition.partition, end)
    return rules


def show_rules(metrics: MonitorMetrics, report: RuleReport) -> None:
    """Set the metrics of all rules in force; at most `schemas.rules.MAX_RULES` have some."""
    gauges = metrics.rule_matches, metrics.rule_precision, metrics.rule_last_match, metrics.rule_problems
    for gauge in gauges:
        gauge.clear()
    for counts in report.rules:
        if counts.kind != "rule" or not counts.in_force:
            continue
        version = str(counts.version)
        metrics.rule_matches.labels(counts.name, version, counts.mode).set(counts.matches)
        if counts.last_match_ms is not None:
            metrics.rule_last_match.labels(counts.name, version, counts.mode).set(counts.last_match_ms / 1000)
        if (precision := counts.precision) is not None:
            for bound in ("low", "value", "high"):
                labels = counts.name, version, counts.mode, bound
                metrics.rule_precision.labels(*labels).set(getattr(precision, bound))
        if counts.problem is not None:
            metrics.rule_problems.labels(counts.name, version, counts.problem).set(1)
