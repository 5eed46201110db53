"""Payloads of a batch as columns: one buffer and the place of each payload in it, no Python object per payload."""

from collections.abc import Iterator, Sequence
from typing import Self, overload

import numpy as np

from scoring.arrays import Bytes, Ints


class Payloads(Sequence[bytes | None]):
    """The payloads of n records in one buffer. As a sequence, it has the bytes of each; None for a null.

    >>> payloads = Payloads.of([b"{}", None, b"[]"])
    >>> len(payloads), payloads[1], list(payloads)
    (3, None, [b'{}', None, b'[]'])
    """

    __slots__ = ("buffer", "ends", "starts")

    def __init__(self, buffer: bytes | bytearray | memoryview | Bytes, starts: Ints, ends: Ints) -> None:
        """buffer: must not change while it is read. starts, ends: shape (n,), int64; the start of a null is -1."""
        view = np.frombuffer(buffer, dtype=np.uint8) if len(buffer) else np.empty(0, dtype=np.uint8)
        view.flags.writeable = False  # compiled loops have one signature: of buffers that are read only
        self.buffer: Bytes = view
        self.starts, self.ends = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(ends, np.int64)

    @classmethod
    def of(cls, payloads: Sequence[bytes | None]) -> Self:
        """The payloads joined into one buffer; payloads that are columns already are returned as they are."""
        if isinstance(payloads, cls):
            return payloads
        n = len(payloads)
        try:
            buffer = b"".join(payloads)  # type: ignore[arg-type]
            ends = np.fromiter(map(len, payloads), np.int64, n).cumsum()  # type: ignore[arg-type]
        except TypeError:  # a null
            lengths = np.fromiter((-1 if p is None else len(p) for p in payloads), np.int64, n)
            ends = np.maximum(lengths, 0).cumsum()
            return cls(b"".join(p for p in payloads if p), np.where(lengths < 0, -1, ends - lengths), ends)
        starts = np.zeros(n, dtype=np.int64)
        starts[1:] = ends[:-1]
        return cls(buffer, starts, ends)

    def at(self, rows: Ints) -> "list[bytes | None]":
        """The payloads of some rows."""
        return [self[row] for row in rows.tolist()]

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, row: int) -> bytes | None: ...
    @overload
    def __getitem__(self, row: slice) -> "Payloads": ...
    def __getitem__(self, row: int | slice) -> "bytes | Payloads | None":
        if isinstance(row, slice):
            return Payloads(self.buffer, self.starts[row], self.ends[row])
        start = int(self.starts[row])
        return None if start < 0 else self.buffer[start : int(self.ends[row])].tobytes()

    def __iter__(self) -> Iterator[bytes | None]:
        whole = self.buffer.data
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield None if start < 0 else bytes(whole[start:end])
