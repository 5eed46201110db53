"""Two distributions counted in the same bins, one frozen in training: how far apart, and how far by luck alone."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import chi2

from monitoring.statistics.ks import ks_statistic
from monitoring.statistics.psi import degrees_of_freedom, effective_rows, population_stability_index

MIN_EXPECTED = 50  # reference rows a bin should hold (DRIFT)

Counts = npt.NDArray[np.int64]


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """How far current rows lie from the reference."""

    psi: float  # nats
    psi_by_luck: float  # what PSI comes to on average without any drift, rows being independent
    p_value: float  # of a PSI so large without drift
    ks: float  # largest distance of the two cumulative shares at a bin's edge: never above the exact one


def shift(reference: Counts, current: Counts, *, ordered: bool = True) -> Shift:
    """PSI and KS between counts over the same bins.

    reference, current: shape (n_bins,), the outermost bins open; an empty side raises ValueError, as do two shapes.
    ordered: False for categories, whose KS is that of the order their codes have and should not be read.
    Neighbouring bins are merged for PSI until each expects 50 reference rows; without drift it is then
    (1/n + 1/m)·chi-squared(B - 1), see `monitoring.statistics.psi`.

    >>> round(shift(np.array([500, 500]), np.array([900, 100])).psi, 2)
    0.88
    """
    ks = float(ks_statistic(reference, current))
    r, c = merged(reference, current) if ordered else pooled(reference, current)
    psi = float(population_stability_index(r, c))
    degrees, rows = int(degrees_of_freedom(r, c)), float(effective_rows(r, c))
    return Shift(
        psi=psi,
        psi_by_luck=degrees / rows,
        p_value=float(chi2.sf(psi * rows, degrees)) if degrees else 1.0,
        ks=ks,
    )


def merged(reference: Counts, current: Counts, least: int = MIN_EXPECTED) -> tuple[Counts, Counts]:
    """Neighbouring bins joined, from the left, until each holds `least` reference rows; the rest joins the last.

    >>> [x.tolist() for x in merged(np.array([10, 45, 60, 5]), np.array([1, 2, 3, 4]))]
    [[55, 65], [3, 7]]
    """
    starts, held = [0], 0
    for i, count in enumerate(reference.tolist()):
        if held >= least:
            starts.append(i)
            held = 0
        held += count
    if held < least and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(reference, starts), np.add.reduceat(current, starts)


def pooled(reference: Counts, current: Counts, least: int = MIN_EXPECTED) -> tuple[Counts, Counts]:
    """Categories with fewer than `least` reference rows taken together, for they have no neighbours.

    >>> [x.tolist() for x in pooled(np.array([10, 45, 60]), np.array([1, 2, 3]))]
    [[60, 55], [3, 3]]
    """
    rare = reference < least
    if not rare.any():
        return reference, current
    r, c = (np.append(x[~rare], x[rare].sum()) for x in (reference, current))
    return r, c


def binned_quantiles(edges: Sequence[float], counts: Sequence[int], levels: Sequence[float]) -> tuple[float, ...]:
    """Quantiles read from counts between edges: exact at an edge, within a bin as if the values were normal there,
    for they thin out towards their ends; an open bin gives its edge.

    edges: n_bins - 1, ascending. counts: n_bins. levels: in (0, 1). Without edges there is nothing to tell: ().

    >>> [round(q, 3) for q in binned_quantiles((0.0, 1.0), (10, 80, 10), (0.01, 0.1, 0.5, 0.99))]
    [0.0, 0.0, 0.5, 1.0]
    """
    if not edges:
        return ()
    reached = np.clip(np.cumsum(counts)[:-1] / np.sum(counts), 1e-12, 1 - 1e-12)
    return tuple(np.interp(ndtri(levels), ndtri(reached), edges).tolist())
