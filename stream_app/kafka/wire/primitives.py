"""Texts and arrays of Kafka's protocol, as they are in requests and responses that are not flexible."""

import struct

INT32 = struct.Struct(">i")
_INT16 = struct.Struct(">h")
NULL = _INT16.pack(-1)  # in place of a text


def encode_text(text: str) -> bytes:
    """A text with its length."""
    encoded = text.encode()
    return _INT16.pack(len(encoded)) + encoded


def decode_topic(data: bytes, at: int) -> tuple[str, int, int]:
    """A topic, the number of its partitions, and the position of the first one."""
    (size,) = _INT16.unpack_from(data, at)
    end = at + _INT16.size + size
    (n_partitions,) = INT32.unpack_from(data, end)
    return data[end - size : end].decode(), n_partitions, end + INT32.size
