"""Features that are counted per transaction: inputs, score, alert (the model does not approve) and dead letter.

Training counts the reference and workers count live transactions with the same bins and codes.
"""

import numpy as np

from monitoring.counting.bins import NOT_COUNTED, FrozenBins, bins_of_profile, share_bins
from monitoring.counting.reference_profile import ALERT, DEAD_LETTER, SCORE
from schemas.errors import ModelIncompatibleError
from scoring.arrays import Array, Columns, Floats, Indices, Matrix
from scoring.bundle.manifest import Manifest

SHARES = (ALERT, DEAD_LETTER)  # yes-or-no features


def check_profile(manifest: Manifest) -> None:
    """Raise ModelIncompatibleError if a profile's number of counts does not match the feature's levels or edges."""
    levels = {f.name: len(f.levels) for f in manifest.features if f.kind == "category"}
    for p in manifest.profile:
        expected = levels[p.name] + 2 if p.name in levels else 2 if p.name in SHARES else len(p.edges) + 1
        if len(p.counts) != expected:
            raise ModelIncompatibleError(
                f"the manifest's profile of {p.name} has {len(p.counts)} counts, expected {expected}: it is damaged; "
                "fetch it again, or train the model again with `tamiz train`"
            )


def counted_bins(manifest: Manifest) -> FrozenBins:
    """Bins of a model: inputs in order of the matrix, then score, alert and dead letter.

    Raises ModelIncompatibleError if the manifest's profile does not match its features.
    """
    check_profile(manifest)
    encodings = {f.name: f for f in manifest.features}
    return FrozenBins(
        [
            share_bins(p.name, *p.counts) if p.name in SHARES else bins_of_profile(p, encodings.get(p.name))
            for p in manifest.profile
        ]
    )


def encode_transactions(
    bins: FrozenBins,
    manifest: Manifest,
    columns: Columns,
    matrix: Matrix,
    scores: Floats,
    outcomes: Indices,
) -> Indices:
    """Codes of scored transactions, shape (n, n_features + 3).

    columns: cleaned, so that missing numbers are visible; matrix: the same rows from `featurize`; scores, outcomes:
    shape (n,), outcomes from `outcome_codes`.
    """
    values: dict[str, Array] = {
        f.name: matrix[:, j] if f.kind == "category" else columns[f.name] for j, f in enumerate(manifest.features)
    }
    values |= {SCORE: scores, ALERT: outcomes > 0, DEAD_LETTER: np.zeros(len(scores))}
    return bins.encode(values)


def encode_dead_letters(bins: FrozenBins, n: int) -> Indices:
    """Codes of n dead letters, which are counted in the feature `dead-letter` only."""
    codes = np.full((n, len(bins.features)), NOT_COUNTED, dtype=np.intp)
    codes[:, bins.names.index(DEAD_LETTER)] = 1
    return codes
