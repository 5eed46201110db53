"""What profiles change: two models of the same days, one with the profiles of the data set, one without.

Both are compared on later days by what a review team finds. Labels are known after `LABEL_DELAY_DAYS`, so these days
come that long after the days that the models are fitted to.
"""

from importlib import resources
from pathlib import Path

import msgspec
import numpy as np

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.time_units import DAY_MS
from scoring.arrays import Indices
from scoring.features import featurize, fit_encoding
from tamiz.simulation.terminal_files import write_transactions
from tamiz.simulation.terminal_simulator import MAX_REPORT_DAYS, TerminalTraffic, simulate_terminals
from training.data.history import History, read_history
from training.evaluation.review_metrics import evaluate_reviews
from training.evaluation.review_ranking import ReviewPlan, review_rows
from training.model.fit import FitConfig, Part, fit, predict

DATASET = "terminal_transactions"
WITHOUT_PROFILES = "without_profiles.toml"
LABEL_DELAY_DAYS = MAX_REPORT_DAYS
CARDS, TRAINING_DAYS, HELD_OUT_DAYS = 3_000, 25, 7
ROUNDS = 80  # of boosting; enough for either model, and the same for both


class ProfileGain(msgspec.Struct, frozen=True, kw_only=True):
    """What a review team finds on the held-out days, by a model with profiles and by one without."""

    per_day: int  # reviewed cards, or transactions
    card_precision: float  # share of the reviewed cards that have fraud
    card_precision_without: float
    attainable_card_precision: float
    value_detected: float  # share of the value of all frauds
    value_detected_without: float


def profile_gain(settings: Settings, folder: Path) -> ProfileGain:
    """Simulate, fit both models and compare them. folder: for the files."""
    days = TRAINING_DAYS + LABEL_DELAY_DAYS + HELD_OUT_DAYS
    path = write_history(TerminalTraffic(days=days, cards=CARDS, seed=1), folder)
    dataset, plain = load_dataset(DATASET), load_dataset(str(folder / WITHOUT_PROFILES))
    history = read_history(path, dataset)
    known, held_out = split_days(history, HELD_OUT_DAYS)
    plan = ReviewPlan(per_day=settings.reviews_per_day, label_delay_days=LABEL_DELAY_DAYS, amount=dataset.amount)
    rows = review_rows(history, held_out, plan)
    columns = history.columns_at(known)
    found = []
    for declared in (dataset, plain):
        encoding = fit_encoding(declared, columns)
        part = Part(matrix=featurize(encoding, columns), fraud=history.fraud[known])
        booster = fit(part, encoding, FitConfig(), ROUNDS)
        scores = predict(booster, featurize(encoding, history.columns_at(held_out)))
        found.append(evaluate_reviews(rows, scores, plan.per_day))
    (cards_with, cards_without), (value_with, value_without) = (
        [reviews.metric(name) for reviews in found] for name in ("card_precision", "value_detected")
    )
    return ProfileGain(
        per_day=plan.per_day,
        card_precision=cards_with.value or 0.0,
        card_precision_without=cards_without.value or 0.0,
        attainable_card_precision=cards_with.attainable or 0.0,
        value_detected=value_with.value or 0.0,
        value_detected_without=value_without.value or 0.0,
    )


def write_history(traffic: TerminalTraffic, folder: Path) -> Path:
    """Write simulated transactions with their labels, and the declaration of the data set without its profiles."""
    write_transactions(simulate_terminals(traffic), folder / "terminals.csv")
    declaration = (resources.files("schemas.dataset") / f"{DATASET}.toml").read_text(encoding="utf-8")
    (folder / WITHOUT_PROFILES).write_text(declaration.partition("[[profiles]]")[0], encoding="utf-8")
    return folder / "terminals.csv"


def split_days(history: History, held_out_days: int) -> tuple[Indices, Indices]:
    """The rows whose labels are known when the held-out days begin, and the rows of these days."""
    begin_ms = (int(history.event_time_ms.max()) // DAY_MS + 1 - held_out_days) * DAY_MS
    known = history.event_time_ms < begin_ms - LABEL_DELAY_DAYS * DAY_MS
    return np.flatnonzero(known), np.flatnonzero(history.event_time_ms >= begin_ms)
