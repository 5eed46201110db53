"""`tamiz archive`: copies the closed days of decisions, logged values and rule activations into the archive.

Each partition continues at the offset at which its newest manifest ends, so a run that was killed is continued by the
next one, with the same result, and a run with nothing to do writes nothing.
"""

import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from schemas.record_parts import TruncatedBytes, Unreadable, omitted_headers
from schemas.records import Decision, FeatureRecord
from schemas.rules import RuleActivation
from schemas.time_units import MINUTE_MS
from schemas.topics import MAX_RECORD_BYTES, topic_table
from stream_app.decisions.decision_headers import input_offset
from stream_app.kafka.kafka_clients import reader, require_broker
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, existing_partitions
from tamiz.archive.archive_store import ArchiveStore, file_sha256
from tamiz.archive.manifest import ArchiveManifest, FileName, day_of
from tamiz.archive.parquet_file import ParquetFile

RECORDS: dict[str, type[msgspec.Struct]] = {  # by role of the topic
    "decisions": Decision,
    "feature-log": FeatureRecord,
    "rule-activations": RuleActivation,
}
CLOSE_DELAY_MS = 15 * MINUTE_MS  # after midnight: workers' clocks differ, and a batch is written after its decision
POLL_TIMEOUT_MS = 500
ONE_DAY = timedelta(days=1)


class ArchiveResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run."""

    root: str
    until: date  # last closed day
    files: tuple[ArchiveManifest, ...]  # written by this run
    # Offsets that the log does not have: records that retention deleted too early, or a log that was truncated.
    faults: tuple[str, ...]


def archive(
    settings: Settings,
    *,
    now_ms: int | None = None,
    progress: Callable[[str, int, int], None] = lambda step, done, of: None,
) -> ArchiveResult:
    """Archive all days that are closed and not archived yet.

    progress: called with a step, how many offsets are done, and of how many.
    Raises ConfigError without `archive_root`, ArchiveError if the store fails, BrokerError if no broker responds.
    """
    store = ArchiveStore(settings)
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    until = day_of(now_ms - CLOSE_DELAY_MS) - ONE_DAY
    with require_broker(settings.bootstrap):
        consumer = reader(
            settings.bootstrap, keep_bytes=MAX_RECORD_BYTES, max_poll_records=2_000, fetch_max_wait_ms=100
        )
    files: list[ArchiveManifest] = []
    faults: list[str] = []
    try:
        for topic in topic_table(settings):
            if topic.role not in RECORDS:
                continue
            partitions = existing_partitions(consumer, settings.bootstrap, topic.name)
            topic_id = topic_ids(settings.bootstrap, [topic.name]).get(topic.name, "")
            newest = _newest_manifests(store, topic.role, {FileName(p.partition, topic_id) for p in partitions})
            for tp in partitions:
                run = _PartitionRun(store, topic.role, tp, topic_id, newest.get(tp.partition), until, now_ms)
                step = f"archiving {topic.name}, partition {tp.partition}"
                files += run.archive(consumer, lambda done, of, step=step: progress(step, done, of))  # type: ignore[misc]
                faults += run.faults
    except KafkaError as error:
        raise BrokerError(f"the topics to archive cannot be read: {error}") from None
    finally:
        consumer.close()
    return ArchiveResult(root=store.root, until=until, files=tuple(files), faults=tuple(faults))


def _newest_manifests(store: ArchiveStore, topic: str, wanted: set[FileName]) -> dict[int, ArchiveManifest]:
    """The newest manifest of each partition."""
    found: dict[int, ArchiveManifest] = {}
    for day in reversed(store.days(topic)):
        for name in wanted.intersection(store.files(topic, day)):
            found[name.partition] = store.manifest(topic, day, name)
            wanted = wanted - {name}
        if not wanted:
            break
    return found


class _PartitionRun:
    """Archives one partition of a topic, day by day."""

    def __init__(
        self,
        store: ArchiveStore,
        topic: str,
        tp: TopicPartition,
        topic_id: str,
        newest: ArchiveManifest | None,
        until: date,
        now_ms: int,
    ) -> None:
        """until: the last day to archive. topic: its role."""
        self._store, self._topic, self._tp, self._topic_id = store, topic, tp, topic_id
        self._until, self._now_ms = until, now_ms
        self._day = None if newest is None else newest.day + ONE_DAY
        self._first_offset = 0 if newest is None else newest.next_offset
        self._has_start = newest is not None
        self._missing = 0
        self._last_input_offset = -1 if newest is None else newest.last_input_offset
        self.faults: list[str] = []

    def archive(self, consumer: Any, progress: Callable[[int, int], None]) -> Iterator[ArchiveManifest]:
        """Archive all days up to the last one; yields the manifest of each."""
        if self._day is not None and self._day > self._until:
            return
        tp = self._tp
        consumer.assign([tp])
        beginning, end = consumer.beginning_offsets([tp])[tp], consumer.end_offsets([tp])[tp]
        name = f"{tp.topic}, partition {tp.partition}"
        if self._first_offset > end:
            self.faults.append(
                f"{name}: the archive has offsets up to {self._first_offset:,}, but the log ends at {end:,}: it was "
                "truncated; set another archive_root to archive it from its beginning"
            )
            return
        if beginning > self._first_offset:
            if self._has_start:
                self._missing = beginning - self._first_offset
                self.faults.append(
                    f"{name}: retention deleted {self._missing:,} offsets from {self._first_offset:,} on before they "
                    "were archived; run `tamiz archive` more often, or raise retention.ms"
                )
            self._first_offset = beginning
        consumer.seek(tp, self._first_offset)
        with TemporaryDirectory(prefix="tamiz-") as folder:
            yield from self._archive_days(consumer, end, Path(folder), progress)

    def _archive_days(
        self, consumer: Any, end: int, folder: Path, progress: Callable[[int, int], None]
    ) -> Iterator[ArchiveManifest]:
        begun, tp = self._first_offset, self._tp
        file = _DayFile(folder, self._name, self._topic)
        while (position := consumer.position(tp)) < end:
            progress(position - begun, end - begun)
            records = [r for r in consumer.poll(timeout_ms=POLL_TIMEOUT_MS).get(tp, []) if r.offset < end]
            if self._day is None and records:
                self._day = next((day for r in records if (day := self._day_of(r)) is not None), self._until)
            for record in records:
                # A record without a time that can be right belongs to the day of its neighbours.
                while (day := self._day_of(record)) is not None and self._day is not None and day > self._day:
                    if self._day <= self._until:
                        yield self._publish(file, record.offset)
                        file = _DayFile(folder, self._name, self._topic)
                    self._day += ONE_DAY
                if self._day is not None and self._day > self._until:
                    return
                file.add(record)
        progress(end - begun, end - begun)
        while self._day is not None and self._day <= self._until:
            yield self._publish(file, end)
            file = _DayFile(folder, self._name, self._topic)
            self._day += ONE_DAY

    @property
    def _name(self) -> FileName:
        return FileName(self._tp.partition, self._topic_id)

    def _day_of(self, record: ConsumedRecord) -> date | None:
        return day_of(record.timestamp) if 0 <= record.timestamp <= self._now_ms else None

    def _publish(self, file: "_DayFile", next_offset: int) -> ArchiveManifest:
        assert self._day is not None
        path = file.close()
        self._last_input_offset = max(self._last_input_offset, file.last_input_offset)
        manifest = ArchiveManifest(
            topic=self._tp.topic,
            topic_id=self._topic_id,
            partition=self._tp.partition,
            day=self._day,
            first_offset=self._first_offset,
            next_offset=next_offset,
            missing=self._missing,
            records=file.records,
            damaged=file.damaged,
            last_input_offset=self._last_input_offset,
            bytes=0 if path is None else path.stat().st_size,
            sha256="" if path is None else file_sha256(path),
        )
        self._store.publish(self._topic, manifest, path)
        if path is not None:
            path.unlink()
        self._first_offset, self._missing = next_offset, 0
        return manifest


class _DayFile:
    """The Parquet file of a day, which begins with its first record."""

    def __init__(self, folder: Path, name: FileName, topic: str) -> None:
        self._path, self._topic = folder / name.data, topic
        self._file: ParquetFile | None = None
        self.records = self.damaged = 0
        self.last_input_offset = -1

    def add(self, record: ConsumedRecord) -> None:
        """Add a record."""
        if self._file is None:
            self._file = ParquetFile(self._path, RECORDS[self._topic])
        self.records += 1
        parts = type(record.value), type(record.key)
        self.damaged += bool({TruncatedBytes, Unreadable}.intersection(parts) or omitted_headers(record.headers))
        match self._file.add(record):
            case Decision():
                offset = input_offset(record.headers)
            case FeatureRecord(input_offset=offset) | RuleActivation(from_offset=offset):
                pass
            case _:
                offset = None
        self.last_input_offset = max(self.last_input_offset, -1 if offset is None else offset)

    def close(self) -> Path | None:
        """Finish the file; its path, or None without records."""
        if self._file is None:
            return None
        self._file.close()
        return self._path
