"""Decodes the fields of records from the chunks of a decompressed batch, within memory bounds. Pure."""

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from schemas.record_parts import OmittedHeaders, TruncatedBytes
from scoring.input.admission import MAX_HEADER_BYTES, MAX_HEADERS
from stream_app.kafka.batches.decompression import CHUNK_BYTES, UnreadableBatchError

MAX_BATCH_BYTES = 128 * 1024 * 1024  # decompressed; records beyond it are unreadable
RECORD_BYTES = 256  # approximate memory overhead of a record
HEADER_BYTES = 128  # approximate memory overhead of a header

Headers = list[tuple[str, bytes | None]]


class BatchRecord(NamedTuple):
    """A record with the attributes that aiokafka's and kafka-python's consumers need."""

    offset: int
    timestamp: int  # ms; -1 for none
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    checksum: int | None = None
    size_in_bytes: int = 0

    def validate_crc(self) -> bool:
        """Always true: the checksum belongs to the batch and was verified there."""
        return True


class Budget:
    """A budget of bytes that may still be decoded, shared by several readers, which stop when it is spent."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._left_bytes = total_bytes

    def renew(self) -> None:
        """Reset to the total."""
        self._left_bytes = self._total_bytes

    def spend(self, n: int) -> None:
        """Subtract n bytes."""
        self._left_bytes -= n

    @property
    def left_bytes(self) -> int:
        """What is left; negative if more was spent."""
        return self._left_bytes

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self._left_bytes <= 0


class FaultyRecordError(Exception):
    """The lengths within a record contradict each other. The end of the record is known."""


class RecordStream:
    """Reads fields from an iterator of byte chunks."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._buffer = b""
        self._at = 0
        self._read = 0
        self.position = 0  # bytes read since the start

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if len(self._buffer) - self._at < n:
            self._fill(n)
        found = self._buffer[self._at : self._at + n]
        self._at += n
        self.position += n
        return found

    def varint(self) -> int:
        """The next zigzag-encoded varint, of at most 64 bits."""
        if len(self._buffer) - self._at < 10:
            self._fill(10, needed=1)
        found = shift = 0
        buffer, at = self._buffer, self._at
        while shift < 70 and at < len(buffer):
            byte = buffer[at]
            at += 1
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.position += at - self._at
                self._at = at
                return (found >> 1) ^ -(found & 1)
            shift += 7
        raise UnreadableBatchError("it contains a number longer than 64 bits")

    def byte_string(self, end: int, keep_bytes: int) -> bytes | None:
        """The next key or value; None for null. One longer than `keep_bytes` becomes a `TruncatedBytes`."""
        size = self.varint()
        if size < 0:
            return None
        if size > end - self.position:
            raise FaultyRecordError(f"{size} bytes are announced, {end - self.position} are left")
        if size <= keep_bytes:
            return self.take(size)
        kept = self.take(keep_bytes)
        digest = hashlib.sha256(kept)
        self.skip(size - keep_bytes, digest.update)
        return TruncatedBytes.of(kept, size, digest.hexdigest())

    def headers(self, end: int) -> Headers:
        """The headers of a record: at most `MAX_HEADERS`, at most `MAX_HEADER_BYTES` in total.

        Further headers are skipped; the last one is then an `OmittedHeaders` with their number.
        """
        count = self.varint()
        if not 0 <= count <= end - self.position:
            raise FaultyRecordError(f"it announces {count} headers")
        found: Headers = []
        begin = self.position
        for _ in range(count):
            if len(found) == MAX_HEADERS:
                break
            left = MAX_HEADER_BYTES - (self.position - begin)
            name, value = self.byte_string(end, left), self.byte_string(end, left)
            if self.position - begin > MAX_HEADER_BYTES:
                break
            found.append(((name or b"").decode("utf-8", "backslashreplace"), value))
        if len(found) < count:
            found.append(OmittedHeaders.of(count - len(found)))
            self.skip(end - self.position)
        return found

    def skip(self, n: int, on_chunk: Callable[[bytes], object] = lambda chunk: None) -> None:
        """Read and discard n bytes. on_chunk: called with each chunk."""
        while n > 0:
            chunk = self.take(min(n, CHUNK_BYTES))
            on_chunk(chunk)
            n -= len(chunk)

    def _fill(self, n: int, needed: int | None = None) -> None:
        held = [self._buffer[self._at :]]
        size = len(held[0])
        while size < n:
            part = next(self._parts, None)
            if part is None:
                break
            self._read += len(part)
            if self._read > MAX_BATCH_BYTES:
                raise UnreadableBatchError(f"its batch decompresses to more than {MAX_BATCH_BYTES} bytes")
            held.append(part)
            size += len(part)
        if size < (n if needed is None else needed):
            raise UnreadableBatchError("its batch ends within a record")
        self._buffer, self._at = b"".join(held), 0
