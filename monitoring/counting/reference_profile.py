"""The reference profile's raw material: how each input lay where the model learned, and the score where it did not.

Bins are frozen here, on the reference, and never moved by what comes later (DRIFT: pooling reference and current lets a
single outlier hide any shift).
"""

from collections.abc import Sequence

import numpy as np

from scoring.arrays import Array, Columns, Floats, Ints, Matrix
from scoring.bundle.manifest import FeatureEncoding, FeatureProfile

QUANTILES = (0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 0.999)
MASS_POINT_SHARE = 0.1
FINE_CODES = 250  # so many that KS can be told from their counts
SCORE, ALERT, DEAD_LETTER = "score", "alert", "dead-letter"  # what is watched beside the inputs


def reference_edges(values: Floats) -> tuple[float, ...]:
    """Where to cut numbers into bins: ascending, distinct; bin i holds edges[i-1] <= x < edges[i].

    values: shape (n,), NaN where missing. Edges are reference quantiles that occur in the data; a value that holds at
    least 10 % of the present rows has a bin of its own, [v, next float64 after v).
    No present values give no edges: one open bin.

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
    return tuple((edges + 0.0).tolist())  # + 0.0: -0.0 and 0.0 are one edge, written one way


def fine_edges(values: Floats, n_codes: int = FINE_CODES) -> tuple[float, ...]:
    """`reference_edges` and, between them, the reference's quantiles at every n_codes-th part.

    >>> len(fine_edges(np.arange(10_000.0)))
    253
    """
    present = values[~np.isnan(values)]
    if not len(present):
        return ()
    quantiles = np.quantile(present, np.arange(1, n_codes) / n_codes, method="inverted_cdf")
    return tuple(np.union1d(reference_edges(values), quantiles + 0.0).tolist())


def count_numbers(values: Floats, edges: Sequence[float]) -> Ints:
    """How many values lie in each bin of `edges`, shape (n_edges + 1,); the outermost are open, NaN not counted.

    >>> count_numbers(np.array([-1.0, 0.0, 0.5, 1.0, 9.0, np.nan]), (0.0, 1.0)).tolist()
    [1, 2, 2]
    """
    present = values[~np.isnan(values)]
    codes = np.searchsorted(np.asarray(edges, dtype=np.float64), present, side="right")
    return np.bincount(codes, minlength=len(edges) + 1)


def profile_numbers(name: str, values: Floats) -> FeatureProfile:
    """Profile of a number, a boolean as 0 and 1, or the score; counts and missing together are as many as the rows."""
    edges = fine_edges(values)
    counts = count_numbers(values, edges)
    return FeatureProfile(
        name=name, edges=edges, counts=tuple(counts.tolist()), missing=int(np.count_nonzero(np.isnan(values)))
    )


def profile_codes(name: str, codes: Array, n_levels: int) -> FeatureProfile:
    """Profile of a category by code: its n levels, then OTHER, then MISSING, which `missing` repeats.

    codes: shape (n,), whole numbers 0 .. n_levels + 1 as `featurize` makes them. The counts sum to the rows.

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
    """One profile a feature, in the matrix's order, then the score's, the alert's and the dead letter's.

    columns: the cleaned training rows, from which missing numbers are still visible; matrix: the same rows featurized,
    shape (n, n_features). held_out_scores: shape (m,), of rows the trees were not fitted to; scores of fitted rows lie
    wider than any later score will, which would be taken for drift. review: the score from which a row is flagged;
    rejected: how many rows of the history could not be scored.
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
