"""Units of exact sums, and ratios. Compiled by Numba; scalars in, scalars out.

A value counts in units of 2^-20, so a sum is an integer and does not depend on the order of its parts.
"""

import numpy as np

from scoring.compilation import compiled_inline

UNITS = 1_048_576.0  # 2^20 units make 1
MAX_UNITS = 2**52  # a value beyond +-2^32 counts as 2^32; so 128 bits hold the squares of 16,777,216 values
SMOOTHING = 10.0  # labelled transactions that the base rate weighs as much as, in a fraud rate


@compiled_inline
def to_units(value: float) -> int:
    """A finite value in units, rounded to the nearest, at most +-`MAX_UNITS`."""
    scaled = value * UNITS
    if scaled >= MAX_UNITS:
        return MAX_UNITS
    if scaled <= -MAX_UNITS:
        return -MAX_UNITS
    return int(np.rint(scaled))


@compiled_inline
def ratio(value: float, divisor: float) -> float:
    """A value divided by another; NaN if either is missing, or the divisor is 0."""
    return np.nan if divisor == 0 else value / divisor


@compiled_inline
def z_score(value: float, average: float, deviation: float) -> float:
    """Distance of a value from a mean, in standard deviations; NaN if one is missing, or the deviation is 0."""
    return np.nan if deviation == 0 else (value - average) / deviation


@compiled_inline
def fraud_rate(labelled: int, frauds: int, base_rate: float) -> float:
    """Share of fraud among labelled transactions, smoothed towards the base rate."""
    return (frauds + SMOOTHING * base_rate) / (labelled + SMOOTHING)
