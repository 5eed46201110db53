"""Kullback-Leibler and Jensen-Shannon divergence of binned distributions, in nats.

Counts are over the last axis. Bins and smoothing are those of PSI: a bin that is empty on both sides is ignored.
"""

import numpy as np

from monitoring.statistics.psi import occupied_bins, smoothed_shares
from scoring.arrays import Array, Floats


def kullback_leibler(reference: Array, current: Array, *, pseudo_count: float = 0.5) -> Floats:
    """KL(reference || current), in nats per event: zero when equal, not symmetric.

    reference, current: shape (..., n_bins), counts. Returns shape (...).
    Raises ValueError when the lengths differ or a side is empty.
    Source: Kullback & Leibler (1951), On Information and Sufficiency.

    >>> round(float(kullback_leibler(np.array([50, 50]), np.array([90, 10]), pseudo_count=0.0)), 4)
    0.5108
    """
    occupied = occupied_bins(reference, current)
    r, c = (smoothed_shares(x, occupied, pseudo_count) for x in (reference, current))
    return _relative_entropy(r, c)


def jensen_shannon(reference: Array, current: Array, *, pseudo_count: float = 0.5) -> Floats:
    """Jensen-Shannon divergence, in nats: mean KL of both to their midpoint. Symmetric, from 0 to ln 2.

    Its square root is the Jensen-Shannon distance.
    reference, current: shape (..., n_bins), counts. Returns shape (...).
    Raises ValueError when the lengths differ or a side is empty.
    Source: Lin (1991), Divergence Measures Based on the Shannon Entropy.

    >>> round(float(jensen_shannon(np.array([9, 0]), np.array([0, 9]), pseudo_count=0.0)), 4)
    0.6931
    """
    occupied = occupied_bins(reference, current)
    r, c = (smoothed_shares(x, occupied, pseudo_count) for x in (reference, current))
    middle = (r + c) / 2
    return np.asarray((_relative_entropy(r, middle) + _relative_entropy(c, middle)) / 2)


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    # A bin with p = 0 contributes nothing; one with p > 0 and q = 0 makes the result infinite.
    with np.errstate(divide="ignore"):
        terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / np.where(p > 0, q, 1.0)), 0.0)
    return np.asarray(terms.sum(axis=-1))
