"""Reads message formats 0 and 1 (Kafka before 0.11) with the client's decoder, within memory bounds. Pure."""

import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from schemas.record_parts import Unreadable
from stream_app.kafka.decompression import CODEC, UnreadableBatchError, decompressed
from stream_app.kafka.record_stream import RECORD_BYTES, BatchRecord, Budget

MAX_LEGACY_BYTES = 4 * 1024 * 1024  # decompressed: the decoder reads all of a set at once

_LEGACY = struct.Struct(">qiIbb")


class Source(Protocol):
    """What a fetch brought (`stream_app.kafka.record_batches.RecordBatches`)."""

    legacy: Callable[[Any, int], Any]
    first_offset: int
    budget: Budget


class LegacyBatch:
    """A message of format 0 or 1: one record, or a compressed set of them. No broker since 4.0 takes them any more."""

    is_control_batch = False
    is_transactional = False
    producer_id = None  # aiokafka's own says so
    leader_epoch = -1

    def __init__(self, data: memoryview, source: Source) -> None:
        self._data = data
        self._source = source
        self.base_offset, _, self.crc, self.magic, self._attributes = _LEGACY.unpack_from(data)
        self.last_offset = self.base_offset
        self.next_offset = self.base_offset + 1

    def validate_crc(self) -> bool:
        """Always true: one whose checksum is wrong is unreadable."""
        return True

    def has_producer_id(self) -> bool:
        """Never."""
        return False

    def __iter__(self) -> Iterator[BatchRecord]:
        try:
            own = self._source.legacy(self._data, self.magic)
            if not own.validate_crc():
                raise UnreadableBatchError("its checksum is wrong")
            if codec := self._attributes & CODEC:
                # Only to see how much it is: the client's decoder does it again.
                decompressed(codec, self._data[len(self._data) - self._compressed_bytes() :], MAX_LEGACY_BYTES)
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
