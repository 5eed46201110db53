"""Population stability index (PSI) of binned distributions, its bias correction and its confidence bound.

For an input it is also called CSI; the formula is the same. All functions take counts over the last axis and broadcast
over the others. A bin that is empty on both sides is ignored, so histograms of different lengths can be padded with
zeros to one array.

Source: Yurdakul (2018), Statistical Properties of the Population Stability Index: without drift,
PSI ~ (1/n + 1/m) chi2(B - 1), times the dispersion if events come in clusters.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc
from scipy.stats import ncx2

from scoring.arrays import Array, Flags, Floats, Ints

EMPTY_SHARE = 1e-4  # share of an empty bin in the classic formula
MIN_EFFECTIVE_ROWS = 300  # with fewer rows, the rule "PSI > 0.2" is a false alarm up to 44 % of the time


def occupied_bins(reference: Array, current: Array) -> Flags:
    """Mask of the bins that are not empty on both sides; shape of both arguments broadcast together.

    Raises ValueError when the number of bins differs or a side is empty.
    """
    reference, current = np.asarray(reference), np.asarray(current)
    if reference.shape[-1] != current.shape[-1]:
        raise ValueError(f"the reference has {reference.shape[-1]} bins, the current window {current.shape[-1]}")
    if not (reference.sum(axis=-1) > 0).all() or not (current.sum(axis=-1) > 0).all():
        raise ValueError("an empty histogram has no shares")
    return (reference > 0) | (current > 0)


def smoothed_shares(counts: Array, occupied: Flags, pseudo_count: float = 0.5) -> Floats:
    """Smoothed shares, (count + 1/2) / (n + B/2) in occupied bins and zero elsewhere; they sum to one.

    Source: Krichevsky & Trofimov (1981), The Performance of Universal Encoding.

    >>> smoothed_shares(np.array([3, 0, 0]), np.array([True, True, False])).tolist()
    [0.875, 0.125, 0.0]
    """
    raised = np.where(occupied, counts + pseudo_count, 0.0)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float64)


def population_stability_index(reference: Array, current: Array, *, pseudo_count: float = 0.5) -> Floats:
    """Distance between two binned distributions: 0 when equal, symmetric, in nats.

    reference, current: shape (..., n_bins), counts over the *reference's* bins, the outermost open; missing is a bin.
    pseudo_count: added to every bin, so that an empty bin does not make the result infinite.
    Returns shape (...). Raises ValueError when the lengths differ or a side is empty.

    >>> round(float(population_stability_index(np.array([50, 50]), np.array([90, 10]))), 2)
    0.85
    """
    occupied = occupied_bins(reference, current)
    r = smoothed_shares(reference, occupied, pseudo_count)
    c = smoothed_shares(current, occupied, pseudo_count)
    return np.asarray(((c - r) * _log_ratio(c, r)).sum(axis=-1))


def classic_psi(reference: Array, current: Array) -> Floats:
    """PSI as most tools compute it: raw shares, with 1e-4 for an empty bin and no renormalisation.

    Shapes and errors as for `population_stability_index`. Reports include it, on deciles, for comparison with other
    tools.

    >>> round(float(classic_psi(np.array([50, 50]), np.array([90, 10]))), 2)
    0.88
    """
    occupied = occupied_bins(reference, current)
    r, c = (np.asarray(x) / np.asarray(x).sum(axis=-1, keepdims=True) for x in (reference, current))
    r, c = (np.where(occupied & (x == 0), EMPTY_SHARE, x) for x in (r, c))
    return np.asarray(((c - r) * _log_ratio(c, r)).sum(axis=-1))


def bias_corrected_psi(reference: Array, current: Array, *, dispersion: npt.ArrayLike = 1.0) -> Floats:
    """PSI minus its mean without drift, dispersion (B - 1)(1/n + 1/m); without drift about zero, and can be negative.

    Shapes and errors as for `population_stability_index`; dispersion: 1 or more, one number or shape (...).
    """
    degrees, rows = degrees_of_freedom(reference, current), effective_rows(reference, current, dispersion=dispersion)
    return np.asarray(population_stability_index(reference, current) - degrees / rows)


def degrees_of_freedom(reference: Array, current: Array) -> Ints:
    """B - 1, B being the number of occupied bins, shape (...)."""
    return np.asarray(occupied_bins(reference, current).sum(axis=-1) - 1)


def effective_rows(reference: Array, current: Array, *, dispersion: npt.ArrayLike = 1.0) -> Floats:
    """1 / ((1/n + 1/m) dispersion), shape (...): without drift, PSI times this has a chi-squared distribution."""
    n, m = (np.asarray(x).sum(axis=-1, dtype=np.float64) for x in (reference, current))
    return np.asarray(1 / ((1 / n + 1 / m) * np.asarray(dispersion, dtype=np.float64)))


def psi_exceeds(
    psi: npt.ArrayLike, degrees: npt.ArrayLike, rows: npt.ArrayLike, alpha: float, tolerance: npt.ArrayLike
) -> Flags:
    """Whether the lower confidence bound of PSI is above `tolerance`, with error `alpha`; the arguments broadcast.

    degrees: B - 1; rows: from `effective_rows`.
    Compares PSI times rows with the quantile 1 - alpha of chi-squared with noncentrality tolerance times rows.
    """
    psi, degrees, rows, tolerance = np.broadcast_arrays(
        *(np.asarray(x, float) for x in (psi, degrees, rows, tolerance))
    )
    exceeds = np.asarray(psi > tolerance)
    # The quantile grows with the noncentrality, and the central tail is 50 times cheaper: it rules out most cases.
    exceeds &= (degrees > 0) & (chdtrc(np.maximum(degrees, 1), psi * rows) < alpha)
    at = exceeds.copy()
    if at.any():
        tail = ncx2.sf(psi[at] * rows[at], degrees[at], tolerance[at] * rows[at])
        exceeds[at] = tail < alpha
    return np.asarray(exceeds)


def psi_lower_bound(psi: npt.ArrayLike, degrees: npt.ArrayLike, rows: npt.ArrayLike, alpha: float) -> Floats:
    """Lower bound of the true PSI with confidence 1 - alpha; zero if chance alone explains the observed PSI.

    degrees: B - 1; rows: from `effective_rows`; the arguments broadcast. Bisection, exact to 1e-4 of `psi`.

    >>> bound = psi_lower_bound([0.01, 0.1], degrees=15, rows=1000.0, alpha=1e-6)
    >>> bound.round(3).tolist()
    [0.0, 0.018]
    """
    psi, degrees, rows = np.broadcast_arrays(*(np.asarray(x, float) for x in (psi, degrees, rows)))
    bound = np.zeros(psi.shape)
    at = (degrees > 0) & (chdtrc(np.maximum(degrees, 1), psi * rows) < alpha)
    if at.any():
        seen, df, n = (psi * rows)[at], degrees[at], rows[at]
        low, high = np.zeros(seen.shape), psi[at]
        for _ in range(14):
            middle = (low + high) / 2
            beyond = ncx2.sf(seen, df, middle * n) < alpha
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        bound[at] = low
    return bound


def _log_ratio(numerator: Floats, denominator: Floats) -> Floats:
    return np.asarray(np.log(np.where(numerator > 0, numerator, 1.0) / np.where(denominator > 0, denominator, 1.0)))
