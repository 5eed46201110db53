"""Finds the records in the bytes of a decompressed batch of message format 2: one compiled loop, no object per record.

It accepts ordinary records only, and refuses the whole batch otherwise: `record_batches` then reads it record by
record. What it accepts has the values that the client's decoder reads.
"""

import numpy as np

from scoring.arrays import Array, Ints
from scoring.compilation import compiled, compiled_inline
from scoring.input.admission import MAX_HEADERS

# Columns of a table of records. Positions are in the batch's bytes; -1 for null.
OFFSET, TIME, KEY_START, KEY_END, VALUE_START, VALUE_END, HEADERS_START, HEADERS = range(8)
COLUMNS = 8
_HEADER_COLUMNS = 4  # start and end of the name, start and end of the value
_END_OF_BITS = 63  # longer numbers are refused; only timestamps before the year 1 need them


@compiled_inline
def _varint(data: Array, at: int, stop: int) -> tuple[int, int]:
    """A zigzag-encoded number and the position after it; -1 if it does not end before `stop`."""
    found = np.int64(0)
    shift = 0
    after = -1
    while shift < _END_OF_BITS and at < stop:
        byte = np.int64(data[at])
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            after = at
            break
        shift += 7
    return (found >> 1) ^ -(found & 1), after  # type: ignore[return-value]  # NumPy's integers


@compiled
def scan_rows(
    data: Array,
    start: int,
    stop: int,
    batch: tuple[int, int, int, bool],
    max_value_bytes: int,
    table: Ints,
    first_row: int,
    count: int,
) -> int:
    """Fill rows of a table with the records of a batch. Returns the number of their headers; -1 if one is not ordinary.

    Offsets must ascend from the batch's first to at most its last, lengths must agree, and header names must be ASCII.
    data: uint8; the records are between `start` and `stop`. batch: first and last offset; time of all records if the
    last value is true, else what their times are relative to. table: shape (COLUMNS, n).
    """
    base_offset, last_offset, time_ms, is_append_time = batch
    at, n_headers = start, 0
    previous = base_offset - 1
    for i in range(first_row, first_row + count):
        length, at = _varint(data, at, stop)
        if at < 0 or length <= 0 or length > stop - at or data[at] != 0:  # the first byte: attributes, unused
            return -1
        end = at + length
        time_delta, at = _varint(data, at + 1, stop)
        if at < 0:
            return -1
        delta, at = _varint(data, at, stop)
        if at < 0 or delta < 0 or base_offset + delta <= previous or delta > last_offset - base_offset:
            return -1
        previous = base_offset + delta
        table[OFFSET, i] = previous
        table[TIME, i] = time_ms if is_append_time else time_ms + time_delta
        for column in (KEY_START, VALUE_START):
            size, at = _varint(data, at, stop)
            if at < 0 or size > end - at or (column == VALUE_START and size > max_value_bytes):
                return -1
            table[column, i] = at if size >= 0 else -1
            at += max(0, size)
            table[column + 1, i] = at if size >= 0 else -1
        headers, at = _varint(data, at, stop)
        if at < 0 or headers < 0 or headers > MAX_HEADERS:
            return -1
        table[HEADERS_START, i] = at
        table[HEADERS, i] = headers
        n_headers += headers
        for _ in range(headers):
            size, at = _varint(data, at, stop)
            if at < 0 or size < 0 or size > end - at:
                return -1
            for j in range(at, at + size):
                if data[j] > 0x7F:
                    return -1
            size, at = _varint(data, at + size, stop)
            if at < 0 or size > end - at:
                return -1
            at += max(0, size)
        if at != end:
            return -1
    return n_headers if at == stop else -1


@compiled
def scan_records(
    data: Array,
    base_offset: int,
    last_offset: int,
    time_ms: int,
    is_append_time: bool,
    max_value_bytes: int,
    table: Ints,
) -> int:
    """As `scan_rows`, for all bytes and the whole table."""
    batch = base_offset, last_offset, time_ms, is_append_time
    return scan_rows(data, 0, len(data), batch, max_value_bytes, table, 0, table.shape[1])


@compiled
def find_headers(data: Array, starts: Ints, counts: Ints) -> Ints:
    """Positions of the headers of records that `scan_records` accepted, one row per header, in order.

    starts, counts: HEADERS_START and HEADERS of the records. Columns: start and end of the name, start and end of the
    value.
    """
    found = np.empty((counts.sum(), _HEADER_COLUMNS), np.int64)
    row = 0
    for i in range(len(starts)):
        at = starts[i]
        for _ in range(counts[i]):
            size, at = _varint(data, at, len(data))
            found[row, 0] = at
            at += size
            found[row, 1] = at
            size, at = _varint(data, at, len(data))
            found[row, 2] = at if size >= 0 else -1
            at += max(0, size)
            found[row, 3] = at if size >= 0 else -1
            row += 1
    return found
