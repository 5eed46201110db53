"""Two distributions counted in the same bins, one frozen in training: how far apart, and how far by luck alone."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import chi2

from monitoring.counting.bins import FeatureBins
from monitoring.statistics.ks import ks_statistic
from monitoring.statistics.psi import degrees_of_freedom, effective_rows, population_stability_index

Counts = npt.NDArray[np.int64]


class DistributionShift(msgspec.Struct, frozen=True, kw_only=True):
    """How far current rows lie from the reference."""

    psi: float  # nats
    psi_by_luck: float  # what PSI comes to on average without any drift, rows being independent
    p_value: float  # of a PSI so large without drift
    ks: float  # largest distance of the two cumulative shares at a bin's edge: never above the exact one


def shift(feature: FeatureBins, current: Counts) -> DistributionShift:
    """PSI and KS of current rows against a feature's reference.

    current: rows by code, shape (n_codes,), MISSING last, at least one.
    KS is read from the fine codes, missing rows left out; for categories it is that of the order their codes have and
    should not be read. Without drift PSI is (1/n + 1/m)·chi-squared(B - 1), see `monitoring.statistics.psi`.
    """
    present = feature.reference[:-1], current[:-1]
    r = feature.reference_bins
    c = np.bincount(feature.bin_of_code, weights=current, minlength=feature.n_bins)
    psi = float(population_stability_index(r, c))
    degrees, rows = int(degrees_of_freedom(r, c)), float(effective_rows(r, c))
    return DistributionShift(
        psi=psi,
        psi_by_luck=degrees / rows,
        p_value=float(chi2.sf(psi * rows, degrees)) if degrees else 1.0,
        ks=float(ks_statistic(*present)) if all(p.any() for p in present) else 0.0,
    )


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
