"""Record batches encoded by hand, which Kafka's clients refuse to produce and brokers accept."""

import gzip
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple, Self

import cramjam
import crc32c

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_PRODUCE, _VERSION = 0, 7  # the last version without tagged fields


class RawRecord(NamedTuple):
    """A record of arbitrary bytes."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[bytes | None, bytes | None]] = ()
    timestamp_delta: int = 0


def varint(value: int) -> bytes:
    """Encode a 64-bit integer as Kafka's zigzag varint.

    >>> varint(0), varint(-1), varint(150)
    (b'\\x00', b'\\x01', b'\\xac\\x02')
    """
    return _SMALL_VARINTS[value] if 0 <= value < len(_SMALL_VARINTS) else _varint(value)


def _varint(value: int) -> bytes:
    rest = (value << 1) ^ (value >> 63)
    found = bytearray()
    while rest > 0x7F:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)


_SMALL_VARINTS = tuple(_varint(value) for value in range(4_096))  # covers most lengths and offsets


def _text(value: bytes | None) -> bytes:
    return b"\x01" if value is None else varint(len(value)) + value


def encode_record(record: RawRecord, offset_delta: int) -> bytes:
    """Encode a record for a batch, with its length first."""
    value, key, headers, timestamp_delta = record
    parts = [b"\x00", varint(timestamp_delta), varint(offset_delta), _text(key), _text(value), varint(len(headers))]
    for name, content in headers:
        parts += _text(name), _text(content)
    body = b"".join(parts)
    return varint(len(body)) + body


def compress(codec: int, data: bytes) -> bytes:
    """Compress `data` as Kafka's clients do. codec: index into `CODECS`."""
    match codec:
        case 1:
            return gzip.compress(data, 6)
        case 2:
            return bytes(cramjam.snappy.compress_raw(data))
        case 3:
            stream = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
            stream.compress(data)
            return bytes(stream.finish())
        case 4:
            return bytes(cramjam.zstd.compress(data, level=3))
    return data


def encode_batch(
    records: Sequence[RawRecord],
    *,
    codec: int = 0,
    timestamp: int = 1_580_515_200_000,
    max_timestamp: int | None = None,
    body: bytes | None = None,
) -> bytes:
    """Encode a record batch of message format 2. body: uncompressed bytes to send instead of the encoded records."""
    if body is None:
        body = b"".join(encode_record(record, i) for i, record in enumerate(records))
    last = timestamp + max((r.timestamp_delta for r in records), default=0) if max_timestamp is None else max_timestamp
    covered = struct.pack(">hiqqqhii", codec, len(records) - 1, timestamp, last, -1, -1, -1, len(records)) + compress(
        codec, body
    )
    after_length = struct.pack(">ibI", -1, 2, crc32c.crc32c(covered)) + covered
    return struct.pack(">qi", 0, len(after_length)) + after_length


class RawProducer:
    """Sends encoded batches to a broker that leads every partition."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, topic: str, partition: int, batch: bytes) -> tuple[int, int]:
        """Send one batch; returns Kafka's error code (0: accepted) and the offset of its first record."""
        name = topic.encode()
        body = b"".join(
            (
                struct.pack(">hhih", _PRODUCE, _VERSION, 1, -1),  # no client id
                struct.pack(">hhii", -1, -1, 30_000, 1),  # no transactional id; acks of all
                struct.pack(">h", len(name)) + name,
                struct.pack(">iii", 1, partition, len(batch)) + batch,
            )
        )
        self._socket.sendall(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", self._exactly(4))
        answer = self._exactly(size)
        at = 4 + 4 + 2 + len(name) + 4 + 4
        error, offset = struct.unpack_from(">hq", answer, at)
        return error, offset

    def _exactly(self, n: int) -> bytes:
        parts = []
        while n:
            part = self._socket.recv(min(n, 1 << 20))
            if not part:
                raise ConnectionError("the broker has closed the connection")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)
