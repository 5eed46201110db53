"""Cross-validation over folds of time: how many trees to grow, and scores of rows by trees that have not seen them.

One validation part of a history with rare fraud holds few frauds, and its log loss is lowest by chance after a handful
of trees. The trees of all folds grow together, one round at a time; the number of rounds is where the log loss of all
held-out rows together is lowest, so that every fraud of every fold counts. Growing stops when it has not fallen for
`early_stopping_rounds` rounds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xgboost as xgb

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from scoring.arrays import Array, Columns, Floats, Indices
from scoring.bundle.manifest import FeatureEncoding
from scoring.features import featurize, fit_encoding
from training.data.time_split import Split
from training.model.fit import Boosting, FitConfig, Part, margins


class Fold(NamedTuple):
    """One fold: rows to train on and rows to test on."""

    encoding: tuple[FeatureEncoding, ...]  # fitted to the train rows only
    train: Part
    test: Part
    rows: Indices  # of the test part


class CrossValidation(NamedTuple):
    """Trees of every fold, grown to the same number of rounds, and their losses."""

    folds: tuple[Fold, ...]
    boosters: tuple[xgb.Booster, ...]
    losses: Floats  # shape (n_rounds, n_folds): weighted log loss, summed over the fold's test rows

    @property
    def rounds(self) -> int:
        """The number of rounds with the lowest log loss of all test rows."""
        return best_rounds(self.losses)

    def rounds_without(self, fold: int) -> int:
        """The number of rounds that the other folds choose, so that it does not depend on this fold's test rows."""
        others = np.delete(self.losses, fold, axis=1)
        return best_rounds(others if others.size else self.losses)

    def margins(self, fold: int, rounds: int) -> Floats:
        """Log-odds of a fold's test rows after `rounds` rounds, shape (n,)."""
        return margins(self.boosters[fold], self.folds[fold].test.matrix, rounds)


def best_rounds(losses: Floats) -> int:
    """The number of rounds with the lowest sum of losses; of equal ones the lowest. losses: shape (n_rounds, n_folds).

    >>> best_rounds(np.array([[3.0, 2.0], [1.0, 3.0], [2.0, 3.0]]))
    2
    """
    return int(np.argmin(losses.sum(axis=1))) + 1


def make_folds(dataset: Dataset, columns: Columns, fraud: Floats, splits: Sequence[Split]) -> tuple[Fold, ...]:
    """Featurized folds; a fold whose train part holds one class only is left out.

    columns: cleaned, each of shape (n,); fraud: shape (n,), 0 or 1; splits: of these rows.
    Raises TrainingError when no fold is left.
    """
    found = []
    for train, test in splits:
        if 0 < fraud[train].sum() < len(train):
            encoding = fit_encoding(dataset, _columns_at(columns, train))
            train_part, test_part = (
                Part(matrix=featurize(encoding, _columns_at(columns, rows)), fraud=fraud[rows])
                for rows in (train, test)
            )
            found.append(Fold(encoding, train_part, test_part, test))
    if not found:
        raise TrainingError(
            f"the {int(fraud.sum())} frauds in {len(fraud)} rows lie too close together in time for cross-validation; "
            "give a longer history"
        )
    return tuple(found)


def cross_validate(folds: Sequence[Fold], config: FitConfig) -> CrossValidation:
    """Grow the trees of all folds together until the log loss of their test rows has stopped falling."""
    grown = [Boosting(fold.train, fold.encoding, config, fold.test.matrix) for fold in folds]
    losses: list[list[float]] = []
    best, best_at = np.inf, 0
    while len(losses) < min(config.max_rounds, best_at + 1 + config.early_stopping_rounds):
        for boosting in grown:
            boosting.grow()
        losses.append(
            [_loss(b.held_out_margins(), f.test.fraud, b.fraud_weight) for b, f in zip(grown, folds, strict=True)]
        )
        if sum(losses[-1]) < best:
            best, best_at = sum(losses[-1]), len(losses) - 1
    return CrossValidation(tuple(folds), tuple(b.booster for b in grown), np.array(losses))


def _loss(margins: Floats, fraud: Floats, fraud_weight: float) -> float:
    return float(np.sum(np.where(fraud == 1, fraud_weight, 1.0) * (np.logaddexp(0, margins) - fraud * margins)))


def _columns_at(columns: Columns, rows: Indices) -> dict[str, Array]:
    return {name: values[rows] for name, values in columns.items()}
