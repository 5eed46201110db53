"""Reader of UBJSON (draft 12), in which XGBoost saves trees: numbers keep all their bits, unlike in JSON."""

import struct
from typing import Any

import numpy as np

_NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_CONSTANTS = {"Z": None, "T": True, "F": False}


def read_ubjson(content: bytes) -> Any:
    """Decode a document. An array of one numeric type becomes a NumPy array in the machine's byte order.

    Raises ValueError if the document is malformed or truncated.
    """
    try:
        return _Reader(content).value()
    except (IndexError, KeyError, struct.error, RecursionError) as error:
        raise ValueError(f"not UBJSON: {error!r}") from None


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def value(self, marker: str | None = None) -> Any:
        marker = marker or self._marker()
        if marker in _NUMBERS:
            return self._numbers(marker, 1)[0].item()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in "SC":
            return self._text(self._length() if marker == "S" else 1)
        if marker == "[":
            return self._array()
        if marker == "{":
            return self._object()
        raise ValueError(f"not UBJSON: marker {marker!r} at byte {self._at - 1}")

    def _array(self) -> Any:
        kind = self._marker() if self._skip("$") else None
        if not self._skip("#"):
            values = []
            while not self._skip("]"):
                values.append(self.value(kind))
            return values
        n = self._length()
        return self._numbers(kind, n) if kind in _NUMBERS else [self.value(kind) for _ in range(n)]

    def _object(self) -> dict[str, Any]:
        found = {}
        while not self._skip("}"):
            name = self._text(self._length())
            found[name] = self.value()
        return found

    def _numbers(self, kind: str, n: int) -> Any:
        form = np.dtype(_NUMBERS[kind])
        start, self._at = self._at, self._at + n * form.itemsize
        if not start <= self._at <= len(self._content):
            raise ValueError(f"not UBJSON: {n} numbers at byte {start} of {len(self._content)}")
        return np.frombuffer(self._content, form, n, start).astype(form.newbyteorder("="))

    def _length(self) -> int:
        return int(self._numbers(self._marker(), 1)[0])

    def _text(self, n: int) -> str:
        start, self._at = self._at, self._at + n
        if not start <= self._at <= len(self._content):
            raise ValueError(f"not UBJSON: a text of {n} bytes at byte {start} of {len(self._content)}")
        return self._content[start : self._at].decode()

    def _marker(self) -> str:
        self._at += 1
        return chr(self._content[self._at - 1])

    def _skip(self, marker: str) -> bool:
        found = self._content[self._at] == ord(marker)
        self._at += found
        return found
