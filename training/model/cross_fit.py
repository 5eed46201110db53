"""A calibrated model with operating points, all from one set of rows.

Blocked cross-validation chooses the number of trees and scores every block by trees that have not seen it. The sigmoid
and the operating points are chosen on these out-of-fold scores; the model itself is then fitted to all rows. So no row
is set aside, and frauds of the newest rows are learned, too.

The trees of a fold have seen a little less than the model has; out-of-fold scores are therefore slightly too modest
rather than too good.
"""

from math import ceil
from typing import NamedTuple

import numpy as np
import xgboost as xgb

from schemas.dataset.declaration import Dataset
from scoring.arrays import Columns, Floats, Indices, Ints, Matrix
from scoring.bundle.manifest import FeatureEncoding
from scoring.features import featurize, fit_encoding
from training.data.time_split import block_folds
from training.model.cross_validation import cross_validate, make_folds
from training.model.fit import FitConfig, Part, fit
from training.model.operating_points import PointChoice, PointPolicy, choose_points
from training.model.probability_calibration import ProbabilityCalibration, fit_calibration, scale_leaves

N_BLOCKS = 5
ENOUGH_FRAUDS = 500  # out of fold: more of them would hardly change what is chosen, but cost a fold each


class CrossFit(NamedTuple):
    """A model and what was chosen on its rows."""

    booster: xgb.Booster  # calibrated, fitted to all rows
    encoding: tuple[FeatureEncoding, ...]
    matrix: Matrix  # of all rows, shape (n, n_features)
    calibration: ProbabilityCalibration
    choice: PointChoice
    held_out: Indices  # rows with an out-of-fold score, in order of event time
    scores: Floats  # calibrated out-of-fold scores of these rows


def cross_fit(
    dataset: Dataset,
    columns: Columns,
    fraud: Floats,
    event_time_ms: Ints,
    *,
    config: FitConfig,
    points: PointPolicy,
    gap_ms: int = 0,
) -> CrossFit:
    """Fit a calibrated model with operating points to rows.

    columns: cleaned, each of shape (n,); fraud (0 or 1) and event_time_ms: shape (n,). gap_ms: the label delay, kept
    free between a fold's train and test rows.
    Raises TrainingError when the frauds lie too close together in time for cross-validation.
    """
    splits = block_folds(event_time_ms, N_BLOCKS, gap_ms=gap_ms)[-tested_blocks(int(fraud.sum())) :]
    validation = cross_validate(make_folds(dataset, columns, fraud, splits), config)
    rounds = validation.rounds
    held_out = np.concatenate([fold.rows for fold in validation.folds])
    margins = np.concatenate([validation.margins(k, rounds) for k in range(len(validation.folds))])
    calibration = fit_calibration(margins, fraud[held_out])
    scores = calibration.apply(margins)
    amounts = columns[dataset.amount][held_out] if dataset.amount else np.full(len(scores), np.nan)

    encoding = fit_encoding(dataset, columns)
    matrix = featurize(encoding, columns)
    booster = fit(Part(matrix=matrix, fraud=fraud), encoding, config, rounds)
    if calibration.is_applied:
        booster = scale_leaves(booster, calibration.slope, calibration.intercept)
    return CrossFit(
        booster=booster,
        encoding=encoding,
        matrix=matrix,
        calibration=calibration,
        choice=choose_points(fraud[held_out], scores, points, amounts),
        held_out=held_out,
        scores=scores,
    )


def tested_blocks(frauds: int) -> int:
    """How many of the latest blocks are tested on: as many as hold `ENOUGH_FRAUDS`, if frauds are spread evenly.

    >>> [tested_blocks(frauds) for frauds in (20, 500, 900, 10_000)]
    [5, 5, 3, 1]
    """
    return min(N_BLOCKS, ceil(ENOUGH_FRAUDS * N_BLOCKS / max(frauds, 1)))
