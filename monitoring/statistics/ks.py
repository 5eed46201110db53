"""Kolmogorov-Smirnov statistic on binned values: the largest gap between two distribution functions at the bin edges.

The exact statistic also looks within bins, so the binned one is never larger and its p-value remains valid.
Exclude the code of missing values, because they have no order.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import kolmogorov

from scoring.arrays import Array, Floats


def ks_statistic(reference: Array, current: Array) -> Floats:
    """Two-sample statistic D, in [0, 1], shape (...).

    reference, current: shape (..., n_codes), counts over codes in order of their values; with about 250 codes, D is
    exact to three digits. Raises ValueError when the lengths differ or a side is empty.

    >>> float(ks_statistic(np.array([5, 5, 0]), np.array([0, 5, 5])))
    0.5
    """
    reference, current = np.asarray(reference), np.asarray(current)
    if reference.shape[-1] != current.shape[-1]:
        raise ValueError(f"the reference has {reference.shape[-1]} codes, the current window {current.shape[-1]}")
    n, m = reference.sum(axis=-1, keepdims=True), current.sum(axis=-1, keepdims=True)
    if not (n > 0).all() or not (m > 0).all():
        raise ValueError("an empty histogram has no distribution function")
    return np.asarray(np.abs(reference.cumsum(axis=-1) / n - current.cumsum(axis=-1) / m).max(axis=-1))


def ks_p_value(statistic: npt.ArrayLike, rows: npt.ArrayLike) -> Floats:
    """Probability of a D at least this large under equal distributions; the arguments broadcast.

    rows: n m / (n + m), divided by the dispersion if events come in clusters; see `effective_rows`.
    Conservative if values repeat. Source: Smirnov (1948), Table for Estimating the Goodness of Fit.

    >>> round(float(ks_p_value(0.037, 500.0)), 4)
    0.5004
    """
    return np.asarray(kolmogorov(np.sqrt(np.asarray(rows, float)) * np.asarray(statistic, float)))
