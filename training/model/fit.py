"""Fits gradient-boosted trees with XGBoost and writes the model bundle."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xgboost as xgb

from monitoring.counting.monitored_model import MonitoredModel
from scoring.arrays import Floats, Matrix
from scoring.bundle.bundle_trial import mark_loadable
from scoring.bundle.manifest import MODEL_FILE, FeatureEncoding, GoldenVector, Manifest, write_manifest
from scoring.model import feature_types
from training.model.level_mask import mask_levels
from training.model.resampling import Resampling, resample

N_GOLDEN_ROWS = 32


class FitConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Hyperparameters of a fit. The same configuration and rows give the same model, byte for byte.

    The defaults are those of `benchmarks.components.rare_fraud`: with few frauds, shallow trees overfit less, and a
    larger `min_child_weight` leaves no split that 20 frauds could pay for.
    """

    max_depth: int = 3
    learning_rate: float = 0.1
    max_rounds: int = 1000
    early_stopping_rounds: int = 30  # stop when the out-of-fold log loss has not fallen for so many rounds
    min_child_weight: float = 2.0  # sum of p (1 - p) in a leaf: about the number of frauds that it needs
    max_bin: int = 1024  # candidate thresholds per number; more of them separate rare values
    reg_lambda: float = 1.0
    reg_alpha: float = 0.0
    subsample: float = 0.8
    colsample_bytree: float = 0.8
    scale_pos_weight: float = 1.0  # weight of a fraud row; a legitimate row weighs 1
    resampling: Resampling = "none"
    resampled_share: float = 0.1  # share of fraud after resampling
    seed: int = 0
    nthread: int = 1  # affects the result: threads change the order of floating-point sums


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Featurized and labelled rows: one part of a split."""

    matrix: Matrix  # float32, shape (n, n_features)
    fraud: Floats  # shape (n,), 0 or 1


class Boosting:
    """Gradient-boosted trees (hist) on log loss that grow round by round.

    train: resampled as configured; levels of a small share of its rows are masked (`training.model.level_mask`).
    encoding: of the matrix's columns; categories are split as categories by their codes, see
    `scoring.features.featurize`. held_out: rows that `held_out_margins` scores after each round.
    """

    fraud_weight: float  # of a fraud row in a loss on other rows, so that it is the loss that the trees minimise

    def __init__(
        self, train: Part, encoding: Sequence[FeatureEncoding], config: FitConfig, held_out: Matrix | None = None
    ) -> None:
        settings = msgspec.structs.asdict(config)
        for name in ("max_rounds", "early_stopping_rounds", "resampling", "resampled_share"):
            del settings[name]
        codes = [j for j, f in enumerate(encoding) if f.kind != "number"]
        matrix, fraud = resample(
            train.matrix, train.fraud, codes, config.resampling, config.resampled_share, config.seed
        )
        resampled = odds(fraud) / odds(train.fraud) if config.resampling != "none" else 1.0
        self.fraud_weight = config.scale_pos_weight * resampled
        types: dict[str, Any] = {
            "feature_names": [f.name for f in encoding],
            "feature_types": feature_types(encoding),
            "enable_categorical": True,
            "nthread": config.nthread,
        }
        # Holds a byte or two a cell, so that a large history fits in memory once per fold.
        self._rows = xgb.QuantileDMatrix(
            mask_levels(matrix, fraud, encoding, config.seed), label=fraud, max_bin=config.max_bin, **types
        )
        self._held_out = None if held_out is None else xgb.DMatrix(held_out, **types)
        objective = {"objective": "binary:logistic", "tree_method": "hist", "device": "cpu"}
        self.booster = xgb.Booster(objective | settings, [self._rows])

    def grow(self) -> None:
        """Add one tree."""
        self.booster.update(self._rows, self.booster.num_boosted_rounds())

    def held_out_margins(self) -> Floats:
        """Log-odds of the held-out rows, shape (n,). XGBoost keeps them, so that a round costs one tree."""
        return np.asarray(self.booster.predict(self._held_out, output_margin=True), dtype=np.float64)


def fit(train: Part, encoding: Sequence[FeatureEncoding], config: FitConfig, rounds: int) -> xgb.Booster:
    """Fit `rounds` trees to rows; `training.model.cross_validation` chooses how many. encoding: as for `Boosting`."""
    boosting = Boosting(train, encoding, config)
    for _ in range(rounds):
        boosting.grow()
    return boosting.booster


def odds(fraud: Floats) -> float:
    """Odds of fraud: frauds per legitimate row. fraud: shape (n,), 0 or 1.

    >>> odds(np.array([1.0, 0.0, 0.0, 0.0, 0.0]))
    0.25
    """
    return float(fraud.sum() / (1 - fraud).sum())


def predict(booster: xgb.Booster, matrix: Matrix) -> Floats:
    """Probability of fraud, shape (n,), bit-identical to `MonitoredModel.score`. matrix: shape (n, n_features)."""
    return np.asarray(booster.inplace_predict(matrix, validate_features=False), dtype=np.float64)


def margins(booster: xgb.Booster, matrix: Matrix, rounds: int = 0) -> Floats:
    """Log-odds of fraud, shape (n,). matrix: shape (n, n_features); rounds: of the first trees; 0 for all."""
    found: Any = booster.inplace_predict(
        matrix, iteration_range=(0, rounds), predict_type="margin", validate_features=False
    )
    return np.asarray(found, dtype=np.float64)


def golden_rows(encoding: Sequence[FeatureEncoding], matrix: Matrix, scores: Floats) -> Matrix:
    """Rows for the bundle's golden vectors: a loaded bundle must reproduce their scores.

    matrix: shape (n, n_features); scores: shape (n,). Returns at most `N_GOLDEN_ROWS` + 2 rows: `N_GOLDEN_ROWS` evenly
    spaced by score, one in which every category is unseen and one in which every category is missing.
    """
    order = np.argsort(scores, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, N_GOLDEN_ROWS).round().astype(np.intp))
    edge_cases = np.repeat(matrix[order[-1:]], 2, axis=0)
    for j, f in enumerate(encoding):
        if f.kind == "category":
            edge_cases[:, j] = len(f.levels), len(f.levels) + 1
    return np.ascontiguousarray(np.concatenate([matrix[order[places]], edge_cases]))


def write_bundle(folder: Path, booster: xgb.Booster, manifest: Manifest, golden: Matrix) -> MonitoredModel:
    """Write model and manifest into a folder, then load and check them as a worker does.

    manifest: `golden` and `model_sha256` are filled in here. golden: rows of the golden vectors.
    Raises ModelIncompatibleError when the loaded bundle does not reproduce the golden vectors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    booster.save_model(path)
    vectors = tuple(
        GoldenVector(features=tuple(row), score=score)
        for row, score in zip(golden.tolist(), predict(booster, golden).tolist(), strict=True)
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    mark_loadable(digest)  # our own model: it needs no trial load in a child process
    write_manifest(folder, msgspec.structs.replace(manifest, golden=vectors, model_sha256=digest))
    return MonitoredModel.load(folder, version=0)
