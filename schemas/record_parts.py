"""Parts of a consumed record that are not as they were sent: cut, left out, or not readable. Pure.

Every reader of topics bounds what it keeps of a record (`stream_app.kafka.record_batches`); what is judged later is
judged by these types.
"""

import hashlib
from typing import Any

CUT_HEADERS_HEADER = "tamiz-cut-headers"  # decimal: how many headers of the original are cut or not forwarded


class Partial(bytes):
    """The beginning of a key or value that is too large to be kept."""

    size: int  # bytes of the whole
    sha256: str  # of the whole, lower-case hexadecimal

    @classmethod
    def of(cls, kept: bytes, size: int, sha256: str) -> "Partial":
        """kept: its first bytes."""
        made = cls(kept)
        made.size, made.sha256 = size, sha256
        return made

    @classmethod
    def cut(cls, whole: bytes, keep_bytes: int) -> "Partial":
        """Keep the first bytes of a value."""
        return cls.of(whole[:keep_bytes], len(whole), hashlib.sha256(whole).hexdigest())


class Unreadable(bytes):
    """Instead of the value of a record that cannot be read. It is empty."""

    reason: str
    last_offset: int  # of the records that it speaks for; most often its own

    @classmethod
    def because(cls, reason: str, last_offset: int) -> "Unreadable":
        """reason: what is wrong, as a dead letter says it."""
        made = cls()
        made.reason, made.last_offset = reason, last_offset
        return made


class LeftOut(tuple[str, bytes | None]):
    """The last header of a record that has too many: it says how many are left out. No producer can make one."""

    missing: int

    @classmethod
    def of(cls, count: int) -> "LeftOut":
        """count: headers that are left out."""
        made = cls((CUT_HEADERS_HEADER, b"%d" % count))
        made.missing = count
        return made


def left_out(headers: Any) -> int:
    """How many headers of a record were not kept. headers: a sequence, as a consumer gives it."""
    last = headers[-1] if headers else None
    return last.missing if type(last) is LeftOut else 0


def last_offset(record: Any) -> int:
    """The last offset that a record speaks for: its own, but for one that stands for the rest of a batch."""
    value = getattr(record, "value", None)
    return value.last_offset if type(value) is Unreadable else record.offset
