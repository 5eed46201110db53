"""Headers of a decision: their names, and the transaction's offset among them."""

from collections.abc import Sequence

from schemas.records import MAX_OFFSET

OFFSET_HEADER = "tamiz-offset"  # offset of the transaction, decimal
GROUP_HEADER = "tamiz-group"  # consumer group of the worker
# Trace headers that are forwarded, the first of each, and their largest lengths in bytes (W3C).
TRACE_HEADERS = {"traceparent": 55, "tracestate": 512}


def input_offset(headers: Sequence[tuple[str, bytes | None]]) -> int | None:
    """Offset of the transaction, by the headers of its decision; None if they do not state a valid one.

    >>> input_offset([("tamiz-offset", b"17")]), input_offset([("tamiz-offset", b"-1")]), input_offset([])
    (17, None, None)
    """
    found = next((value for name, value in headers if name == OFFSET_HEADER), None) or b""
    return int(found) if found.isdigit() and len(found) < 20 and int(found) <= MAX_OFFSET else None
