"""What the monitor counts, by Prometheus' conventions; scraped beside the workers' metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics

from stream_app.web.web_auth import wrong_tokens


class MonitorMetrics:
    """The monitor's metrics. Counters start when the history is read, so that a restart counts nothing twice."""

    def __init__(self) -> None:
        # A time stamp for every series says nothing that the scraper does not know.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = r = CollectorRegistry()
        ProcessCollector(registry=r)  # CPU seconds, resident memory, open files
        self.passed_over = Counter(
            "tamiz_monitor_passed_over", "Records that the monitor could not use", ["topic"], registry=r
        )
        self.refused = Counter(
            "tamiz_monitor_refused_records",
            "Failed attempts to publish an alert, a request or a report; each is tried again",
            ["topic"],
            registry=r,
        )
        self.unpublished = Gauge(
            "tamiz_monitor_unpublished_records", "Alerts, requests and reports that wait to be published", registry=r
        )
        self.wrong_tokens = wrong_tokens(r)
        self.evaluations = Counter("tamiz_drift_evaluations", "Evaluations of drift", registry=r)
        self.evaluated_until = Gauge(
            "tamiz_drift_evaluated_until_seconds", "Event time of the last evaluation", registry=r
        )
        self.late = Counter("tamiz_drift_late_rows", "Transactions that came after their minute had closed", registry=r)
        self.lost = Counter(
            "tamiz_drift_lost_rows",
            "Transactions whose counts came too late for the windows, or are dated in the future",
            registry=r,
        )
        self.incomplete = Counter(
            "tamiz_drift_incomplete_minutes",
            "Minutes that closed before every partition that contributes had; they are not judged",
            registry=r,
        )
        self.skew = Gauge(
            "tamiz_drift_skew_seconds", "Event time between the first and the last partition that moves", registry=r
        )
        self.skewed = Gauge(
            "tamiz_drift_skewed_partitions",
            "Partitions further from the others than idle_partition_timeout_minutes, or dated in the future",
            registry=r,
        )
