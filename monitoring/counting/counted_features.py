"""What is counted of each transaction: its inputs, its score, whether it was flagged or was a dead letter.

The same bins and the same coding serve training, which counts the reference, and the workers, which count what comes.
"""

import numpy as np

from monitoring.counting.bins import NOT_COUNTED, FrozenBins, bins_of_profile, share_bins
from monitoring.counting.reference_profile import ALERT, DEAD_LETTER, SCORE
from schemas.errors import ModelIncompatibleError
from scoring.arrays import Array, Columns, Floats, Indices, Matrix
from scoring.bundle.manifest import Manifest

SHARES = (ALERT, DEAD_LETTER)  # happen or do not


def check_profile(manifest: Manifest) -> None:
    """Raise ModelIncompatibleError when a feature's profile has not the counts that its levels or edges ask for."""
    levels = {f.name: len(f.levels) for f in manifest.features if f.kind == "category"}
    for p in manifest.profile:
        wanted = levels[p.name] + 2 if p.name in levels else 2 if p.name in SHARES else len(p.edges) + 1
        if len(p.counts) != wanted:
            raise ModelIncompatibleError(
                f"the manifest's profile of {p.name} has {len(p.counts)} counts, wanted {wanted}: it is damaged; "
                "fetch it again, or train the model again with `tamiz train`"
            )


def counted_bins(manifest: Manifest) -> FrozenBins:
    """The bins frozen with a model: its inputs in the matrix's order, score, alert, dead letter.

    Raises ModelIncompatibleError when the manifest's profile does not fit its features.
    """
    check_profile(manifest)
    encodings = {f.name: f for f in manifest.features}
    return FrozenBins(
        [
            share_bins(p.name, *p.counts) if p.name in SHARES else bins_of_profile(p, encodings.get(p.name))
            for p in manifest.profile
        ]
    )


def encode_scored(
    bins: FrozenBins,
    manifest: Manifest,
    columns: Columns,
    matrix: Matrix,
    scores: Floats,
    outcomes: Indices,
) -> Indices:
    """Codes of scored transactions, shape (n, n_features of the layout).

    columns: cleaned, where missing numbers are still visible; matrix: the same rows featurized; scores and outcomes:
    shape (n,), outcomes as `outcome_codes` gives them.
    """
    values: dict[str, Array] = {
        f.name: matrix[:, j] if f.kind == "category" else columns[f.name] for j, f in enumerate(manifest.features)
    }
    values |= {SCORE: scores, ALERT: outcomes > 0, DEAD_LETTER: np.zeros(len(scores))}
    return bins.encode(values)


def encode_dead_letters(bins: FrozenBins, n: int) -> Indices:
    """Codes of n transactions that could not be scored: they count as dead letters and in nothing else."""
    codes = np.full((n, len(bins.features)), NOT_COUNTED, dtype=np.intp)
    codes[:, bins.names.index(DEAD_LETTER)] = 1
    return codes
