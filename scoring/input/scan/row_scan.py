"""The scan of the rows of a batch, compiled: each flat JSON object is walked once, and its tokens become values.

A row with anything unusual is left to the general path: it alone rejects.
"""

import numpy as np

from schemas.dataset.time_formats import MIN_NUMERIC_TIME_MS, NO_OFFSET
from schemas.records import MAX_TIME_MS
from scoring.arrays import Bytes, Ints
from scoring.compilation import compiled_without_allocation
from scoring.input.scan.json_tokens import (
    CLOSE_BRACE,
    COLON,
    COMMA,
    HAS_ESCAPE,
    HAS_NON_ASCII,
    LOWER_F,
    LOWER_N,
    LOWER_T,
    MAX_DIGITS,
    MINUS,
    NINE,
    OPEN_BRACE,
    OPEN_BRACKET,
    QUOTE,
    ZERO,
    is_valid_text,
    scan_literal,
    scan_nested,
    scan_number,
    scan_string,
    skip_space,
)
from scoring.input.scan.scan_arrays import (
    ABSENT,
    IDENTIFIER,
    LITERAL,
    MAPPING,
    MAX_POSITIONS,
    MAX_UNKNOWN,
    MISSED,
    NESTED,
    NUMBER,
    NUMERIC,
    TEXT,
    TIME,
    ScanBuffers,
    ScanPlan,
)
from scoring.input.scan.token_tables import TokenTables, find_token
from scoring.input.scan.value_tokens import (
    NO_TIME,
    READS_MILLISECONDS,
    READS_POINT,
    READS_SECONDS,
    is_excluded,
    is_plain_identifier,
    parse_integer,
    parse_number,
    parse_time,
)

_LINE_FEED = 10


@compiled_without_allocation
def _match_name(buffer: Bytes, i: int, end: int, plan: ScanPlan, name: int) -> int:
    """The position after the key that starts behind a quotation mark, if it is that name; else -1."""
    first = plan.name_ends[name]
    size = plan.name_ends[name + 1] - first
    if i + size >= end or buffer[i + size] != QUOTE:
        return -1
    for k in range(size):
        if buffer[i + k] != plan.names[first + k]:
            return -1
    return int(i + size + 1)


@compiled_without_allocation
def _record_miss(out: ScanBuffers, n_misses: Ints, output: int, row: int, start: int, end: int) -> None:
    m = n_misses[0]
    out.misses[m, 0], out.misses[m, 1], out.misses[m, 2], out.misses[m, 3] = output, row, start, end
    n_misses[0] = m + 1


@compiled_without_allocation
def _set_null(plan: ScanPlan, out: ScanBuffers, output: int, row: int) -> bool:
    """Set the values of a row without the field; False if it must have it."""
    if not plan.null_ok[output]:
        return False
    for c in range(plan.column_ends[output], plan.column_ends[output + 1]):
        out.values[c, row] = plan.nulls[c]
    if plan.kinds[output] == IDENTIFIER:
        out.id_places[plan.places[output], 0] = ABSENT
    return True


@compiled_without_allocation
def _set_output(
    buffer: Bytes,
    plan: ScanPlan,
    tables: TokenTables,
    out: ScanBuffers,
    n_misses: Ints,
    output: int,
    row: int,
    kind: int,
    flags: int,
    start: int,
    end: int,
) -> bool:
    """Set the values of a token in a row, or record a miss; False if the row is left to the general path."""
    wanted, direct = plan.kinds[output], plan.direct[output]
    is_plain = (kind == TEXT and flags == 0) or kind == NUMERIC
    first, last = (start + 1, end - 1) if kind == TEXT else (start, end)
    column = plan.column_ends[output]
    if kind == NESTED and wanted != MAPPING:
        return False
    if wanted == IDENTIFIER:
        place = plan.places[output]
        is_text = is_plain and (kind == TEXT or parse_integer(buffer, first, last) >= 0)
        if is_text and is_plain_identifier(buffer, first, last, plan.missing, plan.missing_ends):
            out.id_places[place, 0], out.id_places[place, 1] = first, last
            return True
        out.id_places[place, 0] = MISSED
        _record_miss(out, n_misses, output, row, start, end)
        return True
    if is_plain and direct != 0:
        if wanted == NUMBER:
            value = parse_number(buffer, first, last, direct if kind == TEXT else READS_POINT)
            if not np.isnan(value) and not is_excluded(
                value, plan.excluded, plan.excluded_ends[output], plan.excluded_ends[output + 1]
            ):
                out.values[column, row] = value
                return bool(plan.lows[output] <= value <= plan.highs[output])
        elif wanted == TIME:
            time_ms, offset_ms = NO_TIME, 0
            if direct & (READS_SECONDS | READS_MILLISECONDS) != 0:
                time_ms = parse_integer(buffer, first, last)
                if direct & READS_SECONDS != 0 and time_ms < MAX_TIME_MS:
                    time_ms *= 1000
                if not MIN_NUMERIC_TIME_MS <= time_ms < MAX_TIME_MS:
                    time_ms = NO_TIME
            if time_ms == NO_TIME and kind == TEXT:
                time_ms, offset_ms = parse_time(buffer, first, last, direct, 0 if plan.is_utc else NO_OFFSET)
            if time_ms != NO_TIME:
                out.values[column, row] = time_ms
                out.values[column + 1, row] = offset_ms
                out.values[column + 2, row] = 1
                return True
    token = find_token(tables, output, buffer, start, end)
    if token < 0:
        _record_miss(out, n_misses, output, row, start, end)
        return kind != NESTED
    for c in range(column, plan.column_ends[output + 1]):
        out.values[c, row] = tables.results[c, token]
    return True


