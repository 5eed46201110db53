"""Fits gradient-boosted trees with XGBoost and writes the model bundle."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

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
    """Hyperparameters of a fit. The same configuration and rows give the same model, byte for byte."""

    max_depth: int = 5
    learning_rate: float = 0.1
    rounds: int = 300
    early_stopping_rounds: int = 30
    min_child_weight: float = 5.0
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


def fit(train: Part, validation: Part, encoding: Sequence[FeatureEncoding], config: FitConfig) -> xgb.Booster:
    """Fit gradient-boosted trees (hist) on log loss with early stopping; returns the trees up to the best round.

    train: levels of a small share of its rows are masked (`training.model.level_mask`). validation: rows for early
    stopping. encoding: of the matrices' columns; categories are split as categories by their
    codes, see `scoring.features.featurize`.
    """
    names, types = [f.name for f in encoding], feature_types(encoding)

    def rows(matrix: Matrix, fraud: Floats, weight: float = 1.0) -> xgb.DMatrix:
        return xgb.DMatrix(
            matrix,
            label=fraud,
            weight=None if weight == 1 else np.where(fraud == 1, weight, 1.0),
            feature_names=names,
            feature_types=types,
            enable_categorical=True,
            nthread=config.nthread,
        )

    settings = msgspec.structs.asdict(config)
    rounds, patience = settings.pop("rounds"), settings.pop("early_stopping_rounds")
    how, share = settings.pop("resampling"), settings.pop("resampled_share")
    codes = [j for j, f in enumerate(encoding) if f.kind != "number"]
    matrix, fraud = resample(train.matrix, train.fraud, codes, how, share, config.seed)
    matrix = mask_levels(matrix, fraud, encoding, config.seed)
    # Early stopping must weigh frauds as training does; otherwise the first tree looks best.
    weight = config.scale_pos_weight * (odds(fraud) / odds(train.fraud) if how != "none" else 1.0)
    booster = xgb.train(
        {"objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist", "device": "cpu", **settings},
        rows(matrix, fraud),
        num_boost_round=rounds,
        evals=[(rows(validation.matrix, validation.fraud, weight), "validation")],
        early_stopping_rounds=patience,
        verbose_eval=False,
    )
    # Cut here, because inplace_predict always uses all trees.
    return booster[: booster.best_iteration + 1]


def odds(fraud: Floats) -> float:
    """Odds of fraud: frauds per legitimate row. fraud: shape (n,), 0 or 1.

    >>> odds(np.array([1.0, 0.0, 0.0, 0.0, 0.0]))
    0.25
    """
    return float(fraud.sum() / (1 - fraud).sum())


def predict(booster: xgb.Booster, matrix: Matrix) -> Floats:
    """Probability of fraud, shape (n,), bit-identical to `MonitoredModel.score`. matrix: shape (n, n_features)."""
    return np.asarray(booster.inplace_predict(matrix, validate_features=False), dtype=np.float64)


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
