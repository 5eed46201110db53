"""A month of simulated traffic with a signal, and a model trained on all of it but the last week."""

from functools import cache
from pathlib import Path

import numpy as np

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.reference_profile import reference_profile
from schemas.dataset.declaration import Dataset, load_dataset
from scoring.bundle.feature_definitions import feature_definitions
from scoring.bundle.manifest import Manifest
from scoring.features import featurize, fit_encoding
from scoring.input.cleaning import clean_payloads
from tamiz.simulation.payload_formats import payloads
from tamiz.simulation.simulator import Traffic, simulate
from training.data.chunk import key_array
from training.data.history import History
from training.data.time_range import TimeRange
from training.evaluation.backtest_window import last_days
from training.evaluation.review_ranking import ReviewPlan
from training.model.fit import FitConfig, Part, fit, golden_rows, predict, write_bundle
from training.model.operating_points import points_by_budget

PLAN = ReviewPlan(per_day=10, amount="monto")


def card_dataset() -> Dataset:
    return load_dataset("card_transactions")


@cache
def month(rows: int = 12_000, seed: int = 3, signal: bool = True) -> History:
    traffic = Traffic(rows=rows, seed=seed, users=1000, signal=signal)
    values = [value for _, chunk in payloads(traffic, simulate(traffic)) for value in chunk]
    cleaned = clean_payloads(card_dataset(), values, read_labels=True)
    return History(
        source="month.csv",
        sha256="0" * 64,
        rows=cleaned.n,
        rejected={},
        unlabelled=0,
        columns=cleaned.columns,
        event_time_ms=cleaned.event_time_ms,
        fraud=np.asarray(cleaned.labels),
        keys=key_array(cleaned),
        time_range=TimeRange(first_ms=int(cleaned.event_time_ms.min()), last_ms=int(cleaned.event_time_ms.max())),
    )


def train_model(folder: Path, history: History, version: int) -> MonitoredModel:
    """Train a model on the first three quarters of the rows before the last week."""
    before = np.flatnonzero(history.event_time_ms < last_days(history.event_time_ms).edges_ms[0])
    before = before[np.argsort(history.event_time_ms[before], kind="stable")]
    train, rest = np.split(before, [3 * len(before) // 4])
    seen = history.columns_at(train)
    encoding = fit_encoding(card_dataset(), seen)
    matrix = featurize(encoding, history.columns)
    booster = fit(Part(matrix=matrix[train], fraud=history.fraud[train]), encoding, FitConfig(), rounds=30)
    scores = predict(booster, matrix)
    times = history.event_time_ms[train]
    points = points_by_budget(scores[rest], review=0.05, decline=0.01)
    manifest = Manifest(
        model="simulated",
        dataset="card_transactions",
        features=encoding,
        definitions=feature_definitions(card_dataset()),
        points=points,
        profile=reference_profile(encoding, seen, matrix[train], scores[rest], review=points.review, rejected=0),
        golden=(),
        rows=len(train),
        base_rate=float(history.fraud[train].mean()),
        trained_from_ms=int(times[0]),
        trained_until_ms=int(times[-1]),
        data_sha256="0" * 64,
        model_sha256="",
    )
    write_bundle(folder, booster, manifest, golden_rows(encoding, matrix, scores))
    return MonitoredModel.load(folder, version)
