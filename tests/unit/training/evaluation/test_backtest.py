"""Backtest: exactly seven days, correct counts, and no drift reported by chance."""

import json
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from scipy.stats import ks_2samp
from typer.testing import CliRunner

from monitoring.counting.bins import number_bins
from schemas.errors import ConfigError, ModelIncompatibleError, TrainingError
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.features import featurize
from tamiz.main import app
from tests.helpers.traffic.scored_fixtures import PLAN, card_dataset, month, train_model
from training.evaluation.backtest import Backtest, read_rows, run_backtest
from training.evaluation.backtest_window import last_days
from training.evaluation.distribution_shift import binned_quantiles, shift
from training.reports.backtest_figures import draw_backtest
from training.reports.figures import write_figures


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train_model(tmp_path_factory.mktemp("bundle"), month(), 3)


@pytest.fixture(scope="module")
def result(model):
    return run_backtest(model, card_dataset(), month(), plan=PLAN)


#  day      0 ........ 22 | 23  24  25  26  27  28  29 |
#                         (------- seven days ---------]   the first row of day 23 is in, the last of day 22 out
def test_seven_days_are_seven_times_24_hours():
    times = np.arange(0, 30 * 24) * HOUR_MS
    window = last_days(times)
    assert len(window.rows) == 7
    assert window.edges_ms[-1] - window.edges_ms[0] == 7 * DAY_MS
    assert [len(rows) for rows in window.rows] == [24] * 7
    assert window.rows[0][0] == 23 * 24


def test_the_first_instant_of_a_day_is_in_it_and_its_last_millisecond_too():
    window = last_days(np.array([0, DAY_MS - 1, DAY_MS, 2 * DAY_MS - 1]), days=1)
    assert window.rows[0].tolist() == [2, 3]


def test_rows_in_any_order_fall_into_the_same_days():
    times = month().event_time_ms
    shuffled = np.random.default_rng(0).permutation(times)
    assert [sorted(times[rows]) for rows in last_days(times).rows] == [
        shuffled[rows].tolist() for rows in last_days(shuffled).rows
    ]


def test_times_before_1970_have_days_too():
    assert last_days(np.array([-1, -DAY_MS - 1]), days=2).edges_ms == (-2 * DAY_MS, -DAY_MS, 0)


def test_too_short_a_history_is_refused_in_one_line():
    with pytest.raises(TrainingError, match=r"spans 6 days.*needs 7") as caught:
        last_days(np.arange(6) * DAY_MS)
    assert "\n" not in str(caught.value)


def test_no_days_are_refused():
    with pytest.raises(ConfigError, match="at least 1 day"):
        last_days(np.array([0]), days=0)


