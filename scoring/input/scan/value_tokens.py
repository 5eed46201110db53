"""Values of tokens that are parsed where they are found, compiled: plain numbers, times of ISO 8601, identifiers.

Each function reads the usual texts exactly as the column parsers do, and refuses all others, which these then parse.
"""

import numpy as np

from schemas.records import MAX_TIME_MS
from schemas.time_units import DAY_MS
from scoring.arrays import Bytes, Floats, Ints
from scoring.compilation import compiled_without_allocation
from scoring.input.scan.json_tokens import COLON, COMMA, LOWER_F, LOWER_T, MINUS, NINE, POINT, ZERO
from scoring.input.scan.scan_arrays import MAX_ID_LENGTH

MAX_NUMBER_LENGTH = 40
MAX_EXACT_DIGITS = 15  # any whole number of so many digits is a float
MAX_EXACT_POWER = 22  # the largest power of ten that is a float; a quotient of two such floats is rounded once
MAX_INTEGER_LENGTH = 18
POWERS = np.array([10.0**k for k in range(MAX_EXACT_POWER + 1)])

READS_POINT, READS_COMMA, IS_AMBIGUOUS = 1, 2, 4  # marks of a number format
READS_T, READS_SPACE, READS_SECONDS, READS_MILLISECONDS = 1, 2, 4, 8  # texts of a time format
NO_TIME = -1

_DAYS_BEFORE = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])
_PLUS, _SPACE, _UPPER_T, _UPPER_Z, _LOWER_Z, _SLASH, _UNDERSCORE = 43, 32, 84, 90, 122, 47, 95
_UTC_OFFSET_MS = 0


@compiled_without_allocation
def parse_number(buffer: Bytes, i: int, end: int, marks: int) -> float:
    """A number without exponent of at most 15 digits; NaN for any other text, and for -0."""
    if end - i > MAX_NUMBER_LENGTH:
        return np.nan
    negative = False
    if i < end and (buffer[i] == MINUS or buffer[i] == _PLUS):
        negative = buffer[i] == MINUS
        i += 1
    mantissa, digits, whole = np.int64(0), 0, 0
    decimals = -1
    while i < end:
        c = buffer[i]
        if ZERO <= c <= NINE:
            mantissa = 10 * mantissa + np.int64(c) - ZERO
            if mantissa > 0:
                digits += 1
                if digits > MAX_EXACT_DIGITS:
                    return np.nan
            if decimals >= 0:
                decimals += 1
            else:
                whole += 1
        elif decimals < 0 and ((c == POINT and marks & READS_POINT != 0) or (c == COMMA and marks & READS_COMMA != 0)):
            decimals = 0
        else:
            return np.nan
        i += 1
    if whole + max(decimals, 0) == 0 or decimals > MAX_EXACT_POWER or (negative and mantissa == 0):
        return np.nan
    if marks & IS_AMBIGUOUS != 0 and decimals == 3 and whole <= 3:
        return np.nan
    value = np.float64(mantissa)
    if decimals > 0:
        value /= POWERS[decimals]
    return -value if negative else value


@compiled_without_allocation
def parse_integer(buffer: Bytes, i: int, end: int) -> int:
    """A whole number of at most 18 digits without a sign; -1 for any other text."""
    if i == end or end - i > MAX_INTEGER_LENGTH:
        return -1
    number = np.int64(0)
    for k in range(i, end):
        if not ZERO <= buffer[k] <= NINE:
            return -1
        number = 10 * number + np.int64(buffer[k]) - ZERO
    return int(number)


