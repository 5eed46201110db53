"""Validates the monitor's input: well-formed, plausible records of registered model versions.

A cursor's offset is compared with the end of `transactions`, since no worker can count records that do not exist.
Otherwise one forged cursor far ahead would hide all valid ones of its partition.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.records import Decision, DriftReport, Label, PaneSnapshot
from schemas.topics import MAX_RECORD_BYTES
from stream_app.kafka.kafka_clients import RecordConsumer, client_config
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import ConsumedRecord, last_records
from stream_app.monitor.background_call import BackgroundCall
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.monitor.version_bundles import VersionBundles

T = TypeVar("T", Decision, DriftReport)
log = logging.getLogger("tamiz.monitor")

MAX_WAIT_S = 1.0  # for a response of the registry, before snapshots are buffered
MAX_HELD_RECORDS = 2_000  # buffered snapshots of versions that are not confirmed by the registry, or not loaded, yet
MAX_HELD_BYTES = 32 * 1024 * 1024
LOOKUP_INTERVAL_S = 1.0  # between two requests to the registry or the broker about unknown versions or offsets
AWAY_INTERVAL_S = 5.0  # the same, while the registry does not respond
TIMEOUT_MS = 5_000
REPORT_LOOKBACKS = (50, 5_000)  # reports from the end of each partition; the second if the first are all invalid
CURSOR_LOOKBACK_RECORDS = 200  # of `drift-panes`, from the end of each partition


class KnownVersions:
    """The registered model versions. Queries the registry in a thread, at a bounded rate, for unknown versions."""

    def __init__(self, registered: Callable[[], Collection[int]], kept: Callable[[], Collection[int]]) -> None:
        """registered: reads the registry; any exception counts as unreachable. kept: versions on disk."""
        self._registered = registered
        self._kept = kept
        self._on_disk: frozenset[int] = frozenset()  # each of these two is written by one thread
        self._in_registry: frozenset[int] = frozenset()
        self._answered_at = float("-inf")  # start of the last successful look-up
        self._ended_at = float("-inf")  # end of the last look-up, successful or not
        self._is_away = False
        self._call = BackgroundCall("versions")

    def is_registered(self, version: int, since: float) -> bool | None:
        """Whether a version is registered or on disk; None while the registry has not responded since `since`.

        since: monotonic seconds when the version was seen. Waits for the registry at most `MAX_WAIT_S`, and not at all
        while it is unreachable.
        """
        if not self._is_known(version) and self._answered_at < since:
            self._refresh()
        if self._is_known(version):
            return True
        return False if self._answered_at >= since else None

    def _is_known(self, version: int) -> bool:
        return version in self._on_disk or version in self._in_registry

    def _refresh(self) -> None:
        self._on_disk |= frozenset(self._kept())
        interval_s = AWAY_INTERVAL_S if self._is_away else LOOKUP_INTERVAL_S
        if self._call.is_running or time.monotonic() - self._ended_at < interval_s:
            return
        self._call.start(self._read_registry)
        if not self._is_away:
            self._is_away = not self._call.wait(MAX_WAIT_S)

    def _read_registry(self) -> None:
        started = time.monotonic()
        try:
            self._in_registry |= frozenset(self._registered())
            self._answered_at, self._is_away = started, False
        except Exception as error:  # every kind of store that MLflow knows has errors of its own
            self._is_away = True
            log.warning("registered versions cannot be read from the registry: %s", error)
        self._ended_at = time.monotonic()


class TransactionEnds:
    """Ends of the partitions of `transactions`, queried when a cursor claims to be beyond the known ones."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.transactions_topic
        # Not read_committed: a worker may have counted records behind an open Kafka transaction.
        self._consumer = RecordConsumer(**client_config(settings.bootstrap), group_id=None, enable_auto_commit=False)
        self._ends: dict[int, int] = {}
        self._failed_at = -LOOKUP_INTERVAL_S

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def refresh_for(self, snapshots: Iterable[PaneSnapshot]) -> None:
        """Query the ends if one of the snapshots is beyond the known ones."""
        beyond = any(_last_offset(s) >= self._ends.get(s.partition, 0) for s in snapshots)
        if beyond and time.monotonic() - self._failed_at >= LOOKUP_INTERVAL_S:
            self.refresh()

    def refresh(self) -> Mapping[int, int] | None:
        """Query the ends, by partition; None, and a warning, if the broker does not respond."""
        try:
            partitions = [
                TopicPartition(self._topic, p) for p in self._consumer.partitions_for_topic(self._topic) or ()
            ]
            ends = self._consumer.end_offsets(partitions, timeout_ms=TIMEOUT_MS)
            self._ends = {place.partition: end for place, end in ends.items()}
            return self._ends
        except KafkaError as error:
            self._failed_at, self._ends = time.monotonic(), {}
            log.warning("the ends of %s are not known; cursors are not checked against them: %s", self._topic, error)
            return None

    def contradiction(self, snapshot: PaneSnapshot) -> str | None:
        """Why a cursor's offset is impossible; None if it is possible or the ends are not known."""
        end = self._ends.get(snapshot.partition)
        if end is None or _last_offset(snapshot) < end:
            return None
        return f"last_offset is {_last_offset(snapshot)}, but {self._topic}-{snapshot.partition} ends at {end}"


