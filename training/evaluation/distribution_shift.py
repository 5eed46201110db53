"""PSI and KS between a feature's training reference and current rows, counted in the same bins."""

from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.special import ndtri
from scipy.stats import chi2

from monitoring.counting.bins import FeatureBins
from monitoring.statistics.ks import ks_statistic
from monitoring.statistics.psi import degrees_of_freedom, effective_rows, population_stability_index
from scoring.arrays import Ints


class DistributionShift(msgspec.Struct, frozen=True, kw_only=True):
    """Distance between current rows and the reference."""

    psi: float  # nats
    expected_psi: float  # mean PSI without drift, for independent rows
    p_value: float  # of a PSI at least so large without drift
    ks: float  # largest distance of the cumulative shares at the bins' edges: a lower bound of the exact KS


def shift(feature: FeatureBins, current: Ints) -> DistributionShift:
    """PSI and KS of current rows against a feature's reference.

    current: row counts by code, shape (n_codes,), MISSING last; at least one row.
    KS is computed on the fine codes without missing rows. For categories it depends on the order of the codes and has
    no meaning. Without drift, PSI is distributed as (1/n + 1/m)·chi-squared(B - 1), see `monitoring.statistics.psi`.
    """
    present = feature.reference[:-1], current[:-1]
    r = feature.reference_bins
    c = np.bincount(feature.bin_of_code, weights=current, minlength=feature.n_bins)
    psi = float(population_stability_index(r, c))
    degrees, rows = int(degrees_of_freedom(r, c)), float(effective_rows(r, c))
    return DistributionShift(
        psi=psi,
        expected_psi=degrees / rows,
        p_value=float(chi2.sf(psi * rows, degrees)) if degrees else 1.0,
        ks=float(ks_statistic(*present)) if all(p.any() for p in present) else 0.0,
    )


def binned_quantiles(edges: Sequence[float], counts: Sequence[int], levels: Sequence[float]) -> tuple[float, ...]:
    """Quantiles from binned counts.

    Exact at an edge; within a bin, interpolated on the normal scale, because densities fall towards the tails; in an
    open bin, the bin's edge.
    edges: n_bins - 1, ascending. counts: n_bins. levels: in (0, 1). Returns () when there are no edges.

    >>> [round(q, 3) for q in binned_quantiles((0.0, 1.0), (10, 80, 10), (0.01, 0.1, 0.5, 0.99))]
    [0.0, 0.0, 0.5, 1.0]
    """
    if not edges:
        return ()
    reached = np.clip(np.cumsum(counts)[:-1] / np.sum(counts), 1e-12, 1 - 1e-12)
    return tuple(np.interp(ndtri(levels), ndtri(reached), edges).tolist())
