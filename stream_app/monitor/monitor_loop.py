"""The monitor of `tamiz monitor`: evaluates drift on the panes that all workers counted.

    drift-panes ─────────▶ DriftMonitor of each model version ─▶ drift-alerts, retrain-requests, drift-reports
    decisions, labels ─┬─▶ AlertContext ───┘                          │
    rules ─────────────┴─▶ RulePerformance ────▶ drift-alerts, rule-statistics
    transactions ────────▶ AlertExamples, when an alert is new ───────┘

The monitor keeps no state on disk. At its start it reads the panes of the longest window and publishes nothing up to
the last published report. Alerts and requests are published before the report of the same evaluation; after a crash
between the two, they are published again with the same ids. Statistics of rules continue from the last published ones.

One monitor is enough; a second one would publish everything twice.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from kafka import KafkaProducer

from monitoring.alerting.retrain_policy import RetrainPolicy
from monitoring.counting.monitored_model import MonitoredModel
from monitoring.drift.context import AlertContext
from monitoring.drift.drift_monitor import DriftEvaluation, DriftMonitor, DriftMonitorPolicy
from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from schemas.records import PaneSnapshot
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.topics import MAX_RECORD_BYTES
from stream_app.kafka.kafka_clients import client_config, require_broker
from stream_app.kafka.topic_reader import ConsumedRecord
from stream_app.monitor.alert_examples import AlertExamples, OffsetsOf
from stream_app.monitor.input_progress import InputProgress
from stream_app.monitor.monitor_input import MonitorInput
from stream_app.monitor.monitor_intake import KnownVersions, MonitorIntake, TransactionEnds
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.monitor.monitor_server import MonitorReadiness
from stream_app.monitor.outbox import Outbox
from stream_app.monitor.rule_monitor import show_rules
from stream_app.monitor.version_bundles import VersionBundles
from stream_app.worker.champion_cache import ChampionCache

log = logging.getLogger("tamiz.monitor")
CHECK_INTERVAL_S = 5.0  # between two checks of the input's ends
CAUGHT_UP_TIMEOUT_MS = 300_000  # wall clock; after it the watermark does not wait for a partition with nothing to count
MAX_VERSIONS = 2  # monitored at once, since two are served during a promotion


class Monitor:
    """Consumes panes and publishes evaluations, with one `DriftMonitor` for each model version."""

    def __init__(self, settings: Settings, store: ChampionCache, metrics: MonitorMetrics | None = None) -> None:
        """store: after `open`, so that there is a champion."""
        self._settings = settings
        self._store = store
        self._metrics = metrics or MonitorMetrics()
        self._ready = False  # the history is replayed
        self._progress_at_s = time.monotonic()  # when the last poll, snapshot or publication was started
        self._policy = DriftMonitorPolicy(
            max_ahead_ms=settings.max_event_time_ahead_minutes * MINUTE_MS + HOUR_MS,  # and what clocks differ by
            retraining=RetrainPolicy(
                days=settings.retrain_lookback_days, sustained_ms=settings.retrain_sustained_hours * HOUR_MS
            ),
        )
        self._context = self._new_context()
        self._bundles = VersionBundles(store.folder)
        self._monitors: dict[int, DriftMonitor] = {}  # by version; the one with the newest snapshot is last
        self._reported_until_ms: dict[int, int] = {}  # by version: event time of the last published report
        self._input_progress = InputProgress()
        self._published_ms: dict[int, int] = {}  # by partition: timestamp of its last snapshot
        self._idle_checked_at_s = -CHECK_INTERVAL_S
        self._examples = AlertExamples(settings, self._load_model, self._metrics.alerts_without_examples.inc)
        self._outbox = Outbox(
            partial(_producer, settings),
            last_topics=(settings.drift_reports_topic, settings.rule_statistics_topic),
            on_refused=lambda topic: self._metrics.publish_failures.labels(topic).inc(),
            on_waiting=self._metrics.unpublished.set,
        )

    def alive(self) -> bool:
        """Whether the monitor makes progress. Thread-safe."""
        return time.monotonic() - self._progress_at_s < self._settings.stall_timeout_seconds

    def readiness(self) -> MonitorReadiness:
        """Whether the history is replayed and the monitor makes progress. Thread-safe."""
        waiting = [] if self._ready else ["the history to be read"]
        waiting += [] if self.alive() else ["progress"]
        versions = tuple(sorted(dict(self._monitors)))
        return MonitorReadiness(
            ready=not waiting, waiting_for=tuple(waiting), model=self._settings.model_name, model_versions=versions
        )

    def run(self, stop: threading.Event, on_ready: Callable[[], None] = lambda: None) -> None:
        """Monitor until `stop` is set. on_ready: called when the history is replayed.

        Raises ModelIncompatibleError if the champion has no baseline, BrokerError if the broker does not respond.
        """
        s = self._settings
        self._bundles.load(self._store.current.version)  # fails now, not at the first pane
        with require_broker(s.bootstrap):
            ends = TransactionEnds(s)
            versions = KnownVersions(self._store.versions, self._store.cached_versions)
            self._intake = MonitorIntake(s, self._metrics, versions, self._bundles, ends)
            self._input = MonitorInput(s, self._intake, self._mark_progress)
        try:
            while not stop.is_set():
                self._outbox.clear()
                self._reported_until_ms = self._intake.reported_until()
                self._rules = self._input.assign(self._context)
                self._replay(stop, ends)
                self._ready = True
                show_rules(self._metrics, self._rules.report())
                self._publish_rules(max(self._reported_until_ms.values(), default=0))
                on_ready()
                while not (stop.is_set() or self._input.has_more_partitions()):
                    for record, snapshot in self._input.poll():
                        self._apply(record, snapshot)
                    if time.monotonic() - self._idle_checked_at_s >= CHECK_INTERVAL_S:
                        self._update_idle(ends, self._all_partitions(), CAUGHT_UP_TIMEOUT_MS)
                    self._outbox.flush()
                if not stop.is_set():
                    log.info("partitions were added; reading the history again, with them")
                    self._ready = False  # metrics must not count the same records twice
                    self._monitors.clear()
                    self._context = self._new_context()
        finally:
            self._input.close()
            self._outbox.close()
            ends.close()

    def _replay(self, stop: threading.Event, ends: TransactionEnds) -> None:
        checked = (-1, self._input.replayed)
        for record, snapshot in self._input.replay(stop):
            if checked != (now := (len(self._monitors), self._input.replayed)):
                checked = now
                self._update_idle(ends, self._quiet(self._input.replayed), idle_after_ms=0)
            self._apply(record, snapshot)
        self._update_idle(ends, self._quiet(self._all_partitions()), idle_after_ms=0)
        self._outbox.flush()

    def _apply(self, record: ConsumedRecord, snapshot: PaneSnapshot) -> None:
        """Apply a snapshot to the monitor of its version."""
        self._mark_progress()
        monitor = self._monitor_of(record, snapshot)
        if monitor is None:
            return
        self._input_progress.count(snapshot.partition, snapshot.last_offset)
        published_ms = self._published_ms[snapshot.partition] = min(record.timestamp, int(time.time() * 1000))
        self._evaluate(monitor, lambda: monitor.update(snapshot, self._context, published_ms), record)

    def _update_idle(self, ends: TransactionEnds, read: frozenset[int], idle_after_ms: int) -> None:
        """Update which partitions have nothing left to count. read: those whose panes are read to the end."""
        self._idle_checked_at_s = time.monotonic()
        wall_ms = int(time.time() * 1000)
        caught_up = read & self._input_progress.caught_up(self._input.partitions, ends.refresh(), wall_ms)
        for monitor in [*self._monitors.values()]:
            step = partial(
                monitor.update_idle, self._context, wall_ms=wall_ms, caught_up=caught_up, idle_after_ms=idle_after_ms
            )
            self._evaluate(monitor, step, None)
        if self._monitors:
            watermark = self._monitors[next(reversed(self._monitors))].watermark
            self._metrics.skew.set(watermark.skew_ms / 1000)
            self._metrics.skewed.set(len(watermark.skewed_partitions))

    def _all_partitions(self) -> frozenset[int]:
        return frozenset(range(self._input.partitions))

    def _quiet(self, partitions: Iterable[int]) -> frozenset[int]:
        """Partitions without a new snapshot for `CAUGHT_UP_TIMEOUT_MS`."""
        before = int(time.time() * 1000) - CAUGHT_UP_TIMEOUT_MS
        return frozenset(p for p in partitions if self._published_ms.get(p, 0) <= before)

    def _evaluate(
        self, monitor: DriftMonitor, step: Callable[[], Iterator[DriftEvaluation]], record: ConsumedRecord | None
    ) -> None:
        late, lost, incomplete = monitor.late, monitor.lost, monitor.incomplete
        # One by one: a snapshot can close days of minutes, and the later ones make the monitor forget older offsets.
        for evaluation in self._evaluations(step, record):
            self._publish(evaluation, monitor.counted_offsets)
        if self._ready:
            self._metrics.late_transactions.inc(max(0, monitor.late - late))
            self._metrics.lost.inc(max(0, monitor.lost - lost))
            self._metrics.incomplete.inc(monitor.incomplete - incomplete)

    def _evaluations(
        self, step: Callable[[], Iterator[DriftEvaluation]], record: ConsumedRecord | None
    ) -> Iterator[DriftEvaluation]:
        try:
            yield from step()
        except Exception as error:  # a damaged snapshot, or a bug
            if record is None:
                log.exception("internal error while evaluating %s", self._settings.model_name)
            else:
                self._intake.records.skip(record, str(error) or repr(error))

    def _monitor_of(self, record: ConsumedRecord, snapshot: PaneSnapshot) -> DriftMonitor | None:
        """The monitor of a snapshot's version, started if there is none; None if the version cannot be monitored.

        A snapshot with other bins starts none: at most `MAX_VERSIONS` are monitored, and it would end another one.
        """
        version = snapshot.model_version
        bundle = self._bundles.get(version)
        if bundle is None or bundle.reference.bins.digest != snapshot.layout:
            why = f"version {version} cannot be monitored" if bundle is None else f"layout is not version {version}'s"
            self._intake.records.skip(record, why)
            return None
        if version in self._monitors:
            self._monitors[version] = monitor = self._monitors.pop(version)
            return monitor
        s = self._settings
        self._monitors[version] = DriftMonitor(
            bundle.reference,
            model=s.model_name,
            model_version=version,
            partitions=self._input.partitions,
            lateness_ms=s.allowed_lateness_minutes * MINUTE_MS,
            idle_timeout_ms=s.idle_partition_timeout_minutes * MINUTE_MS,
            policy=self._policy,
        )
        log.info("monitoring %s version %d", s.model_name, version)
        while len(self._monitors) > MAX_VERSIONS:
            ended = self._monitors.pop(next(iter(self._monitors)))
            for alert in ended.close():
                if alert.happened_at_ms >= self._reported_until_ms.get(alert.model_version, 0):
                    self._outbox.add(s.drift_alerts_topic, alert.incident_id, alert)
        return self._monitors[version]

    def _publish(self, evaluation: DriftEvaluation, offsets_of: OffsetsOf) -> None:
        s, report, request = self._settings, evaluation.report, evaluation.request
        self._metrics.evaluated_until.set(report.until_ms / 1000)
        if self._ready:
            self._metrics.evaluations.inc()
        if report.until_ms <= self._reported_until_ms.get(report.model_version, 0):
            return
        self._reported_until_ms[report.model_version] = report.until_ms
        for alert in self._examples.add_to(evaluation.alerts, offsets_of):
            self._outbox.add(s.drift_alerts_topic, alert.incident_id, alert)
            log.warning("%s, %s: %s", alert.change, alert.severity, alert.summary)
        if request is not None:
            self._outbox.add(s.retrain_requests_topic, request.model, request)
            log.warning("retraining requested (%s): %s", request.correlation_id, request.reason)
        self._outbox.add(s.drift_reports_topic, report.model, report)
        if self._ready:
            self._publish_rules(report.until_ms)
        if evaluation.alerts or request is not None:
            self._mark_progress()
            self._outbox.flush()

    def _publish_rules(self, until_ms: int) -> None:
        s = self._settings
        try:
            evaluation = self._rules.evaluate(until_ms)
        except Exception:  # a bug must not stop the monitor
            log.exception("internal error while evaluating rules")
            return
        if evaluation is None:
            return
        show_rules(self._metrics, evaluation.report)
        for alert in evaluation.alerts:
            self._outbox.add(s.drift_alerts_topic, alert.incident_id, alert)
            log.warning("%s, %s: %s", alert.change, alert.severity, alert.summary)
        self._outbox.add(s.rule_statistics_topic, s.model_name, evaluation.report)
        self._outbox.flush()

    def _load_model(self, version: int) -> MonitoredModel:
        bundle = self._bundles.get(version)
        if bundle is None:
            raise ModelUnavailableError(f"version {version} is not monitored")
        return self._store.load(bundle.folder, version)

    def _new_context(self) -> AlertContext:
        return AlertContext(maturity_ms=self._settings.label_delay_days * DAY_MS)

    def _mark_progress(self) -> None:
        self._progress_at_s = time.monotonic()


def _producer(settings: Settings) -> Any:
    return KafkaProducer(
        **client_config(settings.bootstrap),
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_RECORD_BYTES,
        # Both halves of an outbox attempt must end before the monitor counts as stalled.
        bootstrap_timeout_ms=10_000,
        max_block_ms=10_000,
        request_timeout_ms=10_000,
        delivery_timeout_ms=20_000,
    )