@compiled_without_allocation
def parse_time(buffer: Bytes, start: int, end: int, texts: int, no_offset: int) -> tuple[int, int]:
    """Local time and offset of `2020-01-05T20:13:45`, with up to three decimals and with `Z` or `+05:30`, or without.

    no_offset: the offset of a text without one. The time is NO_TIME for any other text and outside of 1970 to 2199.
    """
    if end - start < 19 or end - start > 29:
        return NO_TIME, 0
    mark = buffer[start + 10]
    if not ((mark == _UPPER_T and texts & READS_T != 0) or (mark == _SPACE and texts & READS_SPACE != 0)):
        return NO_TIME, 0
    if buffer[start + 4] != MINUS or buffer[start + 7] != MINUS:
        return NO_TIME, 0
    if buffer[start + 13] != COLON or buffer[start + 16] != COLON:
        return NO_TIME, 0
    year, month = parse_integer(buffer, start, start + 4), parse_integer(buffer, start + 5, start + 7)
    day, hour = parse_integer(buffer, start + 8, start + 10), parse_integer(buffer, start + 11, start + 13)
    minute, second = parse_integer(buffer, start + 14, start + 16), parse_integer(buffer, start + 17, start + 19)
    if year < 1970 or year > 2200 or month < 1 or month > 12 or day < 1:
        return NO_TIME, 0
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return NO_TIME, 0
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    leap = 1 if is_leap and month > 2 else 0
    length = _DAYS_BEFORE[month] - _DAYS_BEFORE[month - 1] + (1 if is_leap and month == 2 else 0)
    if day > length:
        return NO_TIME, 0
    before = year - 1
    days = 365 * before + before // 4 - before // 100 + before // 400 - 719_162
    days += _DAYS_BEFORE[month - 1] + leap + day - 1
    time_ms = days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000
    i = start + 19
    if i < end and buffer[i] == POINT:
        i += 1
        unit = 100
        while i < end and unit > 0 and ZERO <= buffer[i] <= NINE:
            time_ms += unit * (np.int64(buffer[i]) - ZERO)
            unit //= 10
            i += 1
        if unit == 100:
            return NO_TIME, 0
    offset_ms = no_offset
    if i == end - 1 and buffer[i] == _UPPER_Z:
        offset_ms = _UTC_OFFSET_MS
    elif i == end - 6 and (buffer[i] == _PLUS or buffer[i] == MINUS) and buffer[i + 3] == COLON:
        hours, minutes = parse_integer(buffer, i + 1, i + 3), parse_integer(buffer, i + 4, i + 6)
        if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
            return NO_TIME, 0
        offset_ms = (hours * 60 + minutes) * 60_000
        if buffer[i] == MINUS:
            offset_ms = -offset_ms
        if not 0 <= time_ms - offset_ms < MAX_TIME_MS:
            return NO_TIME, 0
    elif i != end:
        return NO_TIME, 0
    return (time_ms, offset_ms) if 0 <= time_ms < MAX_TIME_MS else (NO_TIME, 0)


@compiled_without_allocation
def is_plain_identifier(buffer: Bytes, start: int, end: int, missing: Bytes, missing_ends: Ints) -> bool:
    """Whether a text is an identifier as it is: letters, digits and `_:/-` of ASCII, and no missing value or boolean.

    missing: texts that mean a missing value, joined; missing_ends: their ends, the first one 0.
    """
    size = end - start
    if size == 0 or size > MAX_ID_LENGTH:
        return False
    for k in range(start, end):
        c = buffer[k]
        lower = c | 32
        if not (97 <= lower <= 122 or MINUS <= c <= COLON or c == _UNDERSCORE) or c == POINT:
            return False
    if size == 4 or size == 5:  # true and false
        lower = buffer[start] | 32
        if lower in (LOWER_T, LOWER_F):
            return False
    for m in range(len(missing_ends) - 1):
        first = missing_ends[m]
        if missing_ends[m + 1] - first == size:
            same = True
            for k in range(size):
                if missing[first + k] != buffer[start + k]:
                    same = False
                    break
            if same:
                return False
    return True


@compiled_without_allocation
def is_excluded(value: float, excluded: Floats, first: int, end: int) -> bool:
    """Whether a number is among those that mean a missing value."""
    found = False
    for k in range(first, end):
        found = found or excluded[k] == value
    return found
