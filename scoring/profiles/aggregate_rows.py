"""Rows of integers that hold an aggregate of transactions: exact sums, and what is read from them.

A row holds the aggregate of some transactions of one entity: of a tile, of a window, or of one transaction. Rows are
added in any order with the same result to the bit, because all words are integers:

    word 0, 1        newest event time in ms; number of transactions
    per number field six words, from FIRST_FIELD + FIELD_WORDS j:
        KNOWN        number of transactions with a value
        SUM          sum in units of 2^-20, 128 bits in two words (low, high), two's complement
        SQUARES      sum of squares in units of 2^-40, 128 bits in two words (low, high)
        MAXIMUM      largest value: the bits of the float32, ordered as integers; NO_MAXIMUM without a value

A value is a float32, rounded to units of 2^-20 and limited to +-MAX_VALUE (2^32) for sums. So a square has at most 104
bits, and 128 bits hold the sum of 16,777,216 squares of the largest value.

Compiled functions are called from compiled loops, too.
"""

import math
from typing import Any

import numpy as np

from schemas.dataset.profiles import COUNTS, NUMBER_AGGREGATES
from scoring.arrays import Ints
from scoring.compilation import compiled
from scoring.profiles.aggregates import MAX_UNITS, UNITS, ratio, to_units, z_score
from scoring.profiles.windows import NO_TIME_MS

TIME = 0
COUNT = 1
FIRST_FIELD = 2
FIELD_WORDS = 6
KNOWN, SUM, SQUARES, MAXIMUM = 0, 1, 3, 5  # words of a field
MAX_VALUE = MAX_UNITS / UNITS
NO_MAXIMUM = -(1 << 31)
AGGREGATE_CODES = {name: code for code, name in enumerate((*COUNTS, *NUMBER_AGGREGATES))}
_COUNT, _SUM, _MEAN, _MAX, _STD, _RATIO, _RATIO_MAX, _ZSCORE = range(8)
_TWO_64 = 18446744073709551616.0
_LOW_32 = np.uint64(0xFFFFFFFF)
_BITS_32 = np.uint64(32)


def row_width(n_fields: int) -> int:
    """Words of a row over some number fields."""
    return FIRST_FIELD + FIELD_WORDS * n_fields


def empty_rows(n: int, n_fields: int) -> Ints:
    """Rows without a transaction, shape (n, row_width(n_fields))."""
    rows = np.empty((n, row_width(n_fields)), dtype=np.int64)
    for i in range(n):
        clear_row(rows[i])
    return rows


@compiled
def clear_row(row: Ints) -> None:
    """Make a row one of no transaction."""
    row[:] = 0
    row[TIME] = NO_TIME_MS
    for at in range(FIRST_FIELD, len(row), FIELD_WORDS):
        row[at + MAXIMUM] = NO_MAXIMUM


@compiled
def add_transaction(row: Ints, time_ms: int, values: np.ndarray) -> int:
    """Add one transaction to a row. values: float32, one per number field; NaN is missing.

    Returns the number of values that were limited to +-MAX_VALUE.
    """
    saturated = 0
    row[TIME] = max(row[TIME], time_ms)
    row[COUNT] += 1
    for j in range(len(values)):
        value = values[j]
        if math.isnan(value):
            continue
        at = FIRST_FIELD + FIELD_WORDS * j
        units = np.int64(to_units(np.float64(value)))
        saturated += abs(value) > MAX_VALUE
        row[at + KNOWN] += 1
        _add_128(row, at + SUM, np.uint64(units), np.uint64(units >> 63))
        low, high = _multiply(np.uint64(abs(units)), np.uint64(abs(units)))
        _add_128(row, at + SQUARES, low, high)
        row[at + MAXIMUM] = max(row[at + MAXIMUM], _ordered_bits(value))
    return saturated


@compiled
def add_row(target: Ints, row: Ints) -> None:
    """Add the transactions of a row to another row."""
    target[TIME] = max(target[TIME], row[TIME])
    target[COUNT] += row[COUNT]
    for at in range(FIRST_FIELD, len(row), FIELD_WORDS):
        target[at + KNOWN] += row[at + KNOWN]
        _add_128(target, at + SUM, np.uint64(row[at + SUM]), np.uint64(row[at + SUM + 1]))
        _add_128(target, at + SQUARES, np.uint64(row[at + SQUARES]), np.uint64(row[at + SQUARES + 1]))
        target[at + MAXIMUM] = max(target[at + MAXIMUM], row[at + MAXIMUM])


@compiled
def accumulate(rows: Ints) -> None:
    """Add each row to the next: from rows of nested windows without the narrower ones to rows of whole windows."""
    for w in range(1, len(rows)):
        add_row(rows[w], rows[w - 1])


@compiled
def aggregate(code: int, row: Ints, field: int, value: float) -> Any:
    """One aggregate of a row. NaN: missing.

    code: of AGGREGATE_CODES. field: number of the number field; ignored for the count. value: of the transaction.
    """
    if code == _COUNT:
        return float(row[COUNT])
    at = FIRST_FIELD + FIELD_WORDS * field
    known = row[at + KNOWN]
    if code == _SUM:
        return _sum(row, at)
    if known == 0:
        return math.nan
    if code == _MEAN:
        return _sum(row, at) / known
    if code == _MAX:
        return _maximum(row, at)
    if code == _STD:
        return std(row, field)
    if code == _RATIO:
        return ratio(value, _sum(row, at) / known)
    if code == _RATIO_MAX:
        return ratio(value, _maximum(row, at))
    return z_score(value, _sum(row, at) / known, std(row, field))