class MonitorIntake:
    """Reads and validates the monitor's input. Invalid records are skipped, counted and logged."""

    def __init__(
        self,
        settings: Settings,
        metrics: MonitorMetrics,
        versions: KnownVersions,
        bundles: VersionBundles,
        ends: TransactionEnds,
    ) -> None:
        self._settings = settings
        self._versions = versions
        self._bundles = bundles
        self._ends = ends
        self._held: deque[tuple[float, ConsumedRecord, PaneSnapshot]] = deque()  # with when it was read, oldest first
        self._held_bytes = 0
        self.records = RecordIntake(settings, log, lambda topic: metrics.records_skipped.labels(topic).inc())

    def decision(self, record: ConsumedRecord) -> Decision | None:
        """A valid decision of this model, or None."""
        return self._of_known_version(record, self.records.read_ours(record, Decision))

    def label(self, record: ConsumedRecord) -> Label | None:
        """A valid label, or None."""
        return self.records.read(record, Label)

    def snapshots(self, records: Iterable[ConsumedRecord]) -> list[tuple[ConsumedRecord, PaneSnapshot]]:
        """Valid snapshots of this model, each with its record, once their version is known and its bundle is loaded."""
        return self._snapshots(records, self._bundles.is_pending)

    def _snapshots(
        self, records: Iterable[ConsumedRecord], is_pending: Callable[[int], bool]
    ) -> list[tuple[ConsumedRecord, PaneSnapshot]]:
        seen, self._held, self._held_bytes = self._held, deque(), 0
        now = time.monotonic()
        for record in records:
            if (snapshot := self.records.read_ours(record, PaneSnapshot)) is None:
                continue
            if snapshot.partition != record.partition:
                self.records.skip(
                    record, f"partition is {snapshot.partition}, but the record is on partition {record.partition}"
                )
            else:
                seen.append((now, record, snapshot))
        found = []
        for since, record, snapshot in seen:
            registered = self._versions.is_registered(snapshot.model_version, since)
            if registered is None or (registered and is_pending(snapshot.model_version)):
                self._hold(since, record, snapshot)
            elif registered:
                found.append((record, snapshot))
            else:
                self._skip_unknown_version(record, snapshot.model_version)
        self._ends.refresh_for(snapshot for _, snapshot in found)
        accepted = []
        for record, snapshot in found:
            if (why := self._ends.contradiction(snapshot)) is None:
                accepted.append((record, snapshot))
            else:
                self.records.skip(record, why)
        return accepted

    def reported_until(self) -> dict[int, int]:
        """Model version -> event time up to which reports are published.

        A report cannot be later than the highest watermark of its version. A forged report that is later is ignored, or
        the monitor would publish nothing until then. Raises BrokerError if the broker does not respond.
        """
        s = self._settings
        marks: dict[int, int] = {}
        cursors = last_records(s.bootstrap, s.drift_panes_topic, CURSOR_LOOKBACK_RECORDS, keep_bytes=MAX_RECORD_BYTES)
        for _, snapshot in self._snapshots(cursors, lambda version: False):
            version = snapshot.model_version
            marks[version] = max(snapshot.watermark_ms, marks.get(version, snapshot.watermark_ms))
        for n in REPORT_LOOKBACKS:
            found: dict[int, int] = {}
            for record in last_records(s.bootstrap, s.drift_reports_topic, n):
                report = self._of_known_version(record, self.records.read_ours(record, DriftReport))
                if report is None or report.until_ms > marks.get(report.model_version, report.until_ms):
                    continue
                found[report.model_version] = max(report.until_ms, found.get(report.model_version, report.until_ms))
            if found:
                break
        self._held, self._held_bytes = deque(), 0  # these snapshots are read again later, in order
        return found

    def _hold(self, since: float, record: ConsumedRecord, snapshot: PaneSnapshot) -> None:
        self._held.append((since, record, snapshot))
        self._held_bytes += len(record.value or b"")
        while len(self._held) > MAX_HELD_RECORDS or self._held_bytes > MAX_HELD_BYTES:
            _, oldest, of = self._held.popleft()
            self._held_bytes -= len(oldest.value or b"")
            self.records.skip(
                oldest, f"version {of.model_version} was not confirmed and loaded from the registry in time"
            )

    def _of_known_version(self, record: ConsumedRecord, found: T | None) -> T | None:
        if found is None:
            return None
        if self._versions.is_registered(found.model_version, time.monotonic() - LOOKUP_INTERVAL_S) is not False:
            return found
        self._skip_unknown_version(record, found.model_version)
        return None

    def _skip_unknown_version(self, record: ConsumedRecord, version: int) -> None:
        self.records.skip(record, f"model_version is {version}, which is not registered")


def start_offsets(spans: Mapping[Any, tuple[int, int]], most: int) -> dict[Any, int]:
    """Start offset of each partition so that about `most` records are read, the newest, the same share of each.

    spans: key -> first offset of interest and end offset.

    >>> start_offsets({"a": (100, 1_100), "b": (0, 3_000)}, 400)
    {'a': 1000, 'b': 2700}
    >>> start_offsets({"a": (100, 1_100)}, 5_000)
    {'a': 100}
    """
    total = sum(end - start for start, end in spans.values())
    if total <= most:
        return {place: start for place, (start, _) in spans.items()}
    return {place: end - (end - start) * most // total for place, (start, end) in spans.items()}


def _last_offset(snapshot: PaneSnapshot) -> int:
    """The highest offset that a snapshot or one of its panes claims to have counted."""
    return max(snapshot.last_offset, *(pane.last_offset for pane in snapshot.panes), -1)
