"""Record batches as the broker gives them -> records, whatever is in them. Pure.

The clients' decoders end the process on what every broker accepts (a header name that is not UTF-8), pass over records
whose offsets do not ascend, and decompress a batch whatever it becomes. `RecordBatches` replaces the `MemoryRecords` of
aiokafka (`stream_app.kafka.aiokafka_patch`) and of kafka-python (`stream_app.kafka.kafka_clients`). The client's own
decoder reads each batch, decompressed within bounds; what it cannot read, or what is large, is read here, record by
record.

* A header name that is not UTF-8 is read with escapes (`\\xff`).
* Of a record with too many headers, or too large ones, the first are kept; an `OmittedHeaders` says how many are not.
* A key or value of more than `keep_bytes` is a `TruncatedBytes`: its beginning, its size and its SHA-256.
* A record that cannot be read (its parts contradict its length) has an `Unreadable` value, and so has each record of a
  batch that cannot be read (damaged, of an unknown codec, of more than `MAX_BATCH_BYTES` or `MAX_BATCH_RECORDS`); after
  `MAX_UNREADABLE` of a batch one more speaks for the rest.
* A batch whose checksum is wrong is fetched again once, for the network may be to blame.
* Offsets ascend within their batch, and no record is left out: one whose offset does not gets the next that is free.
"""

import logging
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from schemas.record_parts import TruncatedBytes, Unreadable
from scoring.input.admission import MAX_HEADERS
from stream_app.kafka.decompression import CODEC, SizeLimitError, UnreadableBatchError, chunks, decompressed, pieces
from stream_app.kafka.legacy_batches import LegacyBatch
from stream_app.kafka.record_stream import (
    HEADER_BYTES,
    RECORD_BYTES,
    BatchRecord,
    Budget,
    FaultyRecordError,
    Headers,
    RecordStream,
)

KEEP_BYTES = 1024 * 1024  # of a key or a value
# A batch up to this size is decoded at once, by the client's own decoder. It bounds neither records nor headers, and
# they take some thirty times as much memory as they have bytes.
AT_ONCE_BYTES = 2 * 1024 * 1024
FETCH_BYTES = 32 * 1024 * 1024  # of records that one fetch, or one poll, makes; the next one goes on from there
MAX_BATCH_RECORDS = 1_000_000
MAX_UNREADABLE = 1_000  # records of a batch that become dead letters of their own

_HEADER_BYTES = struct.calcsize(">qiibIhiqqqhii")
_BEGINNING = struct.Struct(">qi4xb6xi")  # of a batch: base offset, length, format and last offset delta
_LENGTH = struct.Struct(">i")
_OVERHEAD = 12  # base offset and length
_MAGIC = 16  # where the format's number is
_COUNT = 57  # where the number of records is
_ATTRIBUTES = 21  # where they are in a header; what the checksum covers begins there
_LEAST = struct.calcsize(">qiIbbii")  # bytes of the shortest batch there is, of format 0

log = logging.getLogger("tamiz.kafka")


class RecordBatches:
    """What a fetch brought of one partition: an iterator of batches, with the interface of the clients' own."""

    def __init__(
        self,
        data: bytes,
        decoder: Callable[[Any], Any],
        legacy: Callable[[Any, int], Any],
        keep_bytes: int = KEEP_BYTES,
        budget: Budget | None = None,
    ) -> None:
        """decoder, legacy: the client's own, of a batch's bytes (message format 2; 0 and 1 with their number).

        budget: when it is spent there is no further batch; the next fetch goes on from there.
        """
        self._data = memoryview(data)
        self._size = len(data)
        self._position = 0
        self._end: int | None = None  # of the batch at the position, once it is known
        self.decoder = decoder
        self.legacy = legacy
        self.keep_bytes = keep_bytes
        self.first_offset = 0  # asked for; what is before it in a batch is passed over
        self.budget = budget or Budget(FETCH_BYTES)

    def size_in_bytes(self) -> int:
        """Of the whole fetch."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether there is another whole batch, and room for it."""
        if self.budget.is_spent:
            return False
        while (end := self._end) is None:
            left = self._size - self._position
            if left < _LEAST:
                return False
            base, length, magic, delta = _BEGINNING.unpack_from(self._data, self._position)
            # A last batch that is cut off is the rule: a fetch ends at so many bytes.
            if not _LEAST <= (size := length + _OVERHEAD) <= left:
                return False
            end = self._position + size
            if base + (delta if magic >= 2 and delta > 0 else 0) < self.first_offset:
                self._position = end
            else:
                self._end = end
        return True

    def next_batch(self) -> Any:
        """The next batch, or None."""
        if not self.has_next():
            return None
        data = self._data[self._position : self._end]
        self._position, self._end = self._end or 0, None
        return RecordBatch(data, self) if len(data) >= _HEADER_BYTES and data[_MAGIC] >= 2 else LegacyBatch(data, self)

    def stop(self) -> None:
        """Give no further batch."""
        self._position, self._end = self._size, None