@compiled
def std(row: Ints, field: int) -> float:
    """Standard deviation (population) of a field's values; 0 if all are equal, NaN if there is none.

    The squares are shifted by the whole mean q before they become floats: with S1 = q n + r, the sum of (x - q)^2 is
    S2 - q (S1 + r), exact modulo 2^128. So nothing cancels: equal values have a deviation of exactly 0.
    """
    at = FIRST_FIELD + FIELD_WORDS * field
    n = row[at + KNOWN]
    if n == 0:
        return math.nan
    low, high = np.uint64(row[at + SUM]), np.uint64(row[at + SUM + 1])
    q, r = _floor_divide(low, high, n)
    low, high = _plus(low, high, np.uint64(r), np.uint64(0))  # S1 + r
    magnitude = np.uint64(abs(q))
    product_low, product_high = _multiply(low, magnitude)
    product_high += high * magnitude
    if q >= 0:
        product_low, product_high = _negate(product_low, product_high)
    low, high = _plus(np.uint64(row[at + SQUARES]), np.uint64(row[at + SQUARES + 1]), product_low, product_high)
    rest = r / n
    variance = (np.float64(high) * _TWO_64 + np.float64(low)) / n - rest * rest
    return math.sqrt(max(variance, 0.0)) / UNITS


@compiled
def _sum(row: Ints, at: int) -> float:
    high = row[at + SUM + 1]
    low = np.uint64(row[at + SUM])
    if high < 0:
        low, negated = _negate(low, np.uint64(high))
        return -(np.float64(negated) * _TWO_64 + np.float64(low)) / UNITS
    return (np.float64(high) * _TWO_64 + np.float64(low)) / UNITS


@compiled
def _ordered_bits(value: np.float32) -> np.int64:
    bits = np.int64(np.float32(value + np.float32(0.0)).view(np.int32))  # -0.0 becomes 0.0
    return bits if bits >= 0 else bits ^ 0x7FFFFFFF


@compiled
def _maximum(row: Ints, at: int) -> float:
    bits = row[at + MAXIMUM]
    return np.float64(np.int32(bits if bits >= 0 else bits ^ 0x7FFFFFFF).view(np.float32))


@compiled
def _add_128(row: Ints, at: int, low: np.uint64, high: np.uint64) -> None:
    total_low, total_high = _plus(np.uint64(row[at]), np.uint64(row[at + 1]), low, high)
    row[at] = np.int64(total_low)
    row[at + 1] = np.int64(total_high)


@compiled
def _plus(low: np.uint64, high: np.uint64, more_low: np.uint64, more_high: np.uint64) -> tuple[np.uint64, np.uint64]:
    total = low + more_low
    return total, high + more_high + np.uint64(total < low)


@compiled
def _negate(low: np.uint64, high: np.uint64) -> Any:
    return _plus(~low, ~high, np.uint64(1), np.uint64(0))


@compiled
def _multiply(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The 128-bit product of two words, (low, high)."""
    a_low, a_high = a & _LOW_32, a >> _BITS_32
    b_low, b_high = b & _LOW_32, b >> _BITS_32
    lowest = a_low * b_low
    middle = a_high * b_low + (lowest >> _BITS_32)
    other = a_low * b_high + (middle & _LOW_32)
    return a * b, a_high * b_high + (middle >> _BITS_32) + (other >> _BITS_32)


@compiled
def _floor_divide(low: np.uint64, high: np.uint64, n: np.int64) -> tuple[np.int64, np.int64]:
    """Quotient, rounded down, and remainder of a signed 128-bit number by 0 < n < 2^32. The quotient fits a word."""
    negative = np.int64(high) < 0
    if negative:
        low, high = _negate(low, high)
    divisor = np.uint64(n)
    rest = high % divisor
    upper = (rest << _BITS_32) | (low >> _BITS_32)
    rest = upper % divisor
    lower = (rest << _BITS_32) | (low & _LOW_32)
    rest = lower % divisor
    quotient = np.int64(((upper // divisor) << _BITS_32) + lower // divisor)
    remainder = np.int64(rest)
    if not negative:
        return quotient, remainder
    if remainder == 0:
        return -quotient, remainder
    return -quotient - 1, n - remainder


@compiled
def set_field(
    row: Ints, field: int, known: int, total: int, high_high: int, high_low: int, low_low: int, highest: float
) -> None:
    """Set a field of a row from sums over values whose units are high 2^26 + low.

    total: of the units. high_high, high_low, low_low: sums of the products of the halves, each below 2^63.
    """
    at = FIRST_FIELD + FIELD_WORDS * field
    row[at + KNOWN] = known
    row[at + SUM], row[at + SUM + 1] = total, total >> 63
    row[at + SQUARES], row[at + SQUARES + 1] = low_low, 0
    _add_128(row, at + SQUARES, np.uint64(high_low) << np.uint64(27), np.uint64(high_low) >> np.uint64(37))
    _add_128(row, at + SQUARES, np.uint64(high_high) << np.uint64(52), np.uint64(high_high) >> np.uint64(12))
    row[at + MAXIMUM] = _ordered_bits(np.float32(highest))
