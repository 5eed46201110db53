"""Reading JSON that stands on a topic or in a file, whoever wrote it there."""

from typing import TypeVar

import msgspec

from schemas.record_parts import Partial

T = TypeVar("T")


def decode(value: bytes | None, type_: type[T]) -> T:
    """A JSON record of a type.

    Raises msgspec.DecodeError whatever is wrong with it: msgspec itself lets other errors out where a text is no UTF-8
    and where the nesting is too deep, and one such record would stop whoever reads it.

    >>> decode(b'{"a": "\\xff"}', dict)
    Traceback (most recent call last):
    ...
    msgspec.DecodeError: a text in it is not UTF-8
    """
    if isinstance(value, Partial):
        raise msgspec.DecodeError(f"it is of {value.size} bytes; at most {len(value)} are read")
    try:
        return msgspec.json.decode(value or b"", type=type_)
    except UnicodeDecodeError:
        raise msgspec.DecodeError("a text in it is not UTF-8") from None
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None
