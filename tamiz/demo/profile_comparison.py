"""What profiles change: two models of the same days, one with the profiles of the data set, one without.

Both are compared on later days by what a review team finds. Labels are known after `LABEL_DELAY_DAYS`, so these days
come that long after the days that the models are trained on.
"""

from importlib import resources
from pathlib import Path

import msgspec
import numpy as np

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.time_units import DAY_MS
from scoring.arrays import Floats, Indices
from scoring.features import featurize
from tamiz.simulation.terminal_files import write_transactions
from tamiz.simulation.terminal_simulator import MAX_REPORT_DAYS, TerminalTraffic, simulate_terminals
from training.data.history import History, read_history
from training.evaluation.review_metrics import ReviewEvaluation, evaluate_reviews
from training.evaluation.review_ranking import ReviewPlan, ReviewRows, review_rows
from training.pipeline import train
from training.registry.mlflow_registry import download_bundle

DATASET = "terminal_transactions"
TRAINING_DAYS, HELD_OUT_DAYS = 25, 7  # of the demo
WITHOUT_PROFILES = "without_profiles.toml"
LABEL_DELAY_DAYS = MAX_REPORT_DAYS


class ComparedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model and its scores of the held-out transactions."""

    settings: Settings  # of its registry, model name and data set
    version: int
    scores: Floats  # (n,)
    held_out: ReviewRows  # n rows

    def reviews(self, scores: Floats | None = None) -> ReviewEvaluation:
        """What a review team finds on the held-out days. scores: other scores of the same rows."""
        per_day = self.settings.reviews_per_day
        return evaluate_reviews(self.held_out, self.scores if scores is None else scores, per_day)


class ProfileGain(msgspec.Struct, frozen=True, kw_only=True):
    """What a review team finds on the held-out days, by a model with profiles and by one without."""

    per_day: int  # reviewed cards, or transactions
    card_precision: float  # share of the reviewed cards that have fraud
    card_precision_without: float
    attainable_card_precision: float
    value_detected: float  # share of the value of all frauds
    value_detected_without: float


def profile_gain(settings: Settings, folder: Path, cards: int) -> ProfileGain:
    """Simulate, train and compare. settings: of the registry. folder: for the files."""
    days = TRAINING_DAYS + LABEL_DELAY_DAYS + HELD_OUT_DAYS
    history = write_history(TerminalTraffic(days=days, cards=cards, seed=1), folder)
    found = [compare_model(settings, history, HELD_OUT_DAYS, profiles=use).reviews() for use in (True, False)]
    (cards_with, cards_without), (value_with, value_without) = (
        [reviews.metric(name) for reviews in found] for name in ("card_precision", "value_detected")
    )
    return ProfileGain(
        per_day=found[0].per_day,
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


def compare_model(settings: Settings, history: Path, held_out_days: int, *, profiles: bool) -> ComparedModel:
    """Train a model and score the last days of a history with it.

    settings: of the registry. history: a file of `write_history`. profiles: whether the model sees profile features.
    """
    name = "with-profiles" if profiles else "without-profiles"
    settings = msgspec.structs.replace(
        settings,
        dataset=DATASET if profiles else str(history.parent / WITHOUT_PROFILES),
        model_name=f"{settings.model_name}-{name}",
        promotion="automatic",
    )
    dataset = load_dataset(settings.dataset)
    whole = read_history(history, dataset)
    held_out_ms = (int(whole.event_time_ms.max()) // DAY_MS + 1 - held_out_days) * DAY_MS
    known = np.flatnonzero(whole.event_time_ms < held_out_ms - LABEL_DELAY_DAYS * DAY_MS)
    version = train(settings, _at(whole, known), force="compared on later days").version
    bundle = download_bundle(settings, version, history.parent / name)
    model = MonitoredModel.load(bundle, version)
    rows = np.flatnonzero(whole.event_time_ms >= held_out_ms)
    scores = model.score(featurize(model.encoding, whole.columns_at(rows)))
    plan = ReviewPlan(per_day=settings.reviews_per_day, label_delay_days=LABEL_DELAY_DAYS, amount=dataset.amount)
    return ComparedModel(settings=settings, version=version, scores=scores, held_out=review_rows(whole, rows, plan))


def _at(history: History, rows: Indices) -> History:
    return history._replace(
        columns=history.columns_at(rows),
        event_time_ms=history.event_time_ms[rows],
        fraud=history.fraud[rows],
        keys=history.keys[rows],
    )
