"""Kullback-Leibler and Jensen-Shannon divergence of binned distributions, in nats.

Counts over the last axis, bins and smoothing as for PSI: a bin empty on both sides is no bin.
"""

import numpy as np

from monitoring.statistics.psi import occupied_bins, smoothed_shares
from scoring.arrays import Array, Floats


def kullback_leibler(reference: Array, current: Array, *, pseudo_count: float = 0.5) -> Floats:
    """KL(reference || current): nats lost per event by taking the current distribution for the reference.

    reference, current: shape (..., n_bins), counts. Returns shape (...), not symmetric, zero when equal.
    Raises ValueError when the two differ in length or a side is empty.
    Source: Kullback & Leibler (1951), On Information and Sufficiency.

    >>> round(float(kullback_leibler(np.array([50, 50]), np.array([90, 10]), pseudo_count=0.0)), 4)
    0.5108
    """
    occupied = occupied_bins(reference, current)
    r, c = (smoothed_shares(x, occupied, pseudo_count) for x in (reference, current))
    return _relative_entropy(r, c)


def jensen_shannon(reference: Array, current: Array, *, pseudo_count: float = 0.5) -> Floats:
    """Mean KL of the two to their midpoint: symmetric, from 0 to ln 2; a divergence, its root is the distance.

    reference, current: shape (..., n_bins), counts. Returns shape (...).
    Raises ValueError when the two differ in length or a side is empty.
    Source: Lin (1991), Divergence Measures Based on the Shannon Entropy.

    >>> round(float(jensen_shannon(np.array([9, 0]), np.array([0, 9]), pseudo_count=0.0)), 4)
    0.6931
    """
    occupied = occupied_bins(reference, current)
    r, c = (smoothed_shares(x, occupied, pseudo_count) for x in (reference, current))
    middle = (r + c) / 2
    return np.asarray((_relative_entropy(r, middle) + _relative_entropy(c, middle)) / 2)


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    # An event that cannot be has no part in it; one that p has and q has not is infinitely far.
    with np.errstate(divide="ignore"):
        terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / np.where(p > 0, q, 1.0)), 0.0)
    return np.asarray(terms.sum(axis=-1))
