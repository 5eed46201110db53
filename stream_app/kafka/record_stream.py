"""A record batch's bytes, in pieces as they are decompressed -> numbers, texts, headers, within bounds. Pure."""

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from schemas.record_parts import OmittedHeaders, TruncatedBytes
from scoring.input.admission import MAX_HEADER_BYTES, MAX_HEADERS
from stream_app.kafka.decompression import CHUNK_BYTES, UnreadableBatchError

MAX_BATCH_BYTES = 128 * 1024 * 1024  # decompressed; what comes after it in a batch is unreadable
RECORD_BYTES = 256  # that a record takes in memory beside its parts, about
HEADER_BYTES = 128  # likewise a header

Headers = list[tuple[str, bytes | None]]


class BatchRecord(NamedTuple):
    """A record, with what aiokafka's and kafka-python's consumers ask of one."""

    offset: int
    timestamp: int  # ms; -1 for none
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    checksum: int | None = None
    size_in_bytes: int = 0

    def validate_crc(self) -> bool:
        """The checksum is the batch's, and was looked at."""
        return True


class Budget:
    """How many bytes of records may still be read; who shares it stops when it is spent, and goes on with the next."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._left_bytes = total_bytes

    def renew(self) -> None:
        """Give all of it again."""
        self._left_bytes = self._total_bytes

    def spend(self, n: int) -> None:
        """n: bytes that were read."""
        self._left_bytes -= n

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self._left_bytes <= 0


class FaultyRecordError(Exception):
    """The parts of a record contradict each other; where it ends is known."""


class RecordStream:
    """Bytes that come in pieces."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._buffer = b""
        self._at = 0
        self._read = 0
        self.position = 0  # since the beginning

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if len(self._buffer) - self._at < n:
            self._fill(n)
        found = self._buffer[self._at : self._at + n]
        self._at += n
        self.position += n
        return found

    def varint(self) -> int:
        """The next number, zigzag-encoded, of at most 64 bits."""
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
        raise UnreadableBatchError("a number in it has no end")

    def text(self, end: int, keep_bytes: int) -> bytes | None:
        """The next key or value; None for null."""
        size = self.varint()
        if size < 0:
            return None
        if size > end - self.position:
            raise FaultyRecordError(f"{size} bytes are announced and {end - self.position} left")
        if size <= keep_bytes:
            return self.take(size)
        kept = self.take(keep_bytes)
        digest = hashlib.sha256(kept)
        self.pass_over(size - keep_bytes, digest.update)
        return TruncatedBytes.of(kept, size, digest.hexdigest())

    def headers(self, end: int) -> Headers:
        """The headers up to the record's end: the first `MAX_HEADERS`, as far as they fit into `MAX_HEADER_BYTES`.

        What is beyond that is not read; then an `OmittedHeaders` is the last one.
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
            name, value = self.text(end, left), self.text(end, left)
            if self.position - begin > MAX_HEADER_BYTES:
                break
            found.append(((name or b"").decode("utf-8", "backslashreplace"), value))
        if len(found) < count:
            found.append(OmittedHeaders.of(count - len(found)))
            self.pass_over(end - self.position)
        return found

    def pass_over(self, n: int, see: Callable[[bytes], object] = lambda part: None) -> None:
        """Read n bytes and keep none."""
        while n > 0:
            part = self.take(min(n, CHUNK_BYTES))
            see(part)
            n -= len(part)

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
            raise UnreadableBatchError("its batch ends in the middle of a record")
        self._buffer, self._at = b"".join(held), 0
