"""Resampling of training rows: random undersampling of legitimate rows, or SMOTE oversampling of frauds.

Both shift probabilities, which `training.model.probability_calibration` corrects. They are options of the
hyperparameter search and off by default.
Sources: Chawla et al. (2002), SMOTE: Synthetic Minority Over-sampling Technique; Dal Pozzolo et al. (2015), Calibrating
Probability with Undersampling for Unbalanced Classification.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from scoring.arrays import Floats, Matrix

Resampling = Literal["none", "down", "smote"]

N_NEIGHBOURS = 5  # SMOTE interpolates between a fraud and one of its nearest frauds


def resample(
    matrix: Matrix, fraud: Floats, codes: Sequence[int], how: Resampling, share: float, seed: int
) -> tuple[Matrix, Floats]:
    """Resample rows so that `share` of them is fraud.

    matrix: shape (n, n_features), finite; fraud: shape (n,) of 0 and 1. codes: indices of categorical columns, which
    are not interpolated. how: "down" drops legitimate rows; "smote" appends synthetic frauds.
    Returns the rows unchanged when the share is reached already or there are fewer than 2 frauds.
    """
    frauds = int(fraud.sum())
    odds = share / (1 - share)
    if how == "none" or frauds < 2 or odds <= frauds / (len(fraud) - frauds):
        return matrix, fraud
    if how == "down":
        legitimate = np.flatnonzero(fraud == 0)
        kept = np.random.default_rng(seed).choice(legitimate, round(frauds / odds), replace=False)
        rows = np.sort(np.concatenate([kept, np.flatnonzero(fraud == 1)]))
        return matrix[rows], fraud[rows]
    return _oversample(matrix, fraud, codes, odds, min(N_NEIGHBOURS, frauds - 1), seed)


def _oversample(
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
    # Standardized, so that distances do not depend on units.
    numbers = np.setdiff1d(np.arange(matrix.shape[1]), codes)
    scaled = matrix.astype(np.float64)
    middle, width = scaled[:, numbers].mean(axis=0), scaled[:, numbers].std(axis=0)
    width[width == 0] = 1.0
    scaled[:, numbers] = (scaled[:, numbers] - middle) / width
    synthetic = np.asarray(sampler.fit_resample(scaled, fraud)[0])[len(matrix) :]
    synthetic[:, numbers] = synthetic[:, numbers] * width + middle
    return np.concatenate([matrix, synthetic.astype(np.float32)]), np.concatenate([fraud, np.ones(len(synthetic))])
