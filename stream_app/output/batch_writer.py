"""Writes record batches of format 2 from encoded records, for `AIOKafkaProducer.send_batch`.

Internals of aiokafka 0.14.0 that this relies on (each has a test in tests/contract/test_faust_contract.py): what
`MessageAccumulator` and `MessageBatch` call of a `BatchBuilder`: `record_count`, `close`, `closed`, `size`,
`_set_producer_state` before the first `_build`, and `_build` once for each attempt to send.
"""

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
_NO_PRODUCER = (-1, -1, -1)  # id, epoch and first sequence number
_ZSTD, _TRANSACTIONAL = 4, 16  # bits of the attributes

_thread = threading.local()  # a compressor must not be used by two threads at a time


class OutgoingBatch:
    """A record batch, with the interface that aiokafka's producer expects of its `BatchBuilder`."""

    def __init__(self, records: memoryview, count: int, time_ms: int, *, transactional: bool) -> None:
        """records: in the record format of Kafka. time_ms: timestamp of all of them."""
        compressed = _compressor().compress(records)
        is_smaller = len(compressed) < len(records)
        self._records = compressed if is_smaller else records
        self._attributes = (_ZSTD if is_smaller else 0) | (_TRANSACTIONAL if transactional else 0)
        self._count, self._time_ms = count, time_ms
        self._producer = _NO_PRODUCER
        self._encoded: bytearray | None = None

    def record_count(self) -> int:
        """Number of records."""
        return self._count

    def size(self) -> int:
        """Size of the batch as it is sent, in bytes."""
        return _HEADER_BYTES + len(self._records)

    def close(self) -> None:
        """Do nothing: no record can be added."""

    def closed(self) -> bool:
        """True: no record can be added, so a producer does not wait for more."""
        return True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = producer_id, producer_epoch, base_sequence

    def _build(self) -> bytearray:
        if self._encoded is None:
            encoded = bytearray(self.size())
            encoded[_HEADER_BYTES:] = self._records
            fixed = _NO_LEADER_EPOCH, _FORMAT, 0, self._attributes, self._count - 1, self._time_ms, self._time_ms
            _HEADER.pack_into(encoded, 0, 0, len(encoded) - _AFTER_LENGTH_AT, *fixed, *self._producer, self._count)
            with memoryview(encoded) as view:
                struct.pack_into(">I", encoded, _CRC_AT, calc_crc32c(view[_ATTRIBUTES_AT:]))
            self._encoded = encoded
        return self._encoded


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
