"""Writes record batches of format 2 from encoded records."""

import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
from aiokafka.record.util import calc_crc32c
from zstandard import ZstdCompressor

from scoring.arrays import Bytes, Ints
from scoring.compilation import compiled
from stream_app.output.byte_columns import put, put_varint, start_of, varint_size
from stream_app.output.outgoing_records import OutgoingRecords

MAX_BATCH_BYTES = 512 * 1024  # of a batch of several records, before compression
# Of decisions in batches of 1,000: 50 bytes each, for a third of a microsecond. Level 3 takes half as long again and
# saves nothing. Level -1 and lz4 save about a tenth of a microsecond, and brokers store 77 and 94 bytes.
ZSTD_LEVEL = 1

_HEADER = struct.Struct(">qiibIhiqqqhii")
_HEADER_BYTES = _HEADER.size
_CRC_AT, _ATTRIBUTES_AT = 17, 21  # the checksum covers the bytes from the attributes on
_AFTER_LENGTH_AT = 12
_FORMAT = 2
_NO_LEADER_EPOCH = -1
_ZSTD, _TRANSACTIONAL = 4, 16  # bits of the attributes

_thread = threading.local()  # a compressor must not be used by two threads at a time


class OutgoingBatch:
    """A record batch."""

    def __init__(self, records: memoryview, count: int, time_ms: int, *, transactional: bool) -> None:
        """records: in the record format of Kafka. time_ms: timestamp of all of them."""
        compressed = _compressor().compress(records)
        is_smaller = len(compressed) < len(records)
        self._records = compressed if is_smaller else records
        self._attributes = (_ZSTD if is_smaller else 0) | (_TRANSACTIONAL if transactional else 0)
        self._count, self._time_ms = count, time_ms

    def record_count(self) -> int:
        """Number of records."""
        return self._count

    def encode(self, producer_id: int, producer_epoch: int, sequence: int) -> bytearray:
        """The batch, with the producer's id and epoch and the sequence number of its first record."""
        encoded = bytearray(_HEADER_BYTES + len(self._records))
        encoded[_HEADER_BYTES:] = self._records
        fixed = _NO_LEADER_EPOCH, _FORMAT, 0, self._attributes, self._count - 1, self._time_ms, self._time_ms
        producer = producer_id, producer_epoch, sequence
        _HEADER.pack_into(encoded, 0, 0, len(encoded) - _AFTER_LENGTH_AT, *fixed, *producer, self._count)
        with memoryview(encoded) as view:
            struct.pack_into(">I", encoded, _CRC_AT, calc_crc32c(view[_ATTRIBUTES_AT:]))
        return encoded


def record_batches(
    records: OutgoingRecords,
    *,
    transactional: bool = False,
    max_bytes: int = MAX_BATCH_BYTES,
    time_ms: int | None = None,
) -> Iterator[OutgoingBatch]:
    """Batches with the records, in order.

    max_bytes: of a batch before compression; a larger record is alone in its batch. time_ms: of the records; None: now.
    """
    if time_ms is None:
        time_ms = int(time.time() * 1000)
    first = 0
    while first < len(records):
        written, following = _write_records(*records.bodies, first, max_bytes - _HEADER_BYTES)
        yield OutgoingBatch(written.data, following - first, time_ms, transactional=transactional)
        first = following


@compiled
def _write_records(bodies: Bytes, ends: Ints, first: int, max_bytes: int) -> tuple[Bytes, int]:
    total, following = 0, first
    while following < len(ends):
        content = 2 + varint_size(following - first) + ends[following] - start_of(ends, following)
        size = varint_size(content) + content
        if following > first and total + size > max_bytes:
            break
        total += size
        following += 1
    out = np.empty(total, np.uint8)
    at = 0
    for i in range(first, following):
        start, end = start_of(ends, i), ends[i]
        at = put_varint(out, at, 2 + varint_size(i - first) + end - start)
        out[at], out[at + 1] = 0, 0  # attributes, and the difference from the batch's time
        at = put_varint(out, at + 2, i - first)
        at = put(out, at, bodies, start, end)
    return out, following


def _compressor() -> ZstdCompressor:
    compressor: ZstdCompressor | None = getattr(_thread, "compressor", None)
    if compressor is None:
        compressor = _thread.compressor = ZstdCompressor(level=ZSTD_LEVEL)
    return compressor
