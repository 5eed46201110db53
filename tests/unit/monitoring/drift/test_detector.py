"""The drift detector: no alert on normal variation, alerts on changes; and the fit of its baseline."""

import numpy as np
import pytest

from monitoring.counting.bins import FrozenBins, bins_of_profile, number_bins, share_bins
from monitoring.counting.reference_profile import profile_codes
from monitoring.drift.baseline import Baseline, estimate_baseline, hour_of_week
from monitoring.drift.detector import DetectorPolicy, ECusum, window_alarms, window_statistics
from scoring.bundle.manifest import FeatureEncoding

SHARES = np.array([0.3, 0.3, 0.2, 0.15, 0.05])
WEEK_HOURS = np.arange(96, 96 + 28 * 24)  # four weeks from a Monday on


def hourly(
    rng: np.random.Generator, rows: int = 3600, clump: int = 1, night: float = 0.0, day: float = 0.0
) -> np.ndarray:
    """Hourly panes of one feature; by night, and by the day's whim, events move from the first bin to the second."""
    whims = np.repeat(rng.normal(0, day, len(WEEK_HOURS) // 24), 24)
    moved = whims + np.where(WEEK_HOURS % 24 < 8, night, 0.0)
    shares = np.tile(SHARES, (len(WEEK_HOURS), 1))
    shares[:, 0] -= moved
    shares[:, 1] += moved
    return (clump * rng.multinomial(rows // clump, shares))[:, None, :]


def learnt(**habits: float) -> Baseline:
    return estimate_baseline(hourly(np.random.default_rng(4), **habits), WEEK_HOURS)  # type: ignore[arg-type]


# Calibration ----------------------------------------------------------------------------------------------------------


def test_of_independent_events_it_learns_one_distribution_and_the_least_tolerance() -> None:
    found = learnt()
    assert found.dispersion[0] == pytest.approx(1, abs=0.1)
    assert found.tolerance[0] == 0.005
    assert np.ptp(found.shares[:, 0], axis=0).max() < 0.01  # hours do not differ by chance
    assert found.shares[0, 0] == pytest.approx(SHARES, abs=0.002)
    assert found.shares.sum(axis=-1) == pytest.approx(np.ones((168, 1)))


def test_events_that_come_three_alike_have_dispersion_three() -> None:
    assert learnt(clump=3).dispersion[0] == pytest.approx(3, rel=0.1)


def test_nights_that_differ_are_expected_at_night() -> None:
    found = learnt(night=0.1)
    assert found.shares[3, 0, 0] == pytest.approx(0.2, abs=0.01)
    assert found.shares[12, 0, 0] == pytest.approx(0.3, abs=0.01)
    assert found.tolerance[0] < 0.006
    assert found.dispersion[0] == pytest.approx(1, abs=0.1)


def test_days_that_differ_by_themselves_raise_the_tolerance() -> None:
    assert learnt(day=0.03).tolerance[0] > 5 * learnt().tolerance[0]


def test_a_reference_of_one_day_is_enough_and_trusted_less() -> None:
    one_day = estimate_baseline(hourly(np.random.default_rng(4), rows=60)[:24], WEEK_HOURS[:24])
    assert one_day.shares.shape == (168, 1, 5)
    assert (one_day.shares > 0).all()
    assert one_day.tolerance[0] >= 3 * 4 / (24 * 60)


def test_a_feature_never_counted_cannot_be_calibrated() -> None:
    with pytest.raises(ValueError, match="without a single event"):
        estimate_baseline(np.zeros((24, 2, 3), dtype=np.int64), np.arange(24))


def test_expected_counts_follow_the_hours_rows_came_in() -> None:
    found = learnt(night=0.1)
    rows = np.zeros((2, 168), dtype=np.int64)
    rows[0, 3], rows[1, 12], rows[1, 3] = 100, 50, 50
    expected = found.expected_counts(rows)
    assert expected.shape == (2, 1, 5)
    assert expected.sum(axis=-1).tolist() == [[pytest.approx(100)], [pytest.approx(100)]]
    assert expected[1, 0] == pytest.approx((100 * found.shares[3, 0] + 100 * found.shares[12, 0]) / 2)


# First layer ----------------------------------------------------------------------------------------------------------


def alarms(baseline: Baseline, panes: np.ndarray, hours: np.ndarray | None = None) -> list[int]:
    """At which panes the one feature alarms."""
    watch = ECusum(baseline, DetectorPolicy(), n_features=20)
    hours = np.zeros(len(panes), dtype=np.int64) if hours is None else hours
    return [i for i, pane in enumerate(panes) if watch.update(pane[None], int(hours[i]))[0]]


#  pane    0 ............ 200 ............ 260
#          as expected    | missing 5 → 15 %
#                          ^ alarm within ten panes of 60 events
def test_it_keeps_silent_until_something_changes_and_then_speaks_soon() -> None:
    rng = np.random.default_rng(6)
    moved = np.array([0.27, 0.27, 0.18, 0.13, 0.15])
    panes = np.concatenate([rng.multinomial(60, SHARES, 200), rng.multinomial(60, moved, 60)])
    found = alarms(learnt(), panes)
    assert found
    assert 200 <= found[0] < 210


def test_what_lasts_is_heard_again_after_an_alarm() -> None:
    panes = np.random.default_rng(6).multinomial(60, [0.1, 0.5, 0.2, 0.15, 0.05], 100)
    assert len(alarms(learnt(), panes)) > 3


def test_nights_as_always_are_no_alarm_and_would_be_one_without_their_hours() -> None:
    rng = np.random.default_rng(9)
    baseline = learnt(night=0.1)
    hours = hour_of_week(np.repeat(WEEK_HOURS[:72], 60))
    shares = np.tile(SHARES, (len(hours), 1))
    shares[:, 0] -= np.where(hours % 24 < 8, 0.1, 0)
    shares[:, 1] += np.where(hours % 24 < 8, 0.1, 0)
    panes = rng.multinomial(60, shares)
    assert alarms(baseline, panes, hours) == []
    assert alarms(baseline, panes, np.full(len(hours), 12)) != []


def test_events_that_come_ten_alike_are_no_alarm_once_their_dispersion_is_known() -> None:
    panes = 10 * np.random.default_rng(2).multinomial(6, SHARES, 5000)
    assert alarms(learnt(clump=10), panes) == []
    assert alarms(learnt(), panes) != []


def test_panes_without_rows_say_nothing() -> None:
    watch = ECusum(learnt(), DetectorPolicy())
    before = watch.log_e_value()
    assert not watch.update(np.zeros((1, 5), dtype=np.int64), 0).any()
    assert watch.log_e_value() == pytest.approx(np.maximum(before, 0))


def test_the_bet_is_laid_before_the_pane_is_seen() -> None:
    watch = ECusum(learnt(), DetectorPolicy())
    watch.update(np.array([[0, 0, 0, 0, 60]]), 0)  # as unlikely as can be, and nobody had bet on it
    assert watch.log_e_value()[0] <= 0


def test_features_beside_each_other_are_judged_as_alone() -> None:
    rng = np.random.default_rng(1)
    counts = np.concatenate([hourly(rng), hourly(rng, night=0.1)], axis=1)
    both = ECusum(estimate_baseline(counts, WEEK_HOURS), DetectorPolicy(), 20)
    single = [ECusum(estimate_baseline(counts[:, [i]], WEEK_HOURS), DetectorPolicy(), 20) for i in (0, 1)]
    for pane in rng.multinomial(60, SHARES, (50, 2)):
        both.update(pane, 5)
        for i in (0, 1):
            single[i].update(pane[[i]], 5)
    assert both.log_e_value() == pytest.approx([s.log_e_value()[0] for s in single])


# Second layer ---------------------------------------------------------------------------------------------------------


def windowed(rows: list[int], shares: np.ndarray, baseline: Baseline) -> np.ndarray:
    rng = np.random.default_rng(12)
    counts = np.stack([rng.multinomial(n, shares) for n in rows])[:, None, :]
    by_hour = np.zeros((len(rows), 168), dtype=np.int64)
    by_hour[:, 12] = np.maximum(rows, 1)
    return window_alarms(counts, baseline.expected_counts(by_hour), baseline, DetectorPolicy())


def test_windows_act_on_what_is_surely_beyond_the_tolerance_only() -> None:
    baseline = learnt()
    rows = [0, 250, 5000, 200_000]
    assert windowed(rows, SHARES, baseline)[:, 0].tolist() == [False] * 4
    small = np.array([0.27, 0.33, 0.2, 0.15, 0.05])  # PSI .006: real, and nothing to act on
    assert windowed(rows, small, baseline)[:, 0].tolist() == [False] * 4
    large = np.array([0.15, 0.45, 0.2, 0.15, 0.05])
    assert windowed(rows, large, baseline)[:, 0].tolist() == [False, False, True, True]


def test_tolerances_follow_days_that_differ() -> None:
    policy = DetectorPolicy()
    assert policy.tolerances(learnt())[0] == 0.02
    restless = learnt(day=0.03)
    assert policy.tolerances(restless)[0] == pytest.approx(2 * restless.tolerance[0])


def test_a_report_has_every_statistic_and_nan_where_there_is_nothing_to_say() -> None:
    rng = np.random.default_rng(3)
    encoding = FeatureEncoding(name="ciudad", kind="category", levels=("a", "b"))
    bins = FrozenBins(
        [
            number_bins("monto", rng.normal(size=20_000)),
            bins_of_profile(profile_codes("ciudad", rng.integers(0, 2, 20_000), 2), encoding),
            share_bins("alert", 19_000, 1000),
        ]
    )
    baseline = estimate_baseline(bins.reference[None], np.zeros(1, dtype=np.int64))
    codes = bins.encode({"monto": rng.normal(1, 1, 2000), "ciudad": rng.integers(0, 2, 2000), "alert": np.zeros(2000)})
    counts = np.stack([bins.count(codes)[0], np.zeros(bins.n_codes, dtype=np.int64)])
    by_hour = np.zeros((2, 168), dtype=np.int64)
    by_hour[0, 7] = 2000
    found = window_statistics(bins, counts, by_hour, baseline, DetectorPolicy())
    assert found.rows.tolist() == [[2000] * 3, [0] * 3]
    assert found.exceeds.tolist() == [[True, False, True], [False] * 3]
    assert found.enough_rows.tolist() == [[True] * 3, [False] * 3]
    assert found.psi[0, 0] == pytest.approx(1.0, abs=0.2)  # a shift by one sigma
    assert found.psi_decile[0, 0] == pytest.approx(0.9, abs=0.2)
    assert found.ks[0, 0] == pytest.approx(0.383, abs=0.03)
    assert found.ks_p_value[0, 0] < 1e-100
    assert np.isnan(found.ks[0, 1:]).all()
    assert abs(found.psi_corrected[0, 1]) < 0.005
    assert 0 < found.psi_lower_bound[0, 0] < found.psi[0, 0]
    for name in ("psi", "psi_corrected", "psi_decile", "psi_lower_bound", "kl", "js", "ks", "ks_p_value"):
        assert np.isnan(getattr(found, name)[1]).all(), name
