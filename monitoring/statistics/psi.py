"""Population stability index: how far a binned distribution has moved, and what of it is more than chance.

Called CSI when it is an input's and PSI when it is the score's; one formula. All functions take counts over the last
axis and broadcast over the others. A bin empty on both sides is no bin: it counts for nothing, so that histograms of
different lengths stand in one array, padded with zeros.

Source: Yurdakul (2018), Statistical Properties of the Population Stability Index: under no drift
PSI ~ (1/n + 1/m) chi2(B - 1), times the dispersion when events come in clusters.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc
from scipy.stats import ncx2

from scoring.arrays import Array, Flags, Floats, Ints

EMPTY_SHARE = 1e-4  # what the classic recipe takes for an empty bin's share
MIN_EFFECTIVE_ROWS = 300  # below it "PSI > 0.2" rings 44 % of the time with nothing wrong, so PSI gets no label


def occupied_bins(reference: Array, current: Array) -> Flags:
    """Which bins hold anything on either side; shape as the two broadcast together.

    Raises ValueError when the two differ in their number of bins or one of them holds nothing.
    """
    reference, current = np.asarray(reference), np.asarray(current)
    if reference.shape[-1] != current.shape[-1]:
        raise ValueError(f"the reference has {reference.shape[-1]} bins, the current window {current.shape[-1]}")
    if not (reference.sum(axis=-1) > 0).all() or not (current.sum(axis=-1) > 0).all():
        raise ValueError("an empty histogram has no shares")
    return (reference > 0) | (current > 0)


def smoothed_shares(counts: Array, occupied: Flags, pseudo_count: float = 0.5) -> Floats:
    """(count + 1/2) / (n + B/2) over the occupied bins, zero elsewhere; sums to one over the last axis.

    Source: Krichevsky & Trofimov (1981), The Performance of Universal Encoding.

    >>> smoothed_shares(np.array([3, 0, 0]), np.array([True, True, False])).tolist()
    [0.875, 0.125, 0.0]
    """
    raised = np.where(occupied, counts + pseudo_count, 0.0)
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float64)


def population_stability_index(reference: Array, current: Array, *, pseudo_count: float = 0.5) -> Floats:
    """How far two binned distributions lie apart: 0 when equal, symmetric, in nats.

    reference, current: shape (..., n_bins), counts over the *reference's* bins, the outermost open; missing is a bin.
    pseudo_count: added to every bin, so that an empty bin is rare and not infinitely far.
    Returns shape (...). Raises ValueError when the two differ in length or a side is empty.

    >>> round(float(population_stability_index(np.array([50, 50]), np.array([90, 10]))), 2)
    0.85
    """
    occupied = occupied_bins(reference, current)
    r = smoothed_shares(reference, occupied, pseudo_count)
    c = smoothed_shares(current, occupied, pseudo_count)
    return np.asarray(((c - r) * _log_ratio(c, r)).sum(axis=-1))


def classic_psi(reference: Array, current: Array) -> Floats:
    """PSI as most tools compute it: raw shares, an empty bin's share put at 1e-4 and nothing normalised again.

    Shapes and errors as for `population_stability_index`. Reported beside it, on deciles, for comparison with others.

    >>> round(float(classic_psi(np.array([50, 50]), np.array([90, 10]))), 2)
    0.88
    """
    occupied = occupied_bins(reference, current)
    r, c = (np.asarray(x) / np.asarray(x).sum(axis=-1, keepdims=True) for x in (reference, current))
    r, c = (np.where(occupied & (x == 0), EMPTY_SHARE, x) for x in (r, c))
    return np.asarray(((c - r) * _log_ratio(c, r)).sum(axis=-1))


def bias_corrected_psi(reference: Array, current: Array, *, dispersion: npt.ArrayLike = 1.0) -> Floats:
    """PSI less its mean under no drift, dispersion (B - 1)(1/n + 1/m); about zero, also below, when nothing moved.

    Shapes and errors as for `population_stability_index`; dispersion: 1 or more, one number or shape (...).
    """
    degrees, rows = degrees_of_freedom(reference, current), effective_rows(reference, current, dispersion=dispersion)
    return np.asarray(population_stability_index(reference, current) - degrees / rows)


def degrees_of_freedom(reference: Array, current: Array) -> Ints:
    """B - 1 with B the bins occupied on either side, shape (...)."""
    return np.asarray(occupied_bins(reference, current).sum(axis=-1) - 1)


def effective_rows(reference: Array, current: Array, *, dispersion: npt.ArrayLike = 1.0) -> Floats:
    """1 / ((1/n + 1/m) dispersion), shape (...): PSI times this is chi-squared under no drift."""
    n, m = (np.asarray(x).sum(axis=-1, dtype=np.float64) for x in (reference, current))
    return np.asarray(1 / ((1 / n + 1 / m) * np.asarray(dispersion, dtype=np.float64)))


def psi_exceeds(
    psi: npt.ArrayLike, degrees: npt.ArrayLike, rows: npt.ArrayLike, alpha: float, tolerance: npt.ArrayLike
) -> Flags:
    """Whether the lower confidence bound of PSI is above `tolerance`, with error `alpha`; the arguments broadcast.

    degrees: B - 1; rows: as `effective_rows` gives them.
    PSI times rows is held against the quantile 1 - alpha of chi-squared with noncentrality tolerance times rows.
    """
    psi, degrees, rows, tolerance = np.broadcast_arrays(
        *(np.asarray(x, float) for x in (psi, degrees, rows, tolerance))
    )
    exceeds = np.asarray(psi > tolerance)
    # Its quantile grows with the noncentrality, and the central tail costs a fiftieth: nearly all is decided here.
    exceeds &= (degrees > 0) & (chdtrc(np.maximum(degrees, 1), psi * rows) < alpha)
    at = exceeds.copy()
    if at.any():
        tail = ncx2.sf(psi[at] * rows[at], degrees[at], tolerance[at] * rows[at])
        exceeds[at] = tail < alpha
    return np.asarray(exceeds)


def psi_lower_bound(psi: npt.ArrayLike, degrees: npt.ArrayLike, rows: npt.ArrayLike, alpha: float) -> Floats:
    """The PSI that is exceeded with confidence 1 - alpha; zero when no drift at all explains what was seen.

    degrees: B - 1; rows: as `effective_rows` gives them; the arguments broadcast. Found by bisection to 1e-4 of `psi`.

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
