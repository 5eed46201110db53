"""Prometheus metrics of the monitor."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics

from stream_app.lifecycle.log_rate_limit import export_suppressed_records
from stream_app.web.web_auth import authentication_failures


class MonitorMetrics:
    """The metrics of the monitor. Counters start once the history is replayed, so a restart counts nothing twice."""

    def __init__(self) -> None:
        # `_created` series double the page's size, and the scraper knows the start time already.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = r = CollectorRegistry()
        ProcessCollector(registry=r)  # CPU seconds, resident memory, open files
        self.records_skipped = Counter(
            "tamiz_monitor_records_skipped", "Invalid records skipped by the monitor", ["topic"], registry=r
        )
        self.publish_failures = Counter(
            "tamiz_monitor_publish_failures",
            "Failed attempts to publish an alert, a request or a report; each is retried",
            ["topic"],
            registry=r,
        )
        self.alerts_without_examples = Counter(
            "tamiz_monitor_alerts_without_examples",
            "New alerts of a feature that are published without examples: transactions could not be read in time, or "
            "none of those read is in the bin",
            registry=r,
        )
        self.unpublished = Gauge(
            "tamiz_monitor_unpublished_records", "Alerts, requests and reports waiting to be published", registry=r
        )
        self.authentication_failures = authentication_failures(r)
        export_suppressed_records(r)
        self.evaluations = Counter("tamiz_drift_evaluations", "Drift evaluations", registry=r)
        self.evaluated_until = Gauge(
            "tamiz_drift_evaluated_until_seconds", "Event time of the last evaluation", registry=r
        )
        self.late_transactions = Counter(
            "tamiz_drift_late_rows", "Transactions that workers saw after their pane had closed", registry=r
        )
        self.lost = Counter(
            "tamiz_drift_lost_rows",
            "Transactions whose panes arrived too late for the windows, or are dated in the future",
            registry=r,
        )
        self.incomplete = Counter(
            "tamiz_drift_incomplete_minutes",
            "Minutes not evaluated because they closed before every contributing partition had reported",
            registry=r,
        )
        self.rule_matches = Gauge(
            "tamiz_rule_live_matches",
            "Transactions that a rule in force matched, as counted by the monitor",
            ["rule", "version", "mode"],
            registry=r,
        )
        self.rule_precision = Gauge(
            "tamiz_rule_live_precision",
            "Share of frauds among the labelled matches of a rule in force, with the bounds of its 95 % interval",
            ["rule", "version", "mode", "bound"],
            registry=r,
        )
        self.rule_last_match = Gauge(
            "tamiz_rule_live_last_match_seconds",
            "Event time of the last match of a rule in force",
            ["rule", "version", "mode"],
            registry=r,
        )
        self.rule_problems = Gauge(
            "tamiz_rule_live_problems",
            "Rules in force whose precision fell, or that match nothing for 30 days",
            ["rule", "version", "problem"],
            registry=r,
        )
        self.skew = Gauge(
            "tamiz_drift_skew_seconds", "Event time between the slowest and the fastest active partition", registry=r
        )
        self.skewed = Gauge(
            "tamiz_drift_skewed_partitions",
            "Partitions further from the others in event time than idle_partition_timeout_minutes, or in the future",
            registry=r,
        )
