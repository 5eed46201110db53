"""`tamiz monitor`: the one evaluator of what all workers counted.

    drift-panes ──────▶ Watch, one a model version ──▶ drift-alerts, retrain-requests, drift-reports
    decisions, labels ──▶ what is known besides ─┘

It holds nothing that cannot be read again: at its start it reads the panes of the longest window in step, and says
nothing up to the last report that was published. Alerts and requests go out before the report of the same evaluation;
after a crash between the two they are said again under the same ids.

One is enough; a second would only repeat it.
"""

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from kafka import KafkaProducer, TopicPartition

from monitoring.alerting.retrain_policy import RetrainPolicy
from monitoring.drift.context import AlertContext
from monitoring.drift.drift_monitor import DriftEvaluation, DriftMonitor, DriftMonitorPolicy
from monitoring.drift.reference import load_reference
from monitoring.performance.rolling_metrics import PerformancePolicy
from schemas.configuration.settings import Settings
from schemas.errors import ModelIncompatibleError, ModelUnavailableError
from schemas.records import PaneSnapshot
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.topics import MAX_RECORD_BYTES
from stream_app.kafka.kafka_clients import METADATA_MAX_AGE_MS, client_config, reader, require_broker
from stream_app.kafka.topic_reader import ConsumedRecord, has_more_partitions
from stream_app.monitor.input_progress import InputProgress
from stream_app.monitor.monitor_intake import KnownVersions, MonitorIntake, TransactionEnds, newest
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.monitor.monitor_server import MonitorReadiness
from stream_app.monitor.outbox import Outbox
from stream_app.worker.champion_cache import ChampionCache

log = logging.getLogger("tamiz.monitor")
MAX_WINDOW_MS = 8 * DAY_MS  # the longest window, plus a day for late panes
MAX_BUFFERED_RECORDS = 500  # snapshots of one partition that are read ahead of the others
# A poll must return everything that is fetched: kafka-python 3.0 loses the rest of a partly returned fetch when its
# partition is paused and resumed.
MAX_POLL_RECORDS = 1_000_000
MAX_KEY_BYTES = 256  # of a card; a longer one is stored as its digest
CHECK_INTERVAL_S = 5.0  # between two checks of the input's ends
CAUGHT_UP_TIMEOUT_MS = 300_000  # wall clock; after it the watermark does not wait for a partition with nothing to count
RETRY_DELAY_S = 60.0  # after a failed download of a bundle
# At the start, no more is read than a running monitor remembers: 200,000 decisions, and labels without decision. The
# decision of an older label is not known, before and after a restart.
DECISIONS_AT_START = PerformancePolicy().remembered
LABELS_AT_START = DECISIONS_AT_START + PerformancePolicy().early
MAX_VERSIONS = 2  # monitored at once, since two are served during a promotion


