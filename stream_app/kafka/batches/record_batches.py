"""Decodes fetched record batches into records. Invalid content becomes a marked record, never an exception. Pure.

The clients' own decoders have three faults: they raise on bytes that every broker accepts (a header name that is not
UTF-8), skip records whose offsets do not ascend, and decompress a batch without a size limit. `RecordBatches` replaces
the `MemoryRecords` of aiokafka (`stream_app.kafka.aiokafka_patch`) and of kafka-python
(`stream_app.kafka.kafka_clients`). The client's decoder still reads ordinary batches, after decompression within a
limit. This module reads large batches, and those that the client's decoder cannot read, record by record. For aiokafka,
the records of an ordinary batch are not decoded at all: they are delivered as one `BatchColumns`.

* A header name that is not UTF-8 is decoded with escapes (`\\xff`).
* A record with too many or too large headers keeps the first ones; an `OmittedHeaders` holds the number of the others.
* A key or value longer than `keep_bytes` becomes a `TruncatedBytes`: first bytes, size and SHA-256.
* A record that cannot be read (its lengths contradict each other) gets an `Unreadable` value. So does each record of a
  batch that cannot be read (damaged, unknown codec, more than `MAX_BATCH_BYTES` or `MAX_BATCH_RECORDS`). Beyond
  `MAX_UNREADABLE` records of a batch, one more record represents the rest.
* A batch with a wrong checksum is fetched once more, because the network may have damaged it.
* Offsets ascend within their batch, and every record is delivered: one with an invalid offset gets the next free one.
"""

import logging
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from schemas.record_parts import TruncatedBytes, Unreadable
from scoring.input.admission import MAX_HEADERS
from stream_app.kafka.batches.checksum_failures import failed_before
from stream_app.kafka.batches.column_decoder import ColumnDecoder, DecodedColumns
from stream_app.kafka.batches.decompression import (
    CODEC_BITS,
    SizeLimitError,
    UnreadableBatchError,
    decompress,
    decompressed_chunks,
    split,
)
from stream_app.kafka.batches.legacy_batches import LegacyBatch
from stream_app.kafka.batches.record_stream import (
    HEADER_BYTES,
    RECORD_BYTES,
    BatchRecord,
    Budget,
    FaultyRecordError,
    Headers,
    RecordStream,
)

KEEP_BYTES = 1024 * 1024  # of a key or a value
# Larger batches are read record by record. The client's decoder limits neither records nor headers, and decoded records
# take about thirty times the memory of their bytes.
MAX_CLIENT_DECODED_BYTES = 2 * 1024 * 1024
FETCH_BYTES = 32 * 1024 * 1024  # of decoded records per fetch or poll; the next one continues from there
MAX_BATCH_RECORDS = 1_000_000
MAX_UNREADABLE = 1_000  # records of an unreadable batch that become dead letters of their own

_HEADER_BYTES = struct.calcsize(">qiibIhiqqqhii")
_BATCH_START = struct.Struct(">qi")  # base offset and length of a batch
_INT32 = struct.Struct(">i")
_OVERHEAD_BYTES = 12  # base offset and length
_MIN_RECORD_BYTES = 7  # length, attributes, deltas of time and offset, sizes of key and value, number of headers
# Positions within a batch.
_MAGIC_AT = 16  # format number
_ATTRIBUTES_AT = 21  # the checksum covers the bytes from here on
_LAST_DELTA_AT = 23  # last offset minus base offset
_COUNT_AT = 57  # number of records
_MIN_BATCH_BYTES = struct.calcsize(">qiIbbii")  # the shortest possible batch, of format 0

log = logging.getLogger("tamiz.kafka")


