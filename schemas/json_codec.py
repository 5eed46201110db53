"""Decoding of JSON records from topics and files."""

from typing import TypeVar

import msgspec

from schemas.record_parts import TruncatedBytes

T = TypeVar("T")


def decode(value: bytes | None, type_: type[T]) -> T:
    """Decode a JSON record.

    Raises msgspec.DecodeError for any invalid input. msgspec itself raises other errors for invalid UTF-8 and for deep
    nesting; a reader that does not expect those would crash on such a record.

    >>> decode(b'{"a": "\\xff"}', dict)
    Traceback (most recent call last):
    ...
    msgspec.DecodeError: a text in it is not UTF-8
    """
    if isinstance(value, TruncatedBytes):
        raise msgspec.DecodeError(f"it has {value.size} bytes; at most {len(value)} are read")
    try:
        return msgspec.json.decode(value or b"", type=type_)
    except UnicodeDecodeError:
        raise msgspec.DecodeError("a text in it is not UTF-8") from None
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None
