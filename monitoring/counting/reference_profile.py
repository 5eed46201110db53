"""Reference profile: histograms of the inputs over the training rows, and of the score over held-out rows.

Bin edges are fixed here, on the reference; later values do not change them. Edges from pooled reference and current
values would let a single outlier hide a shift.
"""

from collections.abc import Sequence

import numpy as np

from scoring.arrays import Array, Columns, Floats, Ints, Matrix
from scoring.bundle.manifest import FeatureEncoding, FeatureProfile

QUANTILES = (0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 0.999)
MASS_POINT_SHARE = 0.1
FINE_CODES = 250  # number of codes of a number; enough for KS to three digits
SCORE, ALERT, DEAD_LETTER = "score", "alert", "dead-letter"  # monitored features other than the inputs


def reference_edges(values: Floats) -> tuple[float, ...]:
    """Bin edges of a number: ascending, distinct; bin i is edges[i-1] <= x < edges[i].

    values: shape (n,), NaN if missing. Edges are quantiles that occur in the data. A mass point, a value with at least
    10 % of the rows, has its own bin, [v, next float64 after v). Without values there are no edges: one open bin.

    >>> reference_edges(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, np.nan]))
    (0.0, 5e-324)
    """
    present = values[~np.isnan(values)]
    if not len(present):
        return ()
    quantiles = np.quantile(present, QUANTILES, method="inverted_cdf")
    distinct, counts = np.unique(present, return_counts=True)
    points = distinct[counts >= MASS_POINT_SHARE * len(present)]
    with np.errstate(over="ignore"):
        after = np.nextafter(points, np.inf)
    edges = np.unique(np.concatenate([quantiles, points, after[np.isfinite(after)]]))
    return tuple((edges + 0.0).tolist())  # + 0.0 turns -0.0 into 0.0, so that the edge has one representation


def fine_edges(values: Floats, n_codes: int = FINE_CODES) -> tuple[float, ...]:
    """Edges of the codes: `reference_edges` and the n_codes-quantiles of the reference.

    >>> len(fine_edges(np.arange(10_000.0)))
    253
    """
    present = values[~np.isnan(values)]
    if not len(present):
        return ()
    quantiles = np.quantile(present, np.arange(1, n_codes) / n_codes, method="inverted_cdf")
    return tuple(np.union1d(reference_edges(values), quantiles + 0.0).tolist())


def count_numbers(values: Floats, edges: Sequence[float]) -> Ints:
    """Count values per bin of `edges`, shape (n_edges + 1,); the outermost bins are open, NaN is not counted.

    >>> count_numbers(np.array([-1.0, 0.0, 0.5, 1.0, 9.0, np.nan]), (0.0, 1.0)).tolist()
    [1, 2, 2]
    """
    present = values[~np.isnan(values)]
    codes = np.searchsorted(np.asarray(edges, dtype=np.float64), present, side="right")
    return np.bincount(codes, minlength=len(edges) + 1)


def profile_numbers(name: str, values: Floats) -> FeatureProfile:
    """Profile of a number, of a boolean as 0 and 1, or of the score. Counts and missing sum to the number of rows."""
    edges = fine_edges(values)
    counts = count_numbers(values, edges)
    return FeatureProfile(
        name=name, edges=edges, counts=tuple(counts.tolist()), missing=int(np.count_nonzero(np.isnan(values)))
    )


def profile_codes(name: str, codes: Array, n_levels: int) -> FeatureProfile:
    """Profile of a category by code: its levels, then OTHER, then MISSING, whose count `missing` repeats.

    codes: shape (n,), integers 0 .. n_levels + 1 from `featurize`. The counts sum to the number of rows.

    >>> profile_codes("ciudad", np.array([0, 1, 1, 3], dtype=np.float32), 2).counts
    (1, 2, 0, 1)
    """
    counts = np.bincount(codes.astype(np.intp), minlength=n_levels + 2)
    return FeatureProfile(name=name, counts=tuple(counts.tolist()), missing=int(counts[n_levels + 1]))


def reference_profile(
    encoding: Sequence[FeatureEncoding],
    columns: Columns,
    matrix: Matrix,
    held_out_scores: Floats,
    *,
    review: float,
    rejected: int,
) -> tuple[FeatureProfile, ...]:
    """Profiles of the features in order of the matrix, then of score, alert and dead letter.

    columns: cleaned training rows, so that missing numbers are visible; matrix: the same rows from `featurize`,
    shape (n, n_features). held_out_scores: shape (m,), of rows that the trees were not fitted to; scores of fitted rows
    have a wider distribution than later scores, which would look like drift. review: minimum score for review;
    rejected: number of rows of the history that could not be scored.
    """
    profiles = [
        profile_codes(f.name, matrix[:, j], len(f.levels))
        if f.kind == "category"
        else profile_numbers(f.name, np.asarray(columns[f.name], dtype=np.float64))
        for j, f in enumerate(encoding)
    ]
    flagged = int(np.count_nonzero(held_out_scores >= review))
    return (
        *profiles,
        profile_numbers(SCORE, held_out_scores),
        FeatureProfile(name=ALERT, counts=(len(held_out_scores) - flagged, flagged), missing=0),
        FeatureProfile(name=DEAD_LETTER, counts=(len(matrix), rejected), missing=0),
    )
