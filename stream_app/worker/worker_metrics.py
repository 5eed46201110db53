"""What a worker counts, by Prometheus' conventions: seconds, `_total`, labels from small closed sets."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from scoring.decision import OUTCOMES
from stream_app.offsets.offset_validation import FAULTS
from stream_app.web.web_auth import wrong_tokens

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


class WorkerMetrics:
    """One worker's metrics, in a registry of their own: made, not imported."""

    def __init__(self) -> None:
        # A time stamp beside every series says nothing that the scraper does not know.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        r = self.registry
        ProcessCollector(registry=r)  # CPU seconds, resident memory, open files
        self.decisions = Counter("tamiz_decisions", "Decisions made", ["outcome"], registry=r)
        self.dead_letters = Counter("tamiz_dead_letters", "Payloads that could not be scored", ["code"], registry=r)
        self.unlettered = Counter(
            "tamiz_unlettered_records",
            "Records of unreadable batches that have no dead letter of their own: one letter speaks for the rest",
            registry=r,
        )
        self.cuts = Counter(
            "tamiz_cut_parts",
            "Parts of records too large to be forwarded whole: value, key, headers of a dead letter, trace headers",
            ["part"],
            registry=r,
        )
        self.id_conflicts = Counter(
            "tamiz_id_conflicts", "Decisions under the id of an earlier one, of another payload", registry=r
        )
        self.batch_records = Histogram("tamiz_batch_records", "Transactions handled at once", buckets=SIZES, registry=r)
        self.handling = Histogram("tamiz_handling_seconds", "Clean, score, decide", buckets=SECONDS, registry=r)
        self.producing = Histogram("tamiz_producing_seconds", "Outputs acknowledged", buckets=SECONDS, registry=r)
        self.latency = Histogram(
            "tamiz_decision_latency_seconds",
            "From the transaction's Kafka timestamp to its decision's acknowledgement, the oldest of each batch",
            buckets=SECONDS,
            registry=r,
        )
        self.model_version = Gauge("tamiz_model_version", "Version of the model that decides", registry=r)
        self.model_forced = Gauge("tamiz_model_forced", "1 when it serves without having proved skill", registry=r)
        self.champion_unrecorded = Gauge(
            "tamiz_champion_unrecorded", "1 when it serves without a promotion in the registry's history", registry=r
        )
        self.registry_disagrees = Gauge(
            "tamiz_registry_disagrees",
            "1 when the registry's alias `champion` is not what its history of promotions says",
            registry=r,
        )
        self.bundles_refused = Counter(
            "tamiz_bundles_refused", "Bundles refused: damaged, exchanged, implausible or crashing", registry=r
        )
        self.model_swaps = Counter("tamiz_model_swaps", "Champions taken over while running", registry=r)
        self.registry_failures = Counter("tamiz_registry_failures", "Times the registry gave no champion", registry=r)
        self.passed_over = Counter(
            "tamiz_passed_over", "Records of control topics that the worker could not use", ["topic"], registry=r
        )
        self.late = Counter(
            "tamiz_drift_late_transactions", "Transactions whose minute was closed in their partition", registry=r
        )
        self.held_ahead = Gauge(
            "tamiz_drift_held_transactions", "Transactions dated far ahead of their partition's watermark", registry=r
        )
        self.dropped_ahead = Counter(
            "tamiz_drift_dropped_transactions",
            "Held transactions that are not counted: there were too many",
            registry=r,
        )
        self.watermark_resets = Counter(
            "tamiz_drift_watermark_resets", "Watermarks that fell back, after wrong dates had moved them", registry=r
        )
        self.cursors_refused = Counter(
            "tamiz_drift_cursors_refused", "Cursors of drift-panes that do not fit their log", ["reason"], registry=r
        )
        self.partitions = Gauge("tamiz_partitions_assigned", "Input partitions this worker reads", registry=r)
        self.wrong_tokens = wrong_tokens(r)
        self.partitions_held = Gauge(
            "tamiz_partitions_held", "Input partitions that are not read until a person acts", registry=r
        )
        self.offset_faults = Counter(
            "tamiz_offset_faults", "Offsets that did not fit the log of their partition", ["fault"], registry=r
        )
        self.transactions_skipped = Counter(
            "tamiz_transactions_skipped",
            "Records that will not be decided, at most, because the offset did not fit the log",
            ["fault"],
            registry=r,
        )
        self.open_transactions = Gauge(
            "tamiz_records_behind_open_transactions",
            "Records that cannot be read before a transaction ends",
            registry=r,
        )
        self.watchdog_failures = Counter(
            "tamiz_watchdog_failures", "Times the watchdog could not look, by a fault of its own", registry=r
        )
        self._lag = Gauge("tamiz_lag_records", "Transactions not decided yet", ["partition"], registry=r)
        self._lagging: frozenset[int] = frozenset()
        for outcome in OUTCOMES:  # a series that exists from the start can be alerted upon
            self.decisions.labels(outcome)
        for part in ("value", "key", "headers", "trace"):
            self.cuts.labels(part)
        for fault in FAULTS:
            self.offset_faults.labels(fault)
            self.transactions_skipped.labels(fault)

    def show_lag(self, lags: Mapping[int, int]) -> None:
        """lags: of the partitions that are read now; what another worker reads is its own to show."""
        for partition in self._lagging - lags.keys():
            self._lag.remove(str(partition))
        for partition, lag in lags.items():
            self._lag.labels(str(partition)).set(lag)
        self._lagging = frozenset(lags)