class RecordBatch:
    """A batch of message format 2: what its header says, and its records when it is iterated over, once."""

    magic = 2

    def __init__(self, data: memoryview, source: RecordBatches) -> None:
        self._data = data
        self._source = source
        self._own = own = source.decoder(data)  # the client's reading of it
        self.base_offset: int = own.base_offset
        self.last_offset: int = self.base_offset + max(0, own.last_offset_delta)
        self.next_offset = self.last_offset + 1
        self.producer_id: int = own.producer_id
        self.is_transactional: bool = own.is_transactional
        self.is_control_batch: bool = own.is_control_batch
        self._fault: str | None = None
        self._control: Iterator[Any] | None = None

    @property
    def leader_epoch(self) -> int:
        """Of the broker that took it."""
        return int(self._own.leader_epoch)

    def validate_crc(self) -> bool:
        """Always true: a batch whose checksum is wrong is read again, then is unreadable."""
        if self._own.validate_crc():
            return True
        self.is_control_batch = self.is_transactional = False
        if self.last_offset - self.base_offset >= MAX_BATCH_RECORDS:  # damaged, too
            self.last_offset, self.next_offset = self.base_offset, self.base_offset + 1
        if _seen_before((self.base_offset, self._own.crc, len(self._data))):
            self._fault = "its checksum is wrong"
        else:
            self._fault = ""
            self.next_offset = max(self.base_offset, self._source.first_offset)
            self._source.stop()
        return True

    def has_producer_id(self) -> bool:
        """Whether an idempotent or transactional producer sent it."""
        return bool(self.producer_id > -1)

    def __next__(self) -> Any:
        """The record of a control batch."""
        if self._control is None:
            self._control = iter(self._own)
        return next(self._control)

    def __iter__(self) -> Iterator[Any]:
        if self._fault is not None:
            return self._unreadable(self.base_offset, self._fault) if self._fault else iter(())
        own, plain = self._own, self._data
        if codec := own.attributes & CODEC:
            body = self._data[_HEADER_BYTES:]
            if not self._count():
                return iter(())
            try:
                plain = self._uncompressed(decompressed(codec, body, AT_ONCE_BYTES))
                own = self._source.decoder(plain)
            except SizeLimitError:
                return self._one_by_one(chunks(codec, body))
            except UnreadableBatchError as error:
                return self._unreadable(self.base_offset, str(error))
        if len(plain) > AT_ONCE_BYTES:
            return self._one_by_one(pieces(plain[_HEADER_BYTES:]))
        try:
            records = list(own)
        except Exception as error:
            log.debug("offset %d or one after it: %.200s; read record by record", self.base_offset, repr(error))
            return self._one_by_one(pieces(plain[_HEADER_BYTES:]))
        headers = [len(record.headers) for record in records]
        if not self._in_order([record.offset for record in records]) or max(headers, default=0) > MAX_HEADERS:
            return self._one_by_one(pieces(plain[_HEADER_BYTES:]))
        self._source.budget.spend(len(plain) + RECORD_BYTES * len(records) + HEADER_BYTES * sum(headers))
        if self.base_offset < self._source.first_offset:
            records = [r for r in records if r.offset >= self._source.first_offset]
        # No record of a small batch is large.
        return iter(records) if len(plain) <= self._source.keep_bytes else self._bounded(records)

    def _count(self) -> int:
        return int(_LENGTH.unpack_from(self._data, _COUNT)[0])

    def _in_order(self, offsets: Sequence[int]) -> bool:
        """Whether each record is within its batch and after the one before; brokers take others, too."""
        base, last = self.base_offset, self.last_offset
        if offsets == list(range(base, base + len(offsets))):
            return base + len(offsets) <= last + 1
        return bool(base <= offsets[0] and offsets[-1] <= last and all(a < b for a, b in pairwise(offsets)))

    def _uncompressed(self, body: bytes) -> memoryview:
        """The same batch as if nobody had compressed it. Its checksum is wrong."""
        plain = bytearray(self._data[:_HEADER_BYTES]) + body
        struct.pack_into(">h", plain, _ATTRIBUTES, self._own.attributes & ~CODEC)
        struct.pack_into(">i", plain, 8, len(plain) - _OVERHEAD)
        return memoryview(plain)

    def _bounded(self, records: Iterable[Any]) -> Iterator[Any]:
        keep = self._source.keep_bytes
        for record in records:
            if record.value is not None and len(record.value) > keep:
                yield BatchRecord(
                    record.offset,
                    record.timestamp,
                    record.timestamp_type,
                    record.key,
                    TruncatedBytes.cut(record.value, keep),
                    record.headers,
                )
            else:
                yield record

    def _one_by_one(self, parts: Iterator[bytes]) -> Iterator[BatchRecord]:
        source, stream, offset = self._source, RecordStream(parts), self.base_offset
        count = self._count()
        try:
            for index in range(min(count, MAX_BATCH_RECORDS)):
                record = self._read(stream, index, offset)
                offset = record.offset + 1
                if record.offset < source.first_offset:
                    continue
                source.budget.spend(_size(record))
                yield record
                if source.budget.is_spent:
                    self.next_offset = offset
                    source.stop()
                    return
        except UnreadableBatchError as error:
            yield from self._unreadable(offset, str(error))
            return
        if count > MAX_BATCH_RECORDS:
            yield from self._unreadable(offset, f"its batch holds more than {MAX_BATCH_RECORDS} records")

    def _read(self, stream: RecordStream, index: int, least: int) -> BatchRecord:
        length = stream.varint()
        if length < 0:
            raise UnreadableBatchError(f"the length of a record is {length}")
        keep = self._source.keep_bytes
        fault, delta, time_delta = "", index, 0
        key: bytes | None = None
        value: bytes | None = None
        headers: Headers = []
        end = stream.position + length
        try:
            stream.take(1)  # attributes, which mean nothing yet
            time_delta, delta = stream.varint(), stream.varint()
            key = stream.text(end, keep)
            value = stream.text(end, keep)
            headers = stream.headers(end)
        except FaultyRecordError as error:
            fault = str(error)
        if stream.position > end:
            raise UnreadableBatchError("a record is longer than it says")
        if stream.position < end and not fault:
            fault = f"{end - stream.position} bytes follow its headers"
        stream.pass_over(end - stream.position)
        offset = self.base_offset + delta
        if not least <= offset <= self.last_offset:
            offset = least
        if fault:
            value, headers = Unreadable.with_reason(f"the record cannot be read: {fault}", offset), []
        return BatchRecord(offset, self._time(time_delta), self._own.timestamp_type, key, value, headers, None, length)

    def _time(self, delta: int) -> int:
        if self._own.timestamp_type:
            return int(self._own.max_timestamp)
        time = int(self._own.first_timestamp) + delta
        return (time + (1 << 63)) % (1 << 64) - (1 << 63)  # of 64 bits, as everybody else computes it

    def _unreadable(self, offset: int, reason: str) -> Iterator[BatchRecord]:
        reason = f"the record cannot be read: {reason}"
        offset = max(offset, self._source.first_offset)
        apart = min(self.last_offset, offset + MAX_UNREADABLE)
        for each in range(offset, apart + 1):
            last = each if each < apart else self.last_offset
            time = int(self._own.max_timestamp)
            self._source.budget.spend(RECORD_BYTES)
            yield BatchRecord(each, time, self._own.timestamp_type, None, Unreadable.with_reason(reason, last), [])


def _size(record: BatchRecord) -> int:
    """Bytes of memory, about."""
    headers = sum(len(name) + len(value or b"") + HEADER_BYTES for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers + RECORD_BYTES


_SUSPECTS: OrderedDict[tuple[int, int, int], None] = OrderedDict()  # the last batches whose checksum was wrong


def _seen_before(batch: tuple[int, int, int]) -> bool:
    if batch in _SUSPECTS:
        del _SUSPECTS[batch]
        return True
    _SUSPECTS[batch] = None
    while len(_SUSPECTS) > 1_000:
        _SUSPECTS.popitem(last=False)
    return False
