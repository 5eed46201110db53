"""A small real model with one number and one category of eight cities, both related to fraud."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import xgboost as xgb

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.reference_profile import reference_profile
from scoring.arrays import Floats, Matrix
from scoring.bundle.manifest import FeatureEncoding, Manifest
from scoring.decision import OperatingPoints
from training.model.fit import FitConfig, Part, fit, golden_rows, predict, write_bundle


def encoding(number: str = "monto", category: str = "ciudad") -> tuple[FeatureEncoding, FeatureEncoding]:
    """The encoding of the two features, by their names."""
    levels = tuple("abcdefgh")
    return (
        FeatureEncoding(name=number, kind="number", mean=0.0),
        FeatureEncoding(name=category, kind="category", levels=levels),
    )


ENCODING = encoding()
OTHER, MISSING = 8.0, 9.0


@cache
def history() -> tuple[Matrix, Floats]:
    """Matrix and fraud of 4,000 rows. The codes OTHER and MISSING do not occur."""
    rng = np.random.default_rng(7)
    amount, city = rng.normal(size=4000), rng.integers(0, 8, 4000)
    odds = np.array([-2.0, 1.0, -1.0, 0.5, -3.0, 1.5, -0.5, 0.0])[city] + amount - 1
    fraud = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(float)
    return np.ascontiguousarray(np.c_[amount, city], dtype=np.float32), fraud


def small_booster(
    config: FitConfig | None = None, features: Sequence[FeatureEncoding] = ENCODING, rounds: int = 60
) -> xgb.Booster:
    matrix, fraud = history()
    return fit(Part(matrix=matrix[:3000], fraud=fraud[:3000]), features, config or FitConfig(), rounds=rounds)


def manifest_of(matrix: Matrix, booster: xgb.Booster, features: Sequence[FeatureEncoding] = ENCODING) -> Manifest:
    scores = predict(booster, matrix)
    return Manifest(
        model="small",
        dataset="hand-made",
        features=tuple(features),
        points=OperatingPoints(review=0.5, decline=0.8),
        profile=reference_profile(
            features, {features[0].name: matrix[:3000, 0]}, matrix[:3000], scores[3000:], review=0.5, rejected=3
        ),
        golden=(),
        rows=3000,
        base_rate=float(history()[1][:3000].mean()),
        trained_from_ms=0,
        trained_until_ms=1,
        data_sha256="none",
        model_sha256="",
    )


def small_bundle(
    folder: Path, features: Sequence[FeatureEncoding] = ENCODING, config: FitConfig | None = None, rounds: int = 60
) -> MonitoredModel:
    matrix, _ = history()
    booster = small_booster(config, features, rounds)
    golden = golden_rows(features, matrix, predict(booster, matrix))
    return write_bundle(folder, booster, manifest_of(matrix, booster, features), golden)
