"""Patch of aiokafka: consumers read any record that a broker accepts, instead of failing on it, and as columns.

aiokafka decodes fetched bytes in classes of its own; the patch replaces them by those of `stream_app.kafka.batches`. A
fetch returns the records of a partition as `RecordColumns`: aiokafka makes an object of each record, then another. For
kafka-python see `stream_app.kafka.kafka_clients`.

Internals of aiokafka 0.14.0 that this relies on (each has a test in tests/contract/test_faust_contract.py):
`MemoryRecords`, `PartitionRecords` and `FetchResult` in `aiokafka.consumer.fetcher`,
`PartitionRecords._unpack_records`, `._consumer_record`, `.next_fetch_offset`, `._records`, `FetchResult.getone`,
`.getall`, `.check_assignment`, `.has_more`, `._update_position`, `._partition_records`, `._topic_partition`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.structs import TopicPartition

from stream_app.kafka.batches.plain_batches import PlainBatches, plain_batches
from stream_app.kafka.batches.record_batches import KEEP_BYTES, RecordBatches
from stream_app.kafka.batches.record_columns import BatchColumns, FetchedRecord, RecordColumns, batch_columns


class FetchedBatches(RecordBatches):
    """The batches of a fetch response; aiokafka creates it before it knows partition and offset."""

    def __init__(self, data: bytes, start: int = 0, stop: int | None = None) -> None:
        """start, stop: where the batches are in the data."""
        super().__init__(data, DefaultRecordBatch, LegacyRecordBatch, columns=batch_columns)
        self._bytes = data
        self._position = start
        self._size = len(data) if stop is None else stop

    def next_batch(self) -> Any:
        """The next plain batches as one, else the next batch, or None."""
        if self.columns is not None and self.has_next():
            found = plain_batches(
                *(self._bytes, self._position, self._size, self.first_offset, self.keep_bytes, self.budget)
            )
            if found is not None:
                batches, self._position = found
                self._end = None
                return batches
        return super().next_batch()


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    keep_bytes: ClassVar[Mapping[str, int]] = {}  # by topic, where it is more than `KEEP_BYTES`
    _records: FetchedBatches

    def _unpack_records(self) -> Iterator[Any]:
        self._records.first_offset = self.next_fetch_offset
        self._records.keep_bytes = max(KEEP_BYTES, self.keep_bytes.get(self._tp.topic, 0))
        return super()._unpack_records()  # type: ignore[no-any-return]

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        return record  # a `BatchColumns`, or a single record; `_FetchResult` joins them


class _FetchResult(fetcher.FetchResult):  # type: ignore[misc]
    _partition_records: Any
    _rest: BatchColumns | None = None  # of the last batch, not yet returned

    def getone(self) -> FetchedRecord | None:
        found = self.getall(1)
        return found[0] if found else None

    def getall(self, max_records: int | None = None) -> Sequence[FetchedRecord]:
        place = self._topic_partition
        if not self.check_assignment(place) or not self.has_more():
            return []
        unpacked = self._partition_records
        parts: list[Any] = []
        left = max_records
        while left is None or left > 0:
            part, self._rest = self._rest or next(unpacked, None), None
            if part is None:
                self._update_position()
                self._partition_records = None
                break
            size = 1
            if isinstance(part, BatchColumns):
                if left is not None and left < part.n_records:
                    part, self._rest = part.split(left)
                size = part.n_records
                unpacked.next_fetch_offset = part.offset + 1
            parts.append(part)
            left = None if left is None else left - size
        else:
            self._update_position()
        return RecordColumns.of_partition(place.topic, place.partition, parts) if parts else []


class PlainResult:
    """As aiokafka's `FetchResult`, for a fetch that holds plain batches only: their records are read already."""

    def __init__(self, tp: TopicPartition, assignment: Any, records: RecordColumns | None, next_offset: int) -> None:
        """records: from the position of the partition on. next_offset: after them."""
        self._state = assignment.state_value(tp)
        self._assignment = assignment
        self._position = self._state.position
        self._records = records
        self._next_offset = next_offset
        self._is_taken = False

    @classmethod
    def read(cls, tp: TopicPartition, assignment: Any, batches: FetchedBatches) -> "PlainResult | None":
        """Read all batches; None if others than plain ones are among them."""
        batches.first_offset = assignment.state_value(tp).position
        batches.keep_bytes = max(KEEP_BYTES, _PartitionRecords.keep_bytes.get(tp.topic, 0))
        first = batches.next_batch()
        if not isinstance(first, PlainBatches) or batches.has_next():
            return None
        columns = first.columns
        records = None
        if columns is not None:
            partitions = np.full(columns.n_records, tp.partition, np.intp)
            records = RecordColumns(tp.topic, partitions, columns.data, columns.table, {})
        return cls(tp, assignment, records, first.next_offset)

    def calculate_backoff(self) -> float:
        """As in aiokafka: how long the other partitions wait for this one."""
        return 0.0

    def has_more(self) -> bool:
        """Whether anything is left."""
        return not self._is_taken

    def getall(self, max_records: int | None = None) -> Sequence[FetchedRecord]:
        """The records, or the next ones, unless the partition is paused, was sought elsewhere or is lost."""
        state, records = self._state, self._records
        if not self._assignment.active or state.paused or state.position != self._position:
            self._is_taken = True
            return []
        if records is None or max_records is None or len(records) <= max_records:
            self._is_taken = True
            state.consumed_to(self._next_offset)
            return [] if records is None else records
        taken, self._records = records[:max_records], records[max_records:]
        self._position = int(taken.offsets[-1]) + 1
        state.consumed_to(self._position)
        return taken


def install(keep_bytes: Mapping[str, int]) -> None:
    """Patch aiokafka for all consumers created from now on.

    keep_bytes: topic -> largest value to keep, if more than `KEEP_BYTES`; a longer one is truncated to a
    `schemas.record_parts.TruncatedBytes`.
    """
    _PartitionRecords.keep_bytes = keep_bytes
    fetcher.MemoryRecords = FetchedBatches
    fetcher.PartitionRecords = _PartitionRecords
    fetcher.FetchResult = _FetchResult
