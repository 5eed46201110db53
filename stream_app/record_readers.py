"""aiokafka's consumers, made to get past whatever a broker has accepted (kafka-python's: `stream_app.clients`).

aiokafka unpacks what a fetch brought in a class of its own. Ours lets it read what is plain; it reads what is
compressed or large, and goes on where aiokafka has failed, through `stream_app.record_batches`.

Internals of aiokafka 0.14.0 this rests on (each has a test in tests/test_faust_contract.py): `MemoryRecords` and
`PartitionRecords` in `aiokafka.consumer.fetcher`, `PartitionRecords._unpack_records`, `.next_fetch_offset`,
`._records`.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from stream_app.record_batches import KEEP_BYTES, RecordBatches, is_plain, report_failure

FETCH_BYTES = 16 * 1024 * 1024  # a worker holds of one partition's fetch, decompressed; then it fetches again


class _Fetched(RecordBatches):
    """What aiokafka's fetcher makes of an answer's bytes, before it knows which partition they are of."""

    keep_at_least = KEEP_BYTES

    def __init__(self, data: bytes) -> None:
        super().__init__(data, DefaultRecordBatch, LegacyRecordBatch, self.keep_at_least)
        self.data = data


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's, with another reading where its own does not do."""

    _records: Any

    def _unpack_records(self) -> Iterator[Any]:
        batches: _Fetched = self._records
        if is_plain(batches.data):
            self._records = MemoryRecords(batches.data)
            try:
                yield from super()._unpack_records()
            except Exception as error:
                report_failure(self._tp, self.next_fetch_offset, error)
            else:
                return
        batches.first_offset = self.next_fetch_offset
        batches.budget_bytes = FETCH_BYTES
        self._records = batches
        yield from super()._unpack_records()


def install(keep_bytes: int = KEEP_BYTES) -> None:
    """Make every consumer of aiokafka that is started from now on get past any record.

    keep_bytes: of a value, at least; a longer one is cut (`stream_app.record_batches.Partial`).
    """
    _Fetched.keep_at_least = max(keep_bytes, KEEP_BYTES)
    fetcher.MemoryRecords = _Fetched
    fetcher.PartitionRecords = _PartitionRecords
