"""Reads message formats 0 and 1 (Kafka before 0.11) with the client's decoder, within memory bounds. Pure."""

import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from schemas.record_parts import Unreadable
from stream_app.kafka.batches.decompression import CODEC_BITS, UnreadableBatchError, decompress
from stream_app.kafka.batches.record_stream import RECORD_BYTES, BatchRecord, Budget

MAX_LEGACY_BYTES = 4 * 1024 * 1024  # decompressed; the client decodes a whole message set at once

_LEGACY = struct.Struct(">qiIbb")


class Source(Protocol):
    """A fetch response: `stream_app.kafka.batches.record_batches.RecordBatches`."""

    legacy: Callable[[Any, int], Any]
    first_offset: int
    budget: Budget


class LegacyBatch:
    """A message of format 0 or 1: one record, or a compressed set of records. Brokers since 4.0 refuse both formats."""

    is_control_batch = False
    is_transactional = False
    producer_id = None  # as in aiokafka
    leader_epoch = -1

    def __init__(self, data: memoryview, source: Source) -> None:
        self._data = data
        self._source = source
        self.base_offset, _, self.crc, self.magic, self._attributes = _LEGACY.unpack_from(data)
        self.last_offset = self.base_offset
        self.next_offset = self.base_offset + 1

    def validate_crc(self) -> bool:
        """Always true: a message with a wrong checksum becomes an unreadable record."""
        return True

    def has_producer_id(self) -> bool:
        """Always false: these formats have no producer id."""
        return False

    def __iter__(self) -> Iterator[BatchRecord]:
        try:
            own = self._source.legacy(self._data, self.magic)
            if not own.validate_crc():
                raise UnreadableBatchError("its checksum is wrong")
            if codec := self._attributes & CODEC_BITS:
                # Only to check the size; the client decompresses the data again.
                decompress(codec, self._data[len(self._data) - self._compressed_bytes() :], MAX_LEGACY_BYTES)
            found = [
                BatchRecord(
                    r.offset, -1 if r.timestamp is None else r.timestamp, r.timestamp_type or 0, r.key, r.value, []
                )
                for r in own
            ]
        except Exception as error:
            reason = f"the record cannot be read: {error or type(error).__name__}"
            found = [BatchRecord(self.base_offset, -1, 0, None, Unreadable.with_reason(reason, self.base_offset), [])]
        self._source.budget.spend(sum(len(r.value or b"") + RECORD_BYTES for r in found))
        return iter([r for r in found if r.offset >= self._source.first_offset])

    def _compressed_bytes(self) -> int:
        key_at = _LEGACY.size + (8 if self.magic == 1 else 0)
        (key_size,) = struct.unpack_from(">i", self._data, key_at)
        (size,) = struct.unpack_from(">i", self._data, key_at + 4 + max(0, key_size))
        return max(0, min(int(size), len(self._data)))
