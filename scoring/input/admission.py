"""Checks of a record before its payload is decoded: completeness, size of key and headers, transaction id. Pure."""

from collections.abc import Sequence
from typing import Any

from schemas.record_parts import TruncatedBytes, Unreadable, omitted_headers
from schemas.records import Rejection
from schemas.transaction_ids import MAX_ID_LENGTH, TRANSACTION_ID_HEADER, readable_id, sent_id

MAX_KEY_BYTES = 4_096  # a transaction with a longer record key becomes a dead letter
MAX_HEADERS = 128  # a record with more headers, or more bytes of them, becomes a dead letter
MAX_HEADER_BYTES = 4 * 1024 * 1024  # of all names and values together
SHOWN_BYTES = 25  # of a header value in a message; escaping makes it up to four times as long


def reject_records(records: Sequence[Any], max_payload_bytes: int) -> dict[int, Rejection]:
    """Rejections of records that become dead letters independently of their payload, by position in `records`."""
    unfit = {}
    for row, record in enumerate(records):
        key, kind = record.key, type(record.value)
        if kind is Unreadable or kind is TruncatedBytes:
            unfit[row] = _not_whole(row, record, max_payload_bytes)
        elif key is not None and len(key) > MAX_KEY_BYTES:
            size = key.size if isinstance(key, TruncatedBytes) else len(key)
            expected = f"a record key of at most {MAX_KEY_BYTES} bytes"
            unfit[row] = _whole_record(
                row, code="key-too-large", value=f"a record key of {size} bytes", expected=expected
            )
        elif (missing := omitted_headers(record.headers)) > 0:
            expected = f"at most {MAX_HEADERS} record headers, of at most {MAX_HEADER_BYTES} bytes together"
            value = f"a record with headers of which {missing} are not read"
            unfit[row] = _whole_record(row, code="headers-too-large", value=value, expected=expected)
        elif record.headers and (sent := sent_id(record.headers)) and readable_id(sent) is None:
            unfit[row] = Rejection(
                row=row,
                code="invalid-transaction-id",
                field=TRANSACTION_ID_HEADER,
                value=f"{len(sent)} bytes that begin {sent[:SHOWN_BYTES]!r}",
                expected=f"a header of printable UTF-8, at most {MAX_ID_LENGTH} characters",
            )
    return unfit


def _not_whole(row: int, record: Any, max_payload_bytes: int) -> Rejection:
    value = record.value
    if isinstance(value, TruncatedBytes):
        return _whole_record(
            row, code="too-large", value=f"{value.size} bytes", expected=f"at most {max_payload_bytes} bytes"
        )
    seen = value.reason
    if value.last_offset > record.offset:
        seen += f"; this dead letter represents all records up to offset {value.last_offset}"
    return _whole_record(
        row, code="unreadable", value=seen, expected="a record that can be decoded; it is still in its topic"
    )


def _whole_record(row: int, *, code: str, value: str, expected: str) -> Rejection:
    return Rejection(row=row, code=code, field=None, value=value, expected=expected)
