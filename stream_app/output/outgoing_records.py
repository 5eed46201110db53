"""Records to produce: encoded, all of a record that does not depend on its place in a record batch. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Self, overload

import numpy as np

from scoring.arrays import Ints
from stream_app.output.byte_columns import ByteColumn, byte_column


class OutgoingRecord(NamedTuple):
    """A record to produce to the partition number of its transaction."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class OutgoingRecords(Sequence[OutgoingRecord]):
    """Records to produce, encoded: all of a record that does not depend on its place in a record batch.

    A body is the key, the value and the headers in the record format of Kafka.
    """

    def __init__(self, partitions: Ints, bodies: ByteColumn) -> None:
        """partitions: of each record; each partition's records are in their order."""
        self._partitions = partitions
        self.bodies = bodies
        bodies.data.flags.writeable = False  # arrays of two kinds would be compiled for twice

    @classmethod
    def of(cls, records: Iterable[OutgoingRecord]) -> Self:
        """Encode some records."""
        encoded = [(record.partition, encode_body(record)) for record in records]
        partitions = np.array([partition for partition, _ in encoded], np.int64)
        return cls(partitions, byte_column([body for _, body in encoded]))

    @classmethod
    def concatenate(cls, parts: "Sequence[OutgoingRecords]") -> "OutgoingRecords":
        """All records of some parts, in order."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return NO_RECORDS
        before = np.cumsum([0, *(part.bodies.size for part in parts[:-1])])
        ends = [part.bodies.ends + start for part, start in zip(parts, before, strict=True)]
        bodies = ByteColumn(np.concatenate([part.bodies.data for part in parts]), np.concatenate(ends))
        return cls(np.concatenate([part._partitions for part in parts]), bodies)

    @cached_property
    def by_partition(self) -> "Mapping[int, OutgoingRecords]":
        """The records of each partition, in order."""
        partitions, n = self._partitions, len(self._partitions)
        if n == 0:
            return {}
        starts = [0, *(np.flatnonzero(partitions[1:] != partitions[:-1]) + 1).tolist(), n]
        firsts = partitions[starts[:-1]].tolist()
        parts: dict[int, list[OutgoingRecords]] = {}
        for partition, start, end in zip(firsts, starts[:-1], starts[1:], strict=True):
            parts.setdefault(partition, []).append(self._between(start, end))
        return {partition: self.concatenate(own) for partition, own in parts.items()}

    def _between(self, first: int, end: int) -> "OutgoingRecords":
        if end - first == len(self):
            return self
        data, ends = self.bodies
        start = ends[first - 1] if first else 0
        bodies = ByteColumn(data[start : ends[end - 1]], ends[first:end] - start)
        return OutgoingRecords(self._partitions[first:end], bodies)

    def __len__(self) -> int:
        return len(self._partitions)

    @overload
    def __getitem__(self, row: int) -> OutgoingRecord: ...

    @overload
    def __getitem__(self, row: slice) -> list[OutgoingRecord]: ...

    def __getitem__(self, row: int | slice) -> OutgoingRecord | list[OutgoingRecord]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(row)
        start = int(self.bodies.ends[row - 1]) if row else 0
        body = self.bodies.data[start : self.bodies.ends[row]].tobytes()
        return OutgoingRecord(int(self._partitions[row]), *_decode_body(body))

    def __iter__(self) -> Iterator[OutgoingRecord]:
        data, start = self.bodies.data.tobytes(), 0
        for partition, end in zip(self._partitions.tolist(), self.bodies.ends.tolist(), strict=True):
            yield OutgoingRecord(partition, *_decode_body(data[start:end]))
            start = end

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same records in the same order."""
        if not isinstance(other, OutgoingRecords):
            return NotImplemented
        return (
            np.array_equal(self._partitions, other._partitions)
            and np.array_equal(self.bodies.ends, other.bodies.ends)
            and np.array_equal(self.bodies.data, other.bodies.data)
        )

    __hash__ = None  # type: ignore[assignment]  # its arrays can change


def encode_body(record: OutgoingRecord) -> bytes:
    """The body of a record, see `OutgoingRecords`."""
    parts = [nullable(record.key), nullable(record.value), varint(len(record.headers)), encode_headers(record.headers)]
    return b"".join(parts)


def encode_headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Headers in the record format of Kafka, without their number before them."""
    return b"".join([part for name, value in headers for part in (nullable(name.encode()), nullable(value))])


def nullable(value: bytes | None) -> bytes:
    """A byte string with its length before it."""
    return b"\x01" if value is None else varint(len(value)) + value


def varint(number: int) -> bytes:
    r"""A number that is not negative, in the variable-length format of Kafka's records (zigzag).

    >>> varint(1), varint(63), varint(64)
    (b'\x02', b'~', b'\x80\x01')
    """
    bits, encoded = number << 1, bytearray()
    while bits > 127:
        encoded.append(bits & 127 | 128)
        bits >>= 7
    encoded.append(bits)
    return bytes(encoded)


def _decode_body(body: bytes) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    at = 0

    def number() -> int:
        nonlocal at
        bits, shift = body[at], 7
        at += 1
        if bits > 127:
            bits &= 127
            while True:
                byte = body[at]
                at += 1
                bits |= (byte & 127) << shift
                if byte < 128:
                    break
                shift += 7
        return (bits >> 1) ^ -(bits & 1)

    def text() -> bytes | None:
        nonlocal at
        size = number()
        if size < 0:
            return None
        at += size
        return body[at - size : at]

    key, value = text(), text()
    return key, value, [((text() or b"").decode(), text()) for _ in range(number())]


NO_RECORDS = OutgoingRecords(np.zeros(0, np.int64), byte_column([]))
