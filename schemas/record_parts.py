"""Types for parts of a consumed record that are truncated, omitted or unreadable. Pure.

Every reader of topics bounds the size of what it keeps of a record (`stream_app.kafka.batches.record_batches`). Later
checks recognise a bounded part by its type.
"""

import hashlib
from typing import Any

TRUNCATED_HEADERS_HEADER = (
    "tamiz-truncated-headers"  # decimal: number of original headers that are truncated or not forwarded
)


class TruncatedBytes(bytes):
    """A truncated key or value: its first bytes."""

    size: int  # of the whole, in bytes
    sha256: str  # of the whole, lower-case hexadecimal

    @classmethod
    def of(cls, kept: bytes, size: int, sha256: str) -> "TruncatedBytes":
        """Build one from its parts. kept: the first bytes."""
        made = cls(kept)
        made.size, made.sha256 = size, sha256
        return made

    @classmethod
    def truncate(cls, whole: bytes, keep_bytes: int) -> "TruncatedBytes":
        """Truncate a value to its first `keep_bytes` bytes."""
        return cls.of(whole[:keep_bytes], len(whole), hashlib.sha256(whole).hexdigest())


class Unreadable(bytes):
    """Placeholder for the value of an unreadable record. It is empty."""

    reason: str
    last_offset: int  # of the records that it represents; usually the record's own offset

    @classmethod
    def with_reason(cls, reason: str, last_offset: int) -> "Unreadable":
        """Build one. reason: what is wrong, in the words of the dead letter."""
        made = cls()
        made.reason, made.last_offset = reason, last_offset
        return made


class OmittedHeaders(tuple[str, bytes | None]):
    """Last header of a record with too many headers: states how many are omitted. No producer can create one."""

    missing: int

    @classmethod
    def of(cls, count: int) -> "OmittedHeaders":
        """Build one. count: number of omitted headers."""
        made = cls((TRUNCATED_HEADERS_HEADER, b"%d" % count))
        made.missing = count
        return made


def omitted_headers(headers: Any) -> int:
    """Number of omitted headers of a record. headers: the sequence that the consumer returned."""
    last = headers[-1] if headers else None
    return last.missing if type(last) is OmittedHeaders else 0


def last_offset(record: Any) -> int:
    """Last offset that a record represents: its own, unless it is a placeholder for the rest of a batch."""
    value = getattr(record, "value", None)
    return value.last_offset if type(value) is Unreadable else record.offset