class RecordBatches:
    """Iterator of the batches that a fetch returned for one partition, with the interface of the clients' own."""

    def __init__(
        self,
        data: bytes,
        decoder: Callable[[Any], Any],
        legacy: Callable[[Any, int], Any],
        keep_bytes: int = KEEP_BYTES,
        budget: Budget | None = None,
        columns: ColumnDecoder | None = None,
    ) -> None:
        """decoder, legacy: the client's decoders: bytes of a batch of format 2; bytes of format 0 or 1 and its number.

        budget: when it is spent there is no further batch; the next fetch continues from there.
        columns: reads the records of an ordinary batch at once; None: they are decoded one by one.
        """
        self._data = memoryview(data)
        self._size = len(data)
        self._position = 0
        self._end: int | None = None  # end of the batch at the position; None: not known yet
        self.decoder = decoder
        self.legacy = legacy
        self.columns = columns
        self.keep_bytes = keep_bytes
        self.first_offset = 0  # first requested offset; earlier records of a batch are skipped
        self.budget = budget or Budget(FETCH_BYTES)

    def size_in_bytes(self) -> int:
        """Size of the whole fetch."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether there is another complete batch, and budget for it."""
        if self.budget.is_spent:
            return False
        while (end := self._end) is None:
            left = self._size - self._position
            if left < _MIN_BATCH_BYTES:
                return False
            base, length = _BATCH_START.unpack_from(self._data, self._position)
            # The last batch is usually incomplete, because a fetch ends after a given number of bytes.
            if not _MIN_BATCH_BYTES <= (size := length + _OVERHEAD_BYTES) <= left:
                return False
            end = self._position + size
            delta = 0
            if size >= _HEADER_BYTES and self._data[self._position + _MAGIC_AT] >= 2:
                (delta,) = _INT32.unpack_from(self._data, self._position + _LAST_DELTA_AT)
            if base + max(0, delta) < self.first_offset:
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
        return (
            RecordBatch(data, self) if len(data) >= _HEADER_BYTES and data[_MAGIC_AT] >= 2 else LegacyBatch(data, self)
        )

    def stop(self) -> None:
        """Return no further batch."""
        self._position, self._end = self._size, None


