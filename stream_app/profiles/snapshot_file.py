"""The file format of a snapshot: the profiles of one input partition up to an offset.

A file is the magic bytes, the format number, and one Zstandard frame. The frame holds the length of the header, the
header as JSON, the content of each array in the order of the header, and a checksum of all that (XXH3, 64 bits). So a
read detects any damage, and a file that ends early. Zstandard's own checksum does not suffice: a flipped bit in the
frame's first byte can switch it off.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import xxhash
import zstandard

from scoring.arrays import Array

MAGIC = b"TAMIZPRO"
FORMAT = 1
LEVEL = 1  # of Zstandard: a few percent larger than level 3, twice as fast
CHUNK_BYTES = 1024 * 1024  # written at once; the interpreter's lock is released meanwhile
MAX_HEADER_BYTES = 1024 * 1024
_START = struct.Struct("<8sI")  # magic bytes, format number
_LENGTH = struct.Struct("<I")
_KINDS = "biuf"  # kinds of NumPy's numeric types


class SnapshotError(ValueError):
    """A snapshot cannot be read: damaged, incomplete, or of another format."""


class SnapshotPosition(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is a snapshot of."""

    topic: str
    topic_id: str  # Kafka's id of the topic; empty if the broker gives none
    partition: int
    next_offset: int  # every record below is folded
    digest: str  # of the declaration's profiles


class ArrayHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Name and layout of one array."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class SnapshotHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The header of a file."""

    position: SnapshotPosition
    arrays: tuple[ArrayHeader, ...]


class Snapshot(NamedTuple):
    """The state of one partition: arrays of numbers, of at least one dimension."""

    position: SnapshotPosition
    arrays: Mapping[str, Array]


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot. The caller makes the write atomic."""
    arrays = {name: np.ascontiguousarray(array) for name, array in snapshot.arrays.items()}
    layouts = tuple(ArrayHeader(name=name, dtype=a.dtype.str, shape=a.shape) for name, a in arrays.items())
    header = msgspec.json.encode(SnapshotHeader(position=snapshot.position, arrays=layouts))
    with path.open("wb") as file:
        file.write(_START.pack(MAGIC, FORMAT))
        checksum = xxhash.xxh3_64()
        with zstandard.ZstdCompressor(level=LEVEL).stream_writer(file, closefd=False) as writer:
            for content in (memoryview(_LENGTH.pack(len(header)) + header), *map(_bytes, arrays.values())):
                for at in range(0, len(content), CHUNK_BYTES):
                    chunk = content[at : at + CHUNK_BYTES]
                    checksum.update(chunk)
                    writer.write(chunk)
            writer.write(checksum.digest())


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot. Raises SnapshotError if it is damaged, OSError if it cannot be read."""
    with path.open("rb") as file:
        start = file.read(_START.size)
        if len(start) < _START.size or _START.unpack(start)[0] != MAGIC:
            raise SnapshotError("it is not a snapshot of profiles")
        if (number := _START.unpack(start)[1]) != FORMAT:
            raise SnapshotError(f"its format is {number}, not {FORMAT}")
        try:
            return _read_frame(file)
        except (zstandard.ZstdError, msgspec.MsgspecError, TypeError, MemoryError, OverflowError) as error:
            raise SnapshotError(f"it is damaged: {error}") from None


def _read_frame(file: BinaryIO) -> Snapshot:
    checksum = xxhash.xxh3_64()
    with zstandard.ZstdDecompressor().stream_reader(file, closefd=False) as reader:
        (length,) = _LENGTH.unpack(_fill(bytearray(_LENGTH.size), reader, checksum))
        if length > MAX_HEADER_BYTES:
            raise SnapshotError(f"it is damaged: its header has {length} bytes")
        header = msgspec.json.decode(_fill(bytearray(length), reader, checksum), type=SnapshotHeader)
        arrays = {}
        for layout in header.arrays:
            dtype = np.dtype(layout.dtype)
            if dtype.kind not in _KINDS or min(layout.shape, default=0) < 0:
                raise SnapshotError(f"it is damaged: array {layout.name} has type {dtype} and shape {layout.shape}")
            arrays[layout.name] = array = np.empty(layout.shape, dtype=dtype)
            _fill(_bytes(array), reader, checksum)
        expected = checksum.digest()
        if _fill(bytearray(len(expected)), reader, checksum) != expected or reader.read(1):
            raise SnapshotError("it is damaged: its checksum is wrong")
        return Snapshot(header.position, arrays)


def _bytes(array: Array) -> Any:
    content: Any = array.reshape(-1).view(np.uint8)
    return memoryview(content)


def _fill(into: Any, reader: Any, checksum: Any) -> Any:
    """Fill a buffer from a reader, and return it."""
    view, at = memoryview(into), 0
    while at < len(view):
        read = reader.readinto(view[at : at + CHUNK_BYTES])
        if not read:
            raise SnapshotError("it is damaged: it ends early")
        checksum.update(view[at : at + read])
        at += read
    return into