@compiled_without_allocation
def _scan_row(
    buffer: Bytes,
    i: int,
    end: int,
    plan: ScanPlan,
    tables: TokenTables,
    order: Ints,
    seen: Ints,
    unknown: Ints,
    out: ScanBuffers,
    n_misses: Ints,
    row: int,
) -> bool:
    i = skip_space(buffer, i, end)
    if i >= end or buffer[i] != OPEN_BRACE:
        return False
    i = skip_space(buffer, i + 1, end)
    n_names = len(plan.name_ends) - 1
    position = n_unknown = 0
    if i < end and buffer[i] == CLOSE_BRACE:
        position = -1
    while position >= 0:
        if i >= end or buffer[i] != QUOTE:
            return False
        # Producers write fields in one order, so the field is usually that of the row before.
        name = order[position] if position < MAX_POSITIONS else 0
        key_end = _match_name(buffer, i + 1, end, plan, name)
        if key_end < 0:
            key_end, flags = scan_string(buffer, i, end)
            if key_end < 0 or flags & HAS_ESCAPE != 0:
                return False
            name = n_names
            for k in range(n_names):
                if _match_name(buffer, i + 1, key_end, plan, k) == key_end:
                    name = k
                    if position < MAX_POSITIONS:
                        order[position] = k
                    break
            if name == n_names:
                if flags & HAS_NON_ASCII != 0 and not is_valid_text(buffer, i + 1, key_end - 1):
                    return False
                if n_unknown == MAX_UNKNOWN:
                    return False
                size = key_end - i
                for u in range(n_unknown):
                    if unknown[u, 1] == size:
                        same = True
                        for k in range(size):
                            if buffer[unknown[u, 0] + k] != buffer[i + k]:
                                same = False
                                break
                        if same:
                            return False
                unknown[n_unknown, 0], unknown[n_unknown, 1] = i, size
                n_unknown += 1
        n_outputs = 0
        if name < n_names:
            if seen[name] == row:
                return False
            seen[name] = row
            n_outputs = plan.output_ends[name + 1] - plan.output_ends[name]
        i = skip_space(buffer, key_end, end)
        if i >= end or buffer[i] != COLON:
            return False
        i = skip_space(buffer, i + 1, end)
        if i >= end:
            return False
        start = i
        c = buffer[i]
        flags = 0
        if c == QUOTE:
            kind = TEXT
            i, flags = scan_string(buffer, start, end)
            if n_outputs == 0 and i >= 0 and flags != 0 and not is_valid_text(buffer, start + 1, i - 1):
                return False
        elif c == MINUS or ZERO <= c <= NINE:
            kind = NUMERIC
            i, digits = scan_number(buffer, start, end)
            if n_outputs == 0 and digits > MAX_DIGITS:
                return False
        elif c in (LOWER_T, LOWER_F, LOWER_N):
            kind = LITERAL
            i = scan_literal(buffer, start, end)
        elif c in (OPEN_BRACE, OPEN_BRACKET) and n_outputs > 0:
            kind = NESTED
            i = scan_nested(buffer, start, end)
        else:
            return False
        if i < 0:
            return False
        if n_outputs > 0:
            for output in range(plan.output_ends[name], plan.output_ends[name + 1]):
                if c == LOWER_N:
                    if not _set_null(plan, out, output, row):
                        return False
                elif not _set_output(buffer, plan, tables, out, n_misses, output, row, kind, flags, start, i):
                    return False
        i = skip_space(buffer, i, end)
        if i >= end:
            return False
        if buffer[i] == CLOSE_BRACE:
            break
        if buffer[i] != COMMA:
            return False
        i = skip_space(buffer, i + 1, end)
        position += 1
    if skip_space(buffer, i + 1, end) != end:
        return False
    for name in range(n_names):
        if seen[name] != row:
            for output in range(plan.output_ends[name], plan.output_ends[name + 1]):
                if not _set_null(plan, out, output, row):
                    return False
    return True


@compiled_without_allocation
def scan_rows(
    buffer: Bytes,
    starts: Ints,
    ends: Ints,
    max_bytes: int,
    plan: ScanPlan,
    tables: TokenTables,
    order: Ints,
    out: ScanBuffers,
) -> None:
    """Scan the payloads at starts and ends, -1 for a null.

    order: the names of the fields by position, as in the last rows; updated.
    """
    seen, unknown, n_misses = out.seen, out.unknown, out.n_misses
    n_misses[0] = 0
    seen[:] = -1
    for row in range(len(starts)):
        start, end = starts[row], ends[row]
        for k in range(len(out.id_ends)):
            out.id_places[k, 0] = ABSENT
        is_fast = 0 <= start <= end <= len(buffer) and end - start <= max_bytes
        if is_fast:
            is_fast = _scan_row(buffer, start, end, plan, tables, order, seen, unknown, out, n_misses, row)
        out.fast[row] = is_fast
        for k in range(len(out.id_ends)):
            at = out.id_ends[k]
            if is_fast and out.id_places[k, 0] >= 0:
                for b in range(out.id_places[k, 0], out.id_places[k, 1]):
                    out.id_text[k, at] = buffer[b]
                    at += 1
            out.id_text[k, at] = _LINE_FEED
            out.id_ends[k] = at + 1