class Monitor:
    """Topics in, topics out, around one `Watch` a model version."""

    def __init__(self, settings: Settings, store: ChampionCache, metrics: MonitorMetrics | None = None) -> None:
        """store: after `open`, so that there is a champion."""
        self._settings = settings
        self._store = store
        self._metrics = metrics or MonitorMetrics()
        self._ready = False  # the history is replayed
        self._moved_at = time.monotonic()  # when the last poll or snapshot was started
        self._policy = DriftMonitorPolicy(
            max_ahead_ms=settings.max_event_time_ahead_minutes * MINUTE_MS + HOUR_MS,  # and what clocks differ by
            retraining=RetrainPolicy(
                days=settings.retrain_lookback_days, sustained_ms=settings.retrain_sustained_hours * HOUR_MS
            ),
        )
        self._around = AlertContext(maturity_ms=settings.label_delay_days * DAY_MS)
        self._watches: dict[int, DriftMonitor] = {}  # by version, the last heard of last
        self._layouts: dict[int, str] = {}  # by version: digest of the bins that it counts
        self._unwatchable: dict[int, float] = {}  # by version: when to try again, on the monotonic clock
        self._told_until: dict[int, int] = {}  # by version: event time of the last report published
        self._partitions = 0
        self._progress = InputProgress()
        self._published_ms: dict[int, int] = {}  # by partition: when its last snapshot was written
        self._exhausted: frozenset[int] = frozenset()  # partitions of panes that are read to the end, at the start
        self._looked_at = -CHECK_INTERVAL_S
        self._outbox = Outbox(
            partial(_producer, settings),
            last_topic=settings.drift_reports_topic,
            on_refused=lambda topic: self._metrics.publish_failures.labels(topic).inc(),
            on_waiting=self._metrics.unpublished.set,
        )

    def alive(self) -> bool:
        """Whether the monitor makes progress. Thread-safe."""
        return time.monotonic() - self._moved_at < self._settings.stall_timeout_seconds

    def readiness(self) -> MonitorReadiness:
        """Whether the history is replayed and the monitor makes progress. Thread-safe."""
        waiting = [] if self._ready else ["the history to be read"]
        waiting += [] if self.alive() else ["progress"]
        versions = tuple(sorted(dict(self._watches)))
        return MonitorReadiness(
            ready=not waiting, waiting_for=tuple(waiting), model=self._settings.model_name, model_versions=versions
        )

    def run(self, over: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Watch until `over` is set; `ready` is called when everything that was there is read.

        Raises ModelIncompatibleError when the champion carries no baseline, BrokerError if no broker responds.
        """
        s = self._settings
        load_reference(self._store.folder(self._store.current.version))  # fail now, not at the first pane
        with require_broker(s.bootstrap):
            consumer = reader(
                s.bootstrap,
                fetch_max_wait_ms=100,
                max_partition_fetch_bytes=8 * 1024 * 1024,
                max_poll_records=MAX_POLL_RECORDS,
                keep_bytes=MAX_RECORD_BYTES,
                metadata_max_age_ms=METADATA_MAX_AGE_MS,
            )
            ends = TransactionEnds(s)
        self._intake = MonitorIntake(
            s, self._metrics, KnownVersions(self._store.versions, self._store.kept_versions), ends
        )
        try:
            while not over.is_set():
                self._outbox.clear()
                self._told_until = self._intake.reported_until()
                self._assign(consumer)
                looked = (-1, self._exhausted)
                for read in self._in_step(consumer, over):
                    if looked != (now := (len(self._watches), self._exhausted)):
                        looked = now
                        self._look(ends, self._resting(self._exhausted), idle_after_ms=0)
                    self._watch(*read)
                self._look(ends, self._resting(range(self._partitions)), idle_after_ms=0)
                self._outbox.flush()
                self._ready = True
                ready()
                while not (over.is_set() or has_more_partitions(consumer)):
                    for read in self._polled(consumer):
                        self._watch(*read)
                    if time.monotonic() - self._looked_at >= CHECK_INTERVAL_S:
                        self._look(ends, frozenset(range(self._partitions)), CAUGHT_UP_TIMEOUT_MS)
                    self._outbox.flush()
                if not over.is_set():
                    log.info("partitions were added; reading the history again, with them")
                    self._ready = False  # metrics must not count the same records twice
                    self._watches.clear()
                    self._around = AlertContext(maturity_ms=s.label_delay_days * DAY_MS)
        finally:
            consumer.close()
            self._outbox.close()
            ends.close()

    def _assign(self, consumer: Any) -> None:
        s, now = self._settings, int(time.time() * 1000)
        since = {
            s.drift_panes_topic: now - MAX_WINDOW_MS,
            s.decisions_topic: now - s.drift_lookback_days * DAY_MS,
            s.labels_topic: now - s.drift_lookback_days * DAY_MS,
        }
        wanted = {
            TopicPartition(topic, p): start
            for topic, start in since.items()
            for p in sorted(consumer.partitions_for_topic(topic) or ())
        }
        self._partitions = sum(p.topic == s.drift_panes_topic for p in wanted)
        consumer.assign(list(wanted))
        ends = consumer.end_offsets(list(wanted))
        found = consumer.offsets_for_times(wanted)
        starts = {
            p: found[p].offset if found[p] is not None else ends[p] for p in wanted
        }  # None: all records are older
        for topic, most in ((s.decisions_topic, DECISIONS_AT_START), (s.labels_topic, LABELS_AT_START)):
            starts |= newest({p: (starts[p], ends[p]) for p in wanted if p.topic == topic}, most)
        for partition, start in starts.items():
            consumer.seek(partition, start)
            consumer.position(partition)

    def _in_step(self, consumer: Any, over: threading.Event) -> Iterator[tuple[ConsumedRecord, PaneSnapshot]]:
        """The history in watermark order. Otherwise a partition read far ahead would make others look idle."""
        ends = consumer.end_offsets(list(consumer.assignment()))
        read: dict[int, deque[tuple[ConsumedRecord, PaneSnapshot]]] = {p: deque() for p in range(self._partitions)}
        while not over.is_set():
            unread = {p for p, end in ends.items() if consumer.position(p) < end}
            panes = {p for p in unread if p.topic == self._settings.drift_panes_topic}
            behind = {p.partition for p in panes if not read[p.partition]}
            if not behind and any(read.values()):
                unfinished = {p.partition for p in panes} | {p for p, queue in read.items() if queue}
                self._exhausted = frozenset(read.keys() - unfinished)
                yield min((q for q in read.values() if q), key=lambda q: q[0][1].watermark_ms).popleft()
                continue
            if not unread:
                return
            full = {p for p in panes if len(read[p.partition]) > MAX_BUFFERED_RECORDS}
            consumer.pause(*full)
            for found in self._polled(consumer):
                read[found[0].partition].append(found)
            consumer.resume(*full)

    def _polled(self, consumer: Any) -> Iterable[tuple[ConsumedRecord, PaneSnapshot]]:
        """Poll once: store decisions and labels, return snapshots in watermark order."""
        s, intake = self._settings, self._intake
        panes: list[ConsumedRecord] = []
        self._moved_at = time.monotonic()
        for partition, records in consumer.poll(timeout_ms=500).items():
            if partition.topic == s.drift_panes_topic:
                panes += records
                continue
            take = self._take_decision if partition.topic == s.decisions_topic else self._take_label
            for record in records:
                try:
                    take(record)
                except Exception as error:  # a bug must not stop the monitor
                    intake.records.skip(record, repr(error))
        return sorted(intake.snapshots(panes), key=lambda found: found[1].watermark_ms)

    def _take_decision(self, record: ConsumedRecord) -> None:
        if (decision := self._intake.decision(record)) is not None:
            key = record.key or b""
            self._around.add_decision(key if len(key) <= MAX_KEY_BYTES else hashlib.sha256(key).digest(), decision)

    def _take_label(self, record: ConsumedRecord) -> None:
        if (label := self._intake.label(record)) is not None:
            self._around.add_label(label)

    def _watch(self, record: ConsumedRecord, snapshot: PaneSnapshot) -> None:
        self._moved_at = time.monotonic()
        watch = self._of_version(record, snapshot)
        if watch is None:
            return
        self._progress.count(snapshot.partition, snapshot.last_offset)
        published_ms = self._published_ms[snapshot.partition] = min(record.timestamp, int(time.time() * 1000))
        self._evaluate(watch, lambda: watch.update(snapshot, self._around, published_ms), record)

    def _resting(self, partitions: Iterable[int]) -> frozenset[int]:
        """Partitions without a new snapshot for `CAUGHT_UP_TIMEOUT_MS`."""
        before = int(time.time() * 1000) - CAUGHT_UP_TIMEOUT_MS
        return frozenset(p for p in partitions if self._published_ms.get(p, 0) <= before)

    def _look(self, ends: TransactionEnds, read: frozenset[int], idle_after_ms: int) -> None:
        """Tell the watches which partitions have nothing left to count. read: those whose panes are read to the end."""
        self._looked_at = time.monotonic()
        wall_ms = int(time.time() * 1000)
        caught_up = read & self._progress.caught_up(self._partitions, ends.ask(), wall_ms)
        for watch in [*self._watches.values()]:
            looking = partial(
                watch.update_idle, self._around, wall_ms=wall_ms, caught_up=caught_up, idle_after_ms=idle_after_ms
            )
            self._evaluate(watch, looking, None)
        if self._watches:
            newest_watch = self._watches[next(reversed(self._watches))]
            self._metrics.skew.set(newest_watch.watermark.skew_ms / 1000)
            self._metrics.skewed.set(len(newest_watch.watermark.skewed_partitions))

    def _evaluate(
        self, watch: DriftMonitor, step: Callable[[], Iterator[DriftEvaluation]], record: ConsumedRecord | None
    ) -> None:
        late, lost, incomplete = watch.late, watch.lost, watch.incomplete
        evaluations: list[DriftEvaluation] = []
        try:
            evaluations.extend(step())
        except Exception as error:  # a damaged snapshot, or a bug
            if record is None:
                log.exception("internal error while evaluating %s", self._settings.model_name)
            else:
                self._intake.records.skip(record, str(error) or repr(error))
        for evaluation in evaluations:
            self._tell(evaluation)
        if self._ready:
            self._metrics.late_transactions.inc(max(0, watch.late - late))
            self._metrics.lost.inc(max(0, watch.lost - lost))
            self._metrics.incomplete.inc(watch.incomplete - incomplete)

    def _of_version(self, record: ConsumedRecord, snapshot: PaneSnapshot) -> DriftMonitor | None:
        """The watch of a snapshot's version, begun where there is none; None, and counted, where it cannot be watched.

        A snapshot with other bins starts none: at most `MAX_VERSIONS` are monitored, and it would end another one.
        """
        version = snapshot.model_version
        if (layout := self._layout(version)) != snapshot.layout:
            why = f"version {version} cannot be monitored" if layout is None else f"layout is not version {version}'s"
            self._intake.records.skip(record, why)
            return None
        if version in self._watches:
            self._watches[version] = watch = self._watches.pop(version)
            return watch
        s = self._settings
        self._watches[version] = DriftMonitor(
            load_reference(self._store.folder(version)),
            model=s.model_name,
            model_version=version,
            partitions=self._partitions,
            lateness_ms=s.allowed_lateness_minutes * MINUTE_MS,
            idle_timeout_ms=s.idle_partition_timeout_minutes * MINUTE_MS,
            policy=self._policy,
        )
        log.info("monitoring %s version %d", s.model_name, version)
        while len(self._watches) > MAX_VERSIONS:
            ended = self._watches.pop(next(iter(self._watches)))
            for alert in ended.close():
                if alert.happened_at_ms >= self._told_until.get(alert.model_version, 0):
                    self._outbox.add(s.drift_alerts_topic, alert.incident_id, alert)
        return self._watches[version]

    def _layout(self, version: int) -> str | None:
        """Digest of a version's bins; None while its bundle is not available (retried)."""
        if version in self._layouts or time.monotonic() < self._unwatchable.get(version, 0.0):
            return self._layouts.get(version)
        try:
            self._layouts[version] = load_reference(self._store.folder(version)).bins.digest
        except (ModelIncompatibleError, ModelUnavailableError) as error:
            self._unwatchable[version] = time.monotonic() + RETRY_DELAY_S
            log.error("version %d is not monitored: %s; retry in %.0f s", version, error, RETRY_DELAY_S)
        return self._layouts.get(version)

    def _tell(self, evaluation: DriftEvaluation) -> None:
        s, report, request = self._settings, evaluation.report, evaluation.request
        self._metrics.evaluated_until.set(report.until_ms / 1000)
        if self._ready:
            self._metrics.evaluations.inc()
        if report.until_ms <= self._told_until.get(report.model_version, 0):
            return
        self._told_until[report.model_version] = report.until_ms
        for alert in evaluation.alerts:
            self._outbox.add(s.drift_alerts_topic, alert.incident_id, alert)
            log.warning("%s, %s: %s", alert.change, alert.severity, alert.summary)
        if request is not None:
            self._outbox.add(s.retrain_requests_topic, request.model, request)
            log.warning("retraining requested (%s): %s", request.correlation_id, request.reason)
        self._outbox.add(s.drift_reports_topic, report.model, report)
        if evaluation.alerts or request is not None:
            self._outbox.flush()


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
