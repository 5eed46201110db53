"""Fewer good rows, or more frauds made up between those there are: what the trees may learn from instead of the rows.

Neither adds knowledge, and both shift probabilities (`training.model.probability_calibration` brings them back); they
are candidates of the search, no habit.
Sources: Chawla et al. (2002), SMOTE: Synthetic Minority Over-sampling Technique; Dal Pozzolo et al. (2015), Calibrating
Probability with Undersampling for Unbalanced Classification.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from scoring.arrays import Floats, Matrix

Resampling = Literal["none", "down", "smote"]

NEIGHBOURS = 5  # of a fraud, between which and it new ones are made


def resample(
    matrix: Matrix, fraud: Floats, codes: Sequence[int], how: Resampling, share: float, seed: int
) -> tuple[Matrix, Floats]:
    """Rows of which `share` is fraud: of the good ones some are left out, or frauds are made up and put last.

    matrix: shape (n, n_features), finite; fraud: shape (n,) of 0 and 1. codes: columns whose values have no between.
    The rows as they are where fraud has the share already, or is too rare to have neighbours.
    """
    frauds = int(fraud.sum())
    odds = share / (1 - share)
    if how == "none" or frauds < 2 or odds <= frauds / (len(fraud) - frauds):
        return matrix, fraud
    if how == "down":
        goods = np.flatnonzero(fraud == 0)
        kept = np.random.default_rng(seed).choice(goods, round(frauds / odds), replace=False)
        rows = np.sort(np.concatenate([kept, np.flatnonzero(fraud == 1)]))
        return matrix[rows], fraud[rows]
    return _with_made_up(matrix, fraud, codes, odds, min(NEIGHBOURS, frauds - 1), seed)


def _with_made_up(
    matrix: Matrix, fraud: Floats, codes: Sequence[int], odds: float, neighbours: int, seed: int
) -> tuple[Matrix, Floats]:
    # Only here: it takes as long to import as the trees to grow, and serving must do without it.
    from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC

    options: dict[str, Any] = {"sampling_strategy": odds, "k_neighbors": neighbours, "random_state": seed}
    if not codes:
        sampler = SMOTE(**options)
    elif len(codes) == matrix.shape[1]:
        sampler = SMOTEN(**options)
    else:
        sampler = SMOTENC(categorical_features=list(codes), **options)
    # Who is near whom must not hang on the unit of an amount.
    numbers = np.setdiff1d(np.arange(matrix.shape[1]), codes)
    scaled = matrix.astype(np.float64)
    middle, width = scaled[:, numbers].mean(axis=0), scaled[:, numbers].std(axis=0)
    width[width == 0] = 1.0
    scaled[:, numbers] = (scaled[:, numbers] - middle) / width
    made = np.asarray(sampler.fit_resample(scaled, fraud)[0])[len(matrix) :]
    made[:, numbers] = made[:, numbers] * width + middle
    return np.concatenate([matrix, made.astype(np.float32)]), np.concatenate([fraud, np.ones(len(made))])
