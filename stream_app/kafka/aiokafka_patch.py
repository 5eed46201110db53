"""Patch of aiokafka: consumers read any record that a broker accepts, instead of failing on it.

aiokafka decodes fetched bytes in classes of its own; the patch replaces them by `stream_app.kafka.record_batches`. For
kafka-python see `stream_app.kafka.kafka_clients`.

Internals of aiokafka 0.14.0 that this relies on (each has a test in tests/contract/test_faust_contract.py):
`MemoryRecords` and `PartitionRecords` in `aiokafka.consumer.fetcher`, `PartitionRecords._unpack_records`,
`.next_fetch_offset`, `._records`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from stream_app.kafka.record_batches import KEEP_BYTES, RecordBatches


class _FetchedBatches(RecordBatches):
    """The batches of a fetch response; aiokafka creates it before it knows partition and offset."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, DefaultRecordBatch, LegacyRecordBatch)


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    keep_bytes: Mapping[str, int]  # by topic, where it is more than `KEEP_BYTES`
    _records: _FetchedBatches

    def _unpack_records(self) -> Iterator[Any]:
        self._records.first_offset = self.next_fetch_offset
        self._records.keep_bytes = max(KEEP_BYTES, self.keep_bytes.get(self._tp.topic, 0))
        return super()._unpack_records()  # type: ignore[no-any-return]


def install(keep_bytes: Mapping[str, int]) -> None:
    """Patch aiokafka for all consumers created from now on.

    keep_bytes: topic -> largest value to keep, if more than `KEEP_BYTES`; a longer one is truncated to a
    `schemas.record_parts.TruncatedBytes`.
    """
    _PartitionRecords.keep_bytes = keep_bytes
    fetcher.MemoryRecords = _FetchedBatches
    fetcher.PartitionRecords = _PartitionRecords