class RecordBatch:
    """A batch of message format 2: the fields of its header, and its records, which can be iterated over once."""

    magic = 2

    def __init__(self, data: memoryview, source: RecordBatches) -> None:
        self._data = data
        self._source = source
        self._own = own = source.decoder(data)  # the batch as decoded by the client
        self.base_offset: int = own.base_offset
        self.last_offset: int = self.base_offset + max(0, own.last_offset_delta)
        self.next_offset = self.last_offset + 1
        self.producer_id: int = own.producer_id
        self.is_transactional: bool = own.is_transactional
        self.is_control_batch: bool = own.is_control_batch
        self._fault: str | None = None  # why the batch cannot be read; empty: it is to be fetched again
        self._control: Iterator[Any] | None = None

    @property
    def leader_epoch(self) -> int:
        """Leader epoch of the broker that accepted the batch."""
        return int(self._own.leader_epoch)

    def validate_crc(self) -> bool:
        """Always true: a batch with a wrong checksum is fetched again, and the second time it is unreadable."""
        if self._own.validate_crc():
            return True
        self.is_control_batch = self.is_transactional = False
        if self.last_offset - self.base_offset >= MAX_BATCH_RECORDS:  # the delta is damaged, too
            self.last_offset, self.next_offset = self.base_offset, self.base_offset + 1
        if failed_before((self.base_offset, self._own.crc, len(self._data))):
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
            return self._unreadable_records(self.base_offset, self._fault) if self._fault else iter(())
        own, plain = self._own, self._data
        if codec := own.attributes & CODEC_BITS:
            compressed = self._data[_HEADER_BYTES:]
            if not self._count():
                return iter(())
            try:
                body = decompress(codec, compressed, MAX_CLIENT_DECODED_BYTES)
            except SizeLimitError:
                return self._one_by_one(decompressed_chunks(codec, compressed))
            except UnreadableBatchError as error:
                return self._unreadable_records(self.base_offset, str(error))
            if (columns := self._columns(body)) is not None:
                return columns
            plain = self._uncompressed(body)
            own = self._source.decoder(plain)
        elif (columns := self._columns(plain[_HEADER_BYTES:])) is not None:
            return columns
        if len(plain) > MAX_CLIENT_DECODED_BYTES:
            return self._one_by_one(split(plain[_HEADER_BYTES:]))
        try:
            records = list(own)
        except Exception as error:
            log.debug(
                "batch at offset %d: the client cannot decode it: %.200s; reading record by record",
                self.base_offset,
                repr(error),
            )
            return self._one_by_one(split(plain[_HEADER_BYTES:]))
        headers = [len(record.headers) for record in records]
        if not self._in_order([record.offset for record in records]) or max(headers, default=0) > MAX_HEADERS:
            return self._one_by_one(split(plain[_HEADER_BYTES:]))
        self._source.budget.spend(len(plain) + RECORD_BYTES * len(records) + HEADER_BYTES * sum(headers))
        if self.base_offset < self._source.first_offset:
            records = [r for r in records if r.offset >= self._source.first_offset]
        # A batch smaller than the limit holds no value above it.
        return iter(records) if len(plain) <= self._source.keep_bytes else self._truncate_values(records)

    def _columns(self, body: bytes | memoryview) -> Iterator[DecodedColumns] | None:
        """All records as columns; None if they have to be decoded."""
        source, count, size = self._source, self._count(), len(body) + _HEADER_BYTES
        if source.columns is None or size > MAX_CLIENT_DECODED_BYTES or not 0 < count <= len(body) // _MIN_RECORD_BYTES:
            return None
        is_append_time = bool(self._own.timestamp_type)  # of the broker, one for the batch
        time_ms = int(self._own.max_timestamp if is_append_time else self._own.first_timestamp)
        found = source.columns(
            bytes(body), count, self.base_offset, self.last_offset, time_ms, is_append_time, source.keep_bytes
        )
        if found is None:
            return None
        source.budget.spend(size + RECORD_BYTES * count + HEADER_BYTES * found.n_headers)
        part = found if self.base_offset >= source.first_offset else found.since(source.first_offset)
        return iter(() if part is None else (part,))

    def _count(self) -> int:
        return int(_INT32.unpack_from(self._data, _COUNT_AT)[0])

    def _in_order(self, offsets: Sequence[int]) -> bool:
        """Whether all offsets lie within the batch and ascend. Brokers also accept others."""
        base, last = self.base_offset, self.last_offset
        if offsets == list(range(base, base + len(offsets))):
            return base + len(offsets) <= last + 1
        return bool(base <= offsets[0] and offsets[-1] <= last and all(a < b for a, b in pairwise(offsets)))

    def _uncompressed(self, body: bytes) -> memoryview:
        """The same batch without compression. Its checksum no longer matches."""
        plain = bytearray(self._data[:_HEADER_BYTES]) + body
        struct.pack_into(">h", plain, _ATTRIBUTES_AT, self._own.attributes & ~CODEC_BITS)
        struct.pack_into(">i", plain, 8, len(plain) - _OVERHEAD_BYTES)
        return memoryview(plain)

    def _truncate_values(self, records: Iterable[Any]) -> Iterator[Any]:
        keep = self._source.keep_bytes
        for record in records:
            if record.value is not None and len(record.value) > keep:
                yield BatchRecord(
                    record.offset,
                    record.timestamp,
                    record.timestamp_type,
                    record.key,
                    TruncatedBytes.truncate(record.value, keep),
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
            yield from self._unreadable_records(offset, str(error))
            return
        if count > MAX_BATCH_RECORDS:
            yield from self._unreadable_records(offset, f"its batch holds more than {MAX_BATCH_RECORDS} records")

    def _read(self, stream: RecordStream, index: int, min_offset: int) -> BatchRecord:
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
            stream.take(1)  # attributes, unused in this format
            time_delta, delta = stream.varint(), stream.varint()
            key = stream.byte_string(end, keep)
            value = stream.byte_string(end, keep)
            headers = stream.headers(end)
        except FaultyRecordError as error:
            fault = str(error)
        if stream.position > end:
            raise UnreadableBatchError("a record is longer than its length field")
        if stream.position < end and not fault:
            fault = f"{end - stream.position} bytes follow its headers"
        stream.skip(end - stream.position)
        offset = self.base_offset + delta
        if not min_offset <= offset <= self.last_offset:
            offset = min_offset
        if fault:
            value, headers = Unreadable.with_reason(f"the record cannot be read: {fault}", offset), []
        return BatchRecord(offset, self._time(time_delta), self._own.timestamp_type, key, value, headers, None, length)

    def _time(self, delta: int) -> int:
        if self._own.timestamp_type:
            return int(self._own.max_timestamp)
        time = int(self._own.first_timestamp) + delta
        return (time + (1 << 63)) % (1 << 64) - (1 << 63)  # wraps at 64 bits, as in other clients

    def _unreadable_records(self, offset: int, reason: str) -> Iterator[BatchRecord]:
        reason = f"the record cannot be read: {reason}"
        offset = max(offset, self._source.first_offset)
        final = min(self.last_offset, offset + MAX_UNREADABLE)  # this record represents the rest of the batch
        for each in range(offset, final + 1):
            last = each if each < final else self.last_offset
            time = int(self._own.max_timestamp)
            self._source.budget.spend(RECORD_BYTES)
            yield BatchRecord(each, time, self._own.timestamp_type, None, Unreadable.with_reason(reason, last), [])


def _size(record: BatchRecord) -> int:
    """Approximate memory of a record in bytes."""
    headers = sum(len(name) + len(value or b"") + HEADER_BYTES for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers + RECORD_BYTES
