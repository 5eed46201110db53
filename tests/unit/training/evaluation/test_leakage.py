"""Leakage: a field that is filled in after the label is known is named, gives no skill and makes no champion."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import ModelUnavailableError
from scoring.features import featurize, fit_encoding
from tamiz.main import app
from tests.helpers.traffic.scored_fixtures import month
from tests.unit.training.test_pipeline import Row, rows, write
from training.data.history import History, read_history
from training.data.time_split import Split, split_by_time
from training.evaluation.backtest_window import last_days
from training.evaluation.leakage import find_leaks
from training.model.fit import FitConfig, Part, fit, predict
from training.pipeline import train
from training.registry import version_transitions
from training.registry.promotion import promote_manually

DATASET = load_dataset("card_transactions")


#  time    |------- train -------|--- test ---|- backtest -|
#  ciudad  |<--- is the label -->|<-------- noise -------->|
@pytest.fixture(scope="module")
def leaky_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history in which the city equals the label in train rows, and is noise in later rows."""
    rng = np.random.default_rng(11)
    path = tmp_path_factory.mktemp("leaky") / "leaky.csv"
    history: list[Row] = [row | {"fraude": "TRUE" if rng.random() < 0.1 else "FALSE"} for row in rows(4000)]
    past, split = parts(read_history(write(path, history), DATASET))
    known = set(past[split.train].tolist())
    for i, row in enumerate(history):
        bad = row["fraude"] == "TRUE" if i in known else rng.random() < 0.1
        row["ciudad"] = "Merida" if bad else "Toledo"
    return write(path, history)


def parts(history: History) -> tuple[np.ndarray, Split]:
    past = np.flatnonzero(history.event_time_ms < last_days(history.event_time_ms).edges_ms[0])
    return past, split_by_time(history.event_time_ms[past])


def test_a_leaky_field_gives_no_skill_on_later_rows(leaky_csv: Path, tmp_path: Path) -> None:
    done = train(Settings(state_dir=tmp_path), leaky_csv)
    assert (done.evaluation.metric("roc_auc").low or 1) < 0.5
    assert (done.champion, done.gate.status) == (False, "no skill")
    assert [leak.feature for leak in done.gate.leaks] == ["ciudad"]
    assert "ciudad" in done.promotion_decision.summary


def test_a_model_that_knows_the_label_becomes_no_champion_by_itself(tmp_path: Path) -> None:
    history = [row | {"ciudad": "Merida" if row["fraude"] == "TRUE" else "Toledo"} for row in rows()]
    settings = Settings(state_dir=tmp_path)
    runner = CliRunner(env={"TAMIZ_STATE_DIR": str(tmp_path), "MLFLOW_TRACKING_URI": None})
    done = runner.invoke(app, ["train", str(write(tmp_path / "h.csv", history)), "--json"])
    assert done.exit_code == 0
    assert "suspected leakage: ciudad alone has a ROC AUC of 1.0000 by its value" in done.stderr
    result = json.loads(done.stdout)
    assert (result["champion"], result["gate"]["status"]) == (False, "suspected leakage")
    assert [leak["feature"] for leak in result["gate"]["leaks"]] == ["ciudad"]
    (version,) = version_transitions.versions(settings)
    assert version.tags["suspected_leakage"] == "ciudad 1.0000"
    with pytest.raises(ModelUnavailableError, match=r"suspected leakage.*--force"):
        promote_manually(settings, 1, "it looks excellent")


N = 4_000
FRAUD = (np.random.default_rng(3).random(N) < 0.03).astype(np.float64)
NOISE = np.random.default_rng(4).random(N)
TEXTS = np.array([f"case {i}" for i in range(N)], dtype=object)


def leaks_of(city: np.ndarray | None = None, amount: np.ndarray | None = None) -> list[tuple[str, str]]:
    columns = {f.name: np.full(N, None, dtype=object) if f.kind == "category" else NOISE for f in DATASET.features}
    columns |= {} if city is None else {"ciudad": city}
    columns |= {} if amount is None else {"monto": amount}
    return [(leak.feature, leak.by) for leak in find_leaks(DATASET, columns, FRAUD)]


def texts(where: np.ndarray, yes: str | None, no: str | None) -> np.ndarray:
    return np.array([yes if w else no for w in where], dtype=object)


@pytest.mark.parametrize(
    ("column", "found"),
    [
        pytest.param({"city": texts(FRAUD, "a", "b")}, ("ciudad", "value"), id="a category that is the label"),
        pytest.param({"city": texts(FRAUD, "a", None)}, ("ciudad", "missing values"), id="present for fraud only"),
        pytest.param({"city": texts(1 - FRAUD, "a", None)}, ("ciudad", "missing values"), id="missing for fraud only"),
        pytest.param({"city": np.where(FRAUD == 1, TEXTS, None)}, ("ciudad", "missing values"), id="a case number"),
        pytest.param({"amount": FRAUD}, ("monto", "value"), id="the label as number"),
        pytest.param({"amount": NOISE - 2 * FRAUD}, ("monto", "value"), id="low for fraud"),
        pytest.param({"amount": np.where(FRAUD == 1, 0.5, NOISE.round())}, ("monto", "value"), id="between the others"),
        pytest.param({"amount": np.where(FRAUD == 1, NOISE, np.nan)}, ("monto", "missing values"), id="NaN if honest"),
        pytest.param({"amount": np.where(NOISE < 0.8, np.nan, FRAUD)}, ("monto", "value"), id="where it is present"),
        pytest.param({"amount": FRAUD + (NOISE < 0.005)}, ("monto", "value"), id="the label, but for 0.5 %"),
    ],
)
def test_a_feature_that_contains_the_label_is_named(column: dict[str, np.ndarray], found: tuple[str, str]) -> None:
    assert leaks_of(**column) == [found]


@pytest.mark.parametrize(
    "column",
    [
        pytest.param({}, id="noise"),
        pytest.param({"city": TEXTS}, id="a level for each row"),
        pytest.param({"city": TEXTS[(np.arange(N) // 2)]}, id="a level for two rows"),
        pytest.param({"amount": NOISE + 0.5 * FRAUD}, id="a strong feature"),
        pytest.param({"amount": np.full(N, np.nan)}, id="missing everywhere"),
    ],
)
def test_an_honest_feature_is_not_named(column: dict[str, np.ndarray]) -> None:
    assert leaks_of(**column) == []


def test_neither_the_real_history_nor_the_simulated_signal_leaks(real_csv: Path) -> None:
    for history in (read_history(real_csv, DATASET), month()):
        assert find_leaks(DATASET, history.columns, history.fraud) == ()


def test_too_few_frauds_prove_no_leak() -> None:
    few = np.zeros(N)
    few[:5] = 1
    columns = {f.name: few for f in DATASET.features if f.kind != "category"}
    columns |= {f.name: texts(few, "a", "b") for f in DATASET.features if f.kind == "category"}
    assert find_leaks(DATASET, columns, few) == ()


def test_a_random_split_would_not_notice_the_leak(leaky_csv: Path) -> None:
    history = read_history(leaky_csv, DATASET)
    past, split = parts(history)
    shuffled = np.random.default_rng(0).permutation(past)
    train_rows, test_rows = np.split(shuffled, [len(split.train)])
    encoding = fit_encoding(DATASET, history.columns_at(train_rows))
    matrix = featurize(encoding, history.columns)
    learned = Part(matrix=matrix[train_rows], fraud=history.fraud[train_rows])
    scores = predict(fit(learned, encoding, FitConfig(), rounds=30), matrix[test_rows])
    assert roc_auc_score(history.fraud[test_rows], scores) > 0.85
