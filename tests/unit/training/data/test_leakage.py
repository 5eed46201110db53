"""Leakage: a field that is filled in after the label is known gives no skill on later rows."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from scoring.features import featurize, fit_encoding
from tests.unit.training.test_pipeline import Row, rows, write
from training.data.history import History, read_history
from training.data.time_split import split_by_time
from training.evaluation.backtest import last_days
from training.model.fit import FitConfig, Part, fit, predict
from training.pipeline import train

DATASET = load_dataset("card_transactions")


#  time    |------- train -------|- validation -|--- test ---|- backtest -|
#  ciudad  |<------- is the label ------------->|<-------- noise -------->|
@pytest.fixture(scope="module")
def leaky_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history in which the city equals the label in train and validation rows, and is noise in later rows."""
    rng = np.random.default_rng(11)
    path = tmp_path_factory.mktemp("leaky") / "leaky.csv"
    history: list[Row] = [row | {"fraude": "TRUE" if rng.random() < 0.1 else "FALSE"} for row in rows(4000)]
    past, split = parts(read_history(write(path, history), DATASET))
    known = set(past[np.concatenate(split[:2])].tolist())
    for i, row in enumerate(history):
        bad = row["fraude"] == "TRUE" if i in known else rng.random() < 0.1
        row["ciudad"] = "Merida" if bad else "Toledo"
    return write(path, history)


def parts(history: History) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    past = np.flatnonzero(history.event_time_ms < last_days(history.event_time_ms).edges_ms[0])
    return past, split_by_time(history.event_time_ms[past])


def test_a_leaky_field_gives_no_skill_on_later_rows(leaky_csv: Path, tmp_path: Path) -> None:
    done = train(Settings(state_dir=tmp_path), leaky_csv)
    auc = done.evaluation.metric("roc_auc")
    assert (auc.low or 1) < 0.5 < (auc.high or 0)
    assert (done.champion, done.gate.status) == (False, "no skill")


def test_a_random_split_would_not_notice_the_leak(leaky_csv: Path) -> None:
    history = read_history(leaky_csv, DATASET)
    past, split = parts(history)
    shuffled = np.random.default_rng(0).permutation(past)
    train_rows, validation_rows, test_rows = np.split(shuffled, np.cumsum([len(split[0]), len(split[1])]))
    encoding = fit_encoding(DATASET, history.columns_at(train_rows))
    matrix = featurize(encoding, history.columns)
    learned, chosen = (Part(matrix=matrix[r], fraud=history.fraud[r]) for r in (train_rows, validation_rows))
    scores = predict(fit(learned, chosen, encoding, FitConfig()), matrix[test_rows])
    assert roc_auc_score(history.fraud[test_rows], scores) > 0.85