def test_every_row_of_the_week_is_counted_once_with_its_label(result):
    times, fraud = month().event_time_ms, month().fraud
    first = datetime.fromtimestamp(times.max() / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = int(first.timestamp() * 1000) - 6 * DAY_MS
    for i, day in enumerate(result.days):
        inside = (times >= start + i * DAY_MS) & (times < start + (i + 1) * DAY_MS)
        assert (day.n, day.frauds) == (inside.sum(), fraud[inside].sum())
    assert result.whole.n == (times >= start).sum() == sum(d.n for d in result.days)


def test_alerts_precision_and_recall_are_those_of_the_scores(result, model):
    history = month()
    rows = last_days(history.event_time_ms).all_rows
    scores, fraud = model.score(featurize(model.encoding, history.columns_at(rows))), history.fraud[rows]
    for at in result.whole.alerts:
        alerted = scores >= at.threshold
        assert at.alerts == alerted.sum()
        assert at.caught == fraud[alerted].sum()
        if alerted.any():
            assert at.precision.value == pytest.approx(fraud[alerted].mean())
        assert at.recall.value == pytest.approx(fraud[alerted].sum() / fraud.sum())
    assert [at.name for at in result.whole.alerts] == ["0.5", "0.6", "0.7", "0.8", "0.9", "review", "decline"]


def test_the_parts_of_the_days_sum_to_the_whole(result):
    for at in result.whole.alerts:
        assert sum(day.alerts_at(at.name).alerts for day in result.days) == at.alerts


def test_the_summary_states_skill_and_scores_without_drift(result):
    assert result.summary.count(".\n") == 0
    assert "the scores were distributed as in training" in result.summary
    assert "however" not in result.summary
    assert "the model had skill" in result.summary
    assert "no proven skill" not in result.summary


def test_shifted_amounts_shift_the_scores(model):
    history = month()
    week = history.event_time_ms >= last_days(history.event_time_ms).edges_ms[0]
    shifted = {**history.columns, "monto": np.where(week, history.columns["monto"] * 9, history.columns["monto"])}
    result = run_backtest(model, card_dataset(), history._replace(columns=shifted), plan=PLAN)
    assert result.whole.shift.psi > 0.1
    assert "the scores had shifted from training" in result.summary


def test_a_day_without_rows_is_shown_as_such(model):
    history = month()
    edges = last_days(history.event_time_ms).edges_ms
    kept = np.flatnonzero((history.event_time_ms < edges[2]) | (history.event_time_ms >= edges[3]))
    gap = history._replace(
        columns=history.columns_at(kept), event_time_ms=history.event_time_ms[kept], fraud=history.fraud[kept]
    )
    result = run_backtest(model, card_dataset(), gap, plan=PLAN)
    assert [bool(day.n) for day in result.days] == [True, True, False, True, True, True, True]
    assert result.days[2].percentiles is None
    assert "1 of 7 days have no transactions" in result.summary
    assert len(draw_backtest(result)) == 4


def test_unknown_labels_do_not_count_as_legitimate(model):
    history = month()
    unknown = history.fraud.copy()
    unknown[history.event_time_ms >= last_days(history.event_time_ms).edges_ms[4]] = np.nan
    result = run_backtest(model, card_dataset(), history._replace(fraud=unknown), plan=PLAN)
    assert [day.labelled == day.n for day in result.days] == [True] * 4 + [False] * 3
    assert result.days[6].alerts_at("review").recall is None
    assert result.evaluation.n == sum(day.n for day in result.days[:4])


def test_rows_of_the_training_period_are_no_test(model):
    history = month()
    late = msgspec.structs.replace(model.manifest, trained_until_ms=int(history.event_time_ms.max()))
    known = type(model)(model._booster, late, 3)
    result = run_backtest(known, card_dataset(), history, plan=PLAN)
    assert result.training_period_rows == result.whole.n
    assert "so this is no test" in result.summary


def test_another_data_sets_model_is_refused(model):
    other = type(model)(model._booster, msgspec.structs.replace(model.manifest, dataset="wires"), 3)
    with pytest.raises(ModelIncompatibleError, match="trained on the data set 'wires'"):
        run_backtest(other, card_dataset(), month(), plan=PLAN)


def test_the_record_survives_json(result):
    assert msgspec.json.decode(msgspec.json.encode(result), type=Backtest) == result


def test_the_figures_are_written(result, tmp_path):
    paths = write_figures(tmp_path, draw_backtest(result))
    assert [p.stem for p in paths] == [
        "backtest_percentiles",
        "backtest_drift",
        "backtest_alerts",
        "backtest_precision_recall",
    ]
    assert all(p.stat().st_size > 5_000 for p in paths)


def counted(feature, values):
    return np.bincount(feature.encode(values), minlength=len(feature.reference))


def test_psi_without_drift_has_the_expected_mean():
    rng = np.random.default_rng(1)
    shifts = []
    for _ in range(400):
        feature = number_bins("x", rng.normal(size=8000))
        shifts.append(shift(feature, counted(feature, rng.normal(size=900))))
    assert np.mean([s.psi for s in shifts]) == pytest.approx(np.mean([s.expected_psi for s in shifts]), rel=0.1)
    assert np.mean([s.p_value < 0.05 for s in shifts]) == pytest.approx(0.05, abs=0.03)


def test_binned_ks_never_exceeds_the_exact_one():
    rng = np.random.default_rng(2)
    for moved in (0, 0.2, 1):
        a, b = rng.normal(size=3000), rng.normal(moved, 1, 500)
        feature = number_bins("x", a)
        assert 0 < shift(feature, counted(feature, b)).ks <= ks_2samp(a, b).statistic + 1e-12


def test_quantiles_from_bins_lie_near_those_of_the_values():
    values = np.sort(np.random.default_rng(3).beta(2, 30, 20_000))
    edges = np.quantile(values, [0.001, 0.01, *np.arange(0.1, 1, 0.1), 0.99, 0.999])
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    levels = [0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
    assert binned_quantiles(edges.tolist(), counts.tolist(), levels) == pytest.approx(
        np.quantile(values, levels), rel=0.15
    )


def test_a_file_that_is_something_else_is_refused_in_one_line(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a;b\n1;2\n")
    with pytest.raises(TrainingError, match="not the declared data set") as caught:
        read_rows(path, card_dataset())
    assert "\n" not in str(caught.value)


def test_the_command_tests_the_champion_on_the_real_file(real_csv, real_registry, tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIZ_STATE_DIR", str(real_registry.state_dir))
    done = CliRunner().invoke(app, ["backtest", str(real_csv), "--json", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    result = msgspec.json.decode(done.stdout, type=Backtest)
    assert [day.name for day in result.days] == [f"2020-01-{day}" for day in range(24, 31)]
    assert "the model had no proven skill" in result.summary
    assert json.loads((tmp_path / "backtest.json").read_text())["summary"] == result.summary
    assert len(list(tmp_path.glob("*.png"))) == 6
    reviews = result.evaluation.reviews
    assert [day.day for day in reviews.days] == [day.name for day in result.days]
    for metric in reviews.metrics:  # the labels are noise
        assert metric.low < metric.random < metric.high, metric.name
    printed = CliRunner().invoke(app, ["backtest", str(real_csv)], env={"COLUMNS": "120"})
    assert "What 100 reviews a day find, 7 days" in printed.stdout
    card = reviews.metric("card_precision")
    line = f"Card precision@100 {card.value:.1%} {card.low:.1%} to {card.high:.1%} {card.attainable:.1%}"
    assert line in " ".join(printed.stdout.split())
