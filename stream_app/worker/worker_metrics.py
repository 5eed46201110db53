"""Prometheus metrics of a worker. Times are in seconds; labels come from small closed sets."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from scoring.decision import OUTCOMES
from stream_app.lifecycle.log_rate_limit import export_suppressed_records
from stream_app.offsets.offset_validation import FAULTS
from stream_app.rules.activation_metrics import ActivationMetrics
from stream_app.rules.rule_metrics import RuleMetrics
from stream_app.web.web_auth import authentication_failures

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PROFILE_CASES = ("late", "late_for_tiles", "repeated", "saturated", "merged")
RESTORE_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1_800, 3_600)
SIZES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


class WorkerMetrics:
    """The metrics of one worker, in a registry of their own, so that tests can create several in one process."""

    def __init__(self) -> None:
        # `_created` series double the page's size, and the scraper knows the start time already.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        r = self.registry
        ProcessCollector(registry=r)  # CPU seconds, resident memory, open files
        self.decisions = Counter("tamiz_decisions", "Decisions published, by outcome", ["outcome"], registry=r)
        self.dead_letters = Counter(
            "tamiz_dead_letters", "Dead letters published, by rejection code", ["code"], registry=r
        )
        self.records_without_dead_letter = Counter(
            "tamiz_records_without_dead_letter",
            "Records of unreadable batches without a dead letter of their own: one dead letter covers the batch",
            registry=r,
        )
        self.truncated_parts = Counter(
            "tamiz_truncated_parts",
            "Parts truncated because the record was too large to forward: value, key, headers, trace headers",
            ["part"],
            registry=r,
        )
        self.id_conflicts = Counter(
            "tamiz_id_conflicts",
            "Transactions with the id of an earlier transaction and a different payload",
            registry=r,
        )
        self.batch_records = Histogram("tamiz_batch_records", "Transactions per batch", buckets=SIZES, registry=r)
        self.batch_scoring = Histogram(
            "tamiz_batch_scoring_seconds", "Time to clean, score and decide one batch", buckets=SECONDS, registry=r
        )
        self.batch_publishing = Histogram(
            "tamiz_batch_publishing_seconds",
            "Time until the broker acknowledges the output of one batch",
            buckets=SECONDS,
            registry=r,
        )
        self.latency = Histogram(
            "tamiz_decision_latency_seconds",
            "Time from a transaction's Kafka timestamp to the acknowledgement of its decision; oldest of each batch",
            buckets=SECONDS,
            registry=r,
        )
        self.model_version = Gauge("tamiz_model_version", "Model version that the worker serves", registry=r)
        self.model_forced = Gauge(
            "tamiz_model_forced",
            "1 if the served version was promoted by force, without passing the skill gate",
            registry=r,
        )
        self.champion_unrecorded = Gauge(
            "tamiz_champion_unrecorded",
            "1 if the registry's promotion history does not contain the served version",
            registry=r,
        )
        self.registry_alias_mismatch = Gauge(
            "tamiz_registry_alias_mismatch",
            "1 if the registry's alias `champion` differs from its promotion history",
            registry=r,
        )
        self.bundles_rejected = Counter(
            "tamiz_bundles_rejected", "Model bundles rejected: damaged, replaced, implausible or crashing", registry=r
        )
        self.model_swaps = Counter(
            "tamiz_model_swaps", "Switches to another model version without a restart", registry=r
        )
        self.registry_failures = Counter(
            "tamiz_registry_failures", "Failed attempts to read the champion from the registry", registry=r
        )
        self.records_skipped = Counter(
            "tamiz_control_records_skipped", "Invalid records skipped on control topics", ["topic"], registry=r
        )
        self.late_transactions = Counter(
            "tamiz_drift_late_transactions",
            "Transactions that arrived after their pane had closed; not counted for drift",
            registry=r,
        )
        self.buffered_transactions = Gauge(
            "tamiz_drift_buffered_transactions",
            "Transactions buffered because their event time is far ahead of the watermark",
            registry=r,
        )
        self.dropped_transactions = Counter(
            "tamiz_drift_dropped_transactions",
            "Transactions not counted for drift because the buffer of early ones was full",
            registry=r,
        )
        self.watermark_resets = Counter(
            "tamiz_drift_watermark_resets", "Watermarks set back after wrong event times had advanced them", registry=r
        )
        self.cursors_rejected = Counter(
            "tamiz_drift_cursors_rejected",
            "Pane cursors rejected because they do not fit the log",
            ["reason"],
            registry=r,
        )
        self.profile_keys = Gauge(
            "tamiz_profile_keys", "Keys (cards) that the profiles of this worker's partitions remember", registry=r
        )
        self.profile_entities = Gauge(
            "tamiz_profile_entities",
            "Other entities (merchants, devices) that the profiles of all partitions remember",
            registry=r,
        )
        self.profile_labels_unmatched = Counter(
            "tamiz_profile_labels_unmatched",
            "Labels that do not count in profiles, because they name no event time or no entity",
            registry=r,
        )
        self.profile_bytes = Gauge("tamiz_profile_bytes", "Memory of these profiles", registry=r)
        self.profile_partitions_restoring = Gauge(
            "tamiz_profile_partitions_restoring",
            "Input partitions that are not read yet because their profiles are being restored",
            registry=r,
        )
        self.profile_restore = Histogram(
            "tamiz_profile_restore_seconds",
            "Time to restore the profiles of one partition",
            buckets=RESTORE_SECONDS,
            registry=r,
        )
        self.profile_replayed_records = Counter(
            "tamiz_profile_replayed_records", "Records read again to restore profiles", registry=r
        )
        self.profile_snapshot_age = Gauge(
            "tamiz_profile_snapshot_age_seconds",
            "Time since the profiles of a partition were saved or restored; oldest partition with changes",
            registry=r,
        )
        self.profile_snapshots = Counter(
            "tamiz_profile_snapshots", "Snapshots of profiles: saved, failed, refused", ["result"], registry=r
        )
        self.profile_capture = Histogram(
            "tamiz_profile_capture_seconds",
            "Time that decisions wait while the profiles of a partition are copied for a snapshot",
            buckets=SECONDS,
            registry=r,
        )
        self.profile_events = Counter(
            "tamiz_profile_transactions",
            "Transactions that count in profiles with a limit: late, late_for_tiles (not counted at all), repeated "
            "(counted once), saturated (a number too large for exact sums), merged (counted by tile)",
            ["case"],
            registry=r,
        )
        self.profile_incomplete = Counter(
            "tamiz_profile_incomplete_transactions",
            "Decisions whose profile features lack tiles of a partition that is behind",
            registry=r,
        )
        self.partitions = Gauge("tamiz_partitions_assigned", "Input partitions assigned to this worker", registry=r)
        self.authentication_failures = authentication_failures(r)
        export_suppressed_records(r)
        self.partitions_paused = Gauge(
            "tamiz_partitions_paused", "Input partitions paused by an offset fault until an operator acts", registry=r
        )
        self.offset_faults = Counter(
            "tamiz_offset_faults",
            "Committed offsets that did not fit the log of their partition",
            ["fault"],
            registry=r,
        )
        self.transactions_skipped = Counter(
            "tamiz_transactions_skipped",
            "Upper bound of transactions that are not decided because of an offset fault",
            ["fault"],
            registry=r,
        )
        self.records_behind_open_kafka_transactions = Gauge(
            "tamiz_records_behind_open_kafka_transactions",
            "Records that cannot be read until an open Kafka transaction ends",
            registry=r,
        )
        self.rules = RuleMetrics(r)
        self.activations = ActivationMetrics(r, self.records_skipped)
        self.watchdog_failures = Counter("tamiz_watchdog_failures", "Internal errors of the watchdog", registry=r)
        self._lag = Gauge(
            "tamiz_lag_records", "Transactions not yet decided, by input partition", ["partition"], registry=r
        )
        self._lagging: frozenset[int] = frozenset()
        for outcome in OUTCOMES:  # series must exist from the start, or `increase()` misses their first event
            self.decisions.labels(outcome)
        for part in ("value", "key", "headers", "trace"):
            self.truncated_parts.labels(part)
        for result in ("saved", "failed", "refused"):
            self.profile_snapshots.labels(result)
        for case in PROFILE_CASES:
            self.profile_events.labels(case)
        for fault in FAULTS:
            self.offset_faults.labels(fault)
            self.transactions_skipped.labels(fault)

    def set_lag(self, lags: Mapping[int, int]) -> None:
        """Set the lag of each assigned partition and drop the series of partitions no longer assigned.

        lags: partition number -> transactions not yet decided.
        """
        for partition in self._lagging - lags.keys():
            self._lag.remove(str(partition))
        for partition, lag in lags.items():
            self._lag.labels(str(partition)).set(lag)
        self._lagging = frozenset(lags)
