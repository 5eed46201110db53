"""Trees from a matrix, and a bundle from trees."""

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
from training.model.resampling import Resampling, resample

GOLDEN_ROWS = 32


class FitConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what the trees become, given the rows. The same configuration gives the same bytes."""

    max_depth: int = 5
    learning_rate: float = 0.1
    rounds: int = 300
    early_stopping_rounds: int = 30
    min_child_weight: float = 5.0
    reg_lambda: float = 1.0
    reg_alpha: float = 0.0
    subsample: float = 0.8
    colsample_bytree: float = 0.8
    scale_pos_weight: float = 1.0  # what a fraud weighs, in rows
    resampling: Resampling = "none"
    resampled_share: float = 0.1  # of fraud, after resampling
    seed: int = 0
    nthread: int = 1  # part of the result: threads change the order in which floats are summed


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Rows to learn from: matrix float32 (n, n_features), fraud float64 (n,) of 0 and 1."""

    matrix: Matrix
    fraud: Floats


def fit(train: Part, validation: Part, encoding: Sequence[FeatureEncoding], config: FitConfig) -> xgb.Booster:
    """Gradient-boosted trees (hist) on log loss, cut back to the round that did best on validation.

    Categories are split as categories, by their codes; see `scoring.features.featurize`.
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
    # Where a fraud counts for more in learning it must in stopping: else the first tree looks like the best.
    weight = config.scale_pos_weight * (odds(fraud) / odds(train.fraud) if how != "none" else 1.0)
    booster = xgb.train(
        {"objective": "binary:logistic", "eval_metric": "logloss", "tree_method": "hist", "device": "cpu", **settings},
        rows(matrix, fraud),
        num_boost_round=rounds,
        evals=[(rows(validation.matrix, validation.fraud, weight), "validation")],
        early_stopping_rounds=patience,
        verbose_eval=False,
    )
    # inplace_predict uses every tree it finds: those after the best round must not be there.
    return booster[: booster.best_iteration + 1]


def odds(fraud: Floats) -> float:
    """Frauds for each good row.

    >>> odds(np.array([1.0, 0.0, 0.0, 0.0, 0.0]))
    0.25
    """
    return float(fraud.sum() / (1 - fraud).sum())


def predict(booster: xgb.Booster, matrix: Matrix) -> Floats:
    """Probability of fraud, shape (n,), computed as `MonitoredModel.score` does."""
    return np.asarray(booster.inplace_predict(matrix, validate_features=False), dtype=np.float64)


def golden_rows(encoding: Sequence[FeatureEncoding], matrix: Matrix, scores: Floats) -> Matrix:
    """Rows whose scores a loaded bundle must repeat, shape (at most 34, n_features).

    32 lie evenly from the lowest score to the highest; in two more every category is unseen, and every category is
    missing, which the history itself may not hold.
    """
    order = np.argsort(scores, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, GOLDEN_ROWS).round().astype(np.intp))
    strange = np.repeat(matrix[order[-1:]], 2, axis=0)
    for j, f in enumerate(encoding):
        if f.kind == "category":
            strange[:, j] = len(f.levels), len(f.levels) + 1
    return np.ascontiguousarray(np.concatenate([matrix[order[places]], strange]))


def write_bundle(folder: Path, booster: xgb.Booster, manifest: Manifest, golden: Matrix) -> MonitoredModel:
    """Write trees and manifest into a folder, read them back and check them as a worker would.

    manifest: its `golden` and `model_sha256` are filled in here. golden: rows to be known by their scores.
    Raises ModelIncompatibleError when what was written does not answer as what was trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    booster.save_model(path)
    vectors = tuple(
        GoldenVector(features=tuple(row), score=score)
        for row, score in zip(golden.tolist(), predict(booster, golden).tolist(), strict=True)
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    mark_loadable(digest)  # made here: nothing hostile to try in a child process
    write_manifest(folder, msgspec.structs.replace(manifest, golden=vectors, model_sha256=digest))
    return MonitoredModel.load(folder, version=0)
