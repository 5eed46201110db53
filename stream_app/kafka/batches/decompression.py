"""Decompresses record batches within memory limits: kilobytes can expand to gigabytes. Pure.

The clients' own decoders decompress a whole batch at once, without a limit. `decompress` stops at a limit;
`decompressed_chunks` returns the content in chunks.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

import cramjam
import lz4.frame
import zstandard

CODEC_BITS = 0x07  # bits of a batch's attributes that name the codec
CHUNK_BYTES = 256 * 1024
MAX_ZSTD_WINDOW_BYTES = 1 << 27  # as in Kafka's own decoder; compression level 22 needs it
_GZIP_INPUT_BYTES = 4 * 1024
_XERIAL_MAGIC = b"\x82SNAPPY\x00"  # framing of the Java client: blocks of 32 kB, each after its length
_XERIAL_HEADER_BYTES = 16
# Three bytes of snappy expand to at most 64. A block that announces more is invalid and must not be allocated.
_MAX_SNAPPY_RATIO = 64


class UnreadableBatchError(ValueError):
    """A batch is damaged or of an unknown format."""


class SizeLimitError(UnreadableBatchError):
    """A batch decompresses to more than the limit."""


def decompress(codec: int, data: memoryview, limit_bytes: int) -> bytes:
    """Decompress all of `data`. codec: 1 gzip, 2 snappy, 3 lz4, 4 zstd.

    Raises SizeLimitError beyond `limit_bytes`, UnreadableBatchError if the data is damaged or the codec unknown.
    """
    parts, size = [], 0
    for part in decompressed_chunks(codec, data, limit_bytes + 1):
        size += len(part)
        if size > limit_bytes:
            raise SizeLimitError(f"it decompresses to more than {limit_bytes} bytes")
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decompressed_chunks(codec: int, data: memoryview, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Decompress `data` in chunks of at most `chunk_bytes` (snappy: of one block).

    Raises UnreadableBatchError if the data is damaged or the codec unknown.
    """
    if codec not in _CODECS:
        raise UnreadableBatchError(f"its codec {codec} is unknown; known are gzip, snappy, lz4 and zstd")
    try:
        yield from _CODECS[codec](data, chunk_bytes)
    except (zlib.error, zstandard.ZstdError, RuntimeError, cramjam.DecompressionError, struct.error, EOFError) as error:
        raise UnreadableBatchError(f"it cannot be decompressed: {error}") from None


def split(data: memoryview) -> Iterator[bytes]:
    """Split uncompressed data into chunks of at most `CHUNK_BYTES`."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield bytes(data[start : start + CHUNK_BYTES])


def _gzip(data: memoryview, chunk_bytes: int) -> Iterator[bytes]:
    """Decompress any number of concatenated gzip members. The input is small, because zlib copies the unread rest."""
    at = 0
    while at < len(data):
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        rest: bytes | memoryview = b""
        while not stream.eof:
            if not rest:
                rest = data[at : at + _GZIP_INPUT_BYTES]
                if not rest:
                    raise EOFError("the data ends too early")
                at += len(rest)
            part = stream.decompress(rest, chunk_bytes)
            rest = stream.unconsumed_tail
            if part:
                yield part
        at -= len(stream.unused_data)


def _snappy(data: memoryview, chunk_bytes: int) -> Iterator[bytes]:
    if bytes(data[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        yield _snappy_block(data)
        return
    position = _XERIAL_HEADER_BYTES
    while position < len(data):
        (size,) = struct.unpack_from(">i", data, position)
        position += 4
        if not 0 < size <= len(data) - position:
            raise EOFError(f"a block announces {size} bytes, {len(data) - position} are left")
        yield _snappy_block(data[position : position + size])
        position += size


def _snappy_block(block: memoryview) -> bytes:
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > _MAX_SNAPPY_RATIO * len(block):
        raise EOFError(f"a block of {len(block)} bytes announces {size} decompressed bytes")
    return bytes(cramjam.snappy.decompress_raw(block))


def _lz4(data: memoryview, chunk_bytes: int) -> Iterator[bytes]:
    stream = lz4.frame.LZ4FrameDecompressor()
    rest: bytes | memoryview = data
    while not stream.eof:
        part = stream.decompress(rest, chunk_bytes)
        rest = b""
        if part:
            yield part
        elif not stream.eof:
            raise EOFError("the data ends too early")


def _zstd(data: memoryview, chunk_bytes: int) -> Iterator[bytes]:
    codec = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
    with codec.stream_reader(data, read_across_frames=True) as stream:
        while part := stream.read(chunk_bytes):
            yield part


_CODECS: Mapping[int, Callable[[memoryview, int], Iterator[bytes]]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
