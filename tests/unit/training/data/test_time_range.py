"""Event times far from all others are left out; regular quiet times, outages and bursts never are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dataset.declaration import load_dataset
from schemas.time_units import DAY_MS, HOUR_MS
from tests.helpers.traffic.scored_fixtures import PLAN, train_model
from tests.unit.training.test_pipeline import Row, rows, write
from training.data.history import read_history
from training.data.time_range import isolated_rows
from training.evaluation.backtest import read_rows, run_backtest
from training.evaluation.backtest_window import last_days
from training.evaluation.skill_gate import evaluate_skill
from training.evaluation.version_comparison import compare
from training.registry.promotion import Champion, evaluate_challenger

DATASET = load_dataset("card_transactions")
MONTH = 30 * DAY_MS
YEAR = 365 * DAY_MS


def spread(n: int, days: int = 30, seed: int = 0) -> np.ndarray:
    """Event times of n rows, uniform over the days."""
    return np.random.default_rng(seed).integers(0, days * DAY_MS, n)


def weekdays(times: np.ndarray) -> np.ndarray:
    return times[(times // DAY_MS + 3) % 7 < 5]


#  day      0 ............ 29                                  395
#           8,000 rows                                         1 row: left out
def test_one_mistyped_year_is_isolated() -> None:
    times = np.append(spread(8_000), MONTH + YEAR)
    assert np.flatnonzero(isolated_rows(times)).tolist() == [8_000]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([-YEAR], id="a year too early"),
        pytest.param([-YEAR, MONTH + YEAR], id="one at each end"),
        pytest.param([YEAR, YEAR, YEAR + DAY_MS], id="three together"),
        pytest.param([MONTH + k * 40 * DAY_MS for k in range(1, 9)], id="eight years and months, scattered"),
        pytest.param([MONTH + 9 * DAY_MS], id="a month typed for a day"),
    ],
)
def test_wrong_dates_are_isolated_wherever_they_lie(wrong: list[int]) -> None:
    times = np.concatenate([wrong, spread(8_000)])
    assert np.flatnonzero(isolated_rows(times)).tolist() == list(range(len(wrong)))


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(spread(200), id="200 rows in a month"),
        pytest.param(spread(200, days=400), id="200 rows in 400 days"),
        pytest.param(spread(200, days=2_000), id="200 rows in 2,000 days"),
        pytest.param(weekdays(spread(8_000, days=120)), id="no traffic at weekends"),
        pytest.param(weekdays(spread(40, days=60)), id="a few rows on weekdays"),
        pytest.param(np.append(spread(4_000, 15), spread(4_000, 15) + 29 * DAY_MS), id="an outage of two weeks"),
        pytest.param(np.append(spread(4_000, 15), spread(30, 1) + 29 * DAY_MS), id="an outage, then a day"),
        pytest.param(np.append(spread(8_000), spread(5_000, 1) + 34 * DAY_MS), id="a burst at the end"),
        pytest.param(np.repeat(np.arange(8) * 31 * DAY_MS, 25), id="one day a month"),
        pytest.param(np.append(np.repeat(np.arange(8) * 31 * DAY_MS, 25), 8 * 31 * DAY_MS), id="the month begins"),
        pytest.param(np.repeat([0, 30 * DAY_MS], 100), id="two days"),
        pytest.param(np.zeros(200, dtype=np.int64), id="one instant"),
        pytest.param(np.array([0, YEAR]), id="two rows"),
        pytest.param(np.array([5]), id="one row"),
        pytest.param(np.array([], dtype=np.int64), id="no row"),
        pytest.param((np.geomspace(1, 1_000, 3_000) * DAY_MS).astype(np.int64), id="traffic that dwindles"),
    ],
)
def test_nothing_is_isolated_in(times: np.ndarray) -> None:
    assert not isolated_rows(times).any()
    assert not isolated_rows(-times).any()


def test_the_real_history_has_no_isolated_row(real_csv: Path) -> None:
    found = read_history(real_csv, DATASET)
    assert (found.time_range.isolated_rows, found.time_range.example) == (0, None)
    assert found.time_range.summary == "2020-01-02 01:00 to 2020-01-30 23:00 UTC"


@given(st.lists(st.integers(-60, 400), min_size=1, max_size=300), st.integers(-5_000, 5_000))
def test_few_rows_are_isolated_and_only_at_the_ends(days: list[int], shift: int) -> None:
    times = np.array(days, dtype=np.int64) * DAY_MS
    isolated = isolated_rows(times)
    assert isolated.sum() <= 2 * 3
    inner = times[~isolated]
    assert not isolated[(times >= inner.min()) & (times <= inner.max())].any()
    assert isolated_rows(times + shift * DAY_MS).tolist() == isolated.tolist()
    assert isolated_rows(times[::-1])[::-1].tolist() == isolated.tolist()


def mistyped(history: list[Row]) -> list[Row]:
    """The history with the year of one row, of a legitimate transaction, mistyped."""
    day = history[4_710]["fecha"]
    assert history[4_710]["fraude"] == "FALSE"
    return [*history[:4_710], history[4_710] | {"fecha": day.replace("2020", "2029")}, *history[4_711:]]


@pytest.fixture(scope="module")
def right_and_wrong(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A history without one row, and the same history with that row, its year mistyped."""
    folder, history = tmp_path_factory.mktemp("years"), rows(8_000)
    return (
        write(folder / "right.csv", [*history[:4_710], *history[4_711:]]),
        write(folder / "wrong.csv", mistyped(history)),
    )


def test_a_mistyped_year_leaves_the_backtest_whole(right_and_wrong: tuple[Path, Path]) -> None:
    right, wrong = (read_rows(path, DATASET) for path in right_and_wrong)
    assert len(last_days(wrong.event_time_ms).all_rows) > 1_600
    assert last_days(wrong.event_time_ms).edges_ms == last_days(right.event_time_ms).edges_ms
    assert [rows.tolist() for rows in last_days(wrong.event_time_ms).rows] == [
        rows.tolist() for rows in last_days(right.event_time_ms).rows
    ]
    assert (wrong.rows, wrong.rejected) == (8_000, {"isolated-time": 1})
    assert "row 4711 is at 2029-01-" in wrong.time_range.summary


def test_a_mistyped_year_lets_no_immature_label_in(right_and_wrong: tuple[Path, Path]) -> None:
    right, wrong = (read_history(path, DATASET, 9 * DAY_MS) for path in right_and_wrong)
    assert wrong.event_time_ms.max() <= right.time_range.last_ms - 9 * DAY_MS
    assert (wrong.unlabelled, wrong.event_time_ms.tolist()) == (right.unlabelled, right.event_time_ms.tolist())


def test_a_mistyped_year_does_not_block_promotion(right_and_wrong: tuple[Path, Path], tmp_path: Path) -> None:
    history = read_history(right_and_wrong[1], DATASET)
    model = train_model(tmp_path, history, 2)
    comparison = compare(model, model, history, last_days(history.event_time_ms), PLAN)
    assert comparison.n > 1_600
    gate = evaluate_skill(run_backtest(model, DATASET, history, plan=PLAN).evaluation)
    decision = evaluate_challenger(gate, Champion(version=1, forced=False, comparison=comparison))
    assert decision.status == "retained"  # compared with its equal; not waiting for labels


def test_hours_do_not_matter_only_days_do() -> None:
    times = np.append(spread(8_000, 30) // DAY_MS * DAY_MS, MONTH + YEAR + 13 * HOUR_MS)
    assert isolated_rows(times).sum() == 1
