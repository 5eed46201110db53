"""Exact sums of float32 values, and what is derived from them. Compiled by Numba; scalars in, scalars out.

A value counts in units of 2^-20, so a sum is an integer and does not depend on the order of its parts. Squares are sums
of 128 bits, in two halves.
"""

import math
from typing import Any

import numpy as np
from numba import njit

UNITS = 1_048_576.0  # 2^20 units make 1
MAX_UNITS = 2**52  # a value beyond +-2^32 counts as 2^32; so 128 bits hold the squares of 16,777,216 values
SMOOTHING = 10.0  # labelled transactions that the base rate weighs as much as, in a fraud rate
MAX_TOTAL = 2**63 - 1
MIN_VARIANCE = 1e-10  # of the squared mean
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_WHOLE = 2.0**64


@njit(cache=True, inline="always")
def to_units(value: float) -> int:
    """A finite value in units, rounded to the nearest, at most +-`MAX_UNITS`."""
    scaled = value * UNITS
    if scaled >= MAX_UNITS:
        return MAX_UNITS
    if scaled <= -MAX_UNITS:
        return -MAX_UNITS
    return int(np.rint(scaled))


@njit(cache=True, inline="always")
def add_units(total: int, units: int) -> int:
    """The sum of two amounts of units, at most +-2^63 - 1."""
    added = total + units
    if total > 0 and units > 0 and added < 0:
        return MAX_TOTAL
    if total < 0 and units < 0 and added >= 0:
        return -MAX_TOTAL
    return added


@njit(cache=True, inline="always")
def square(units: int) -> Any:
    """The square of an amount of units: high and low 64 bits."""
    x = np.uint64(abs(units))
    high, low = x >> _HALF, x & _LOW
    middle = high * low
    squared_low = low * low
    carried = squared_low + ((middle & _LOW) << np.uint64(33))
    squared_high = high * high + (middle >> np.uint64(31))
    # (middle & _LOW) << 33 loses the bit that `middle >> 31` already holds.
    if carried < squared_low:
        squared_high += np.uint64(1)
    return squared_high, carried


@njit(cache=True, inline="always")
def add_wide(high: int, low: int, other_high: int, other_low: int) -> Any:
    """The sum of two numbers of 128 bits, each as high and low 64 bits."""
    total_low = low + other_low
    carry = np.uint64(1) if total_low < low else np.uint64(0)
    return high + other_high + carry, total_low


@njit(cache=True, inline="always")
def mean(n: int, total: int) -> float:
    """Mean of n values whose units sum to `total`; NaN without values."""
    return np.nan if n == 0 else total / UNITS / n


@njit(cache=True, inline="always")
def standard_deviation(n: int, total: int, squares_high: int, squares_low: int) -> float:
    """Standard deviation of the population of n values; NaN without values. squares: of the units.

    Below 10^-5 of the mean it is 0: there, the difference of two float64 numbers is mostly rounding.
    """
    if n == 0:
        return np.nan
    squares = (np.float64(squares_high) * _WHOLE + np.float64(squares_low)) / (UNITS * UNITS)
    average = total / UNITS / n
    variance = squares / n - average * average
    return math.sqrt(variance) if variance > MIN_VARIANCE * average * average else 0.0


@njit(cache=True, inline="always")
def ratio(value: float, divisor: float) -> float:
    """A value divided by another; NaN if either is missing, or the divisor is 0."""
    return np.nan if divisor == 0 else value / divisor


@njit(cache=True, inline="always")
def z_score(value: float, average: float, deviation: float) -> float:
    """Distance of a value from a mean, in standard deviations; NaN if one is missing, or the deviation is 0."""
    return np.nan if deviation == 0 else (value - average) / deviation


@njit(cache=True, inline="always")
def fraud_rate(labelled: int, frauds: int, base_rate: float) -> float:
    """Share of fraud among labelled transactions, smoothed towards the base rate."""
    return (frauds + SMOOTHING * base_rate) / (labelled + SMOOTHING)
