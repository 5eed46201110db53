"""The split by time: no part is trained on rows that are later than those it is tested on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import TrainingError
from schemas.time_units import HOUR_MS
from training.data.time_split import Split, block_folds, require_both_classes, split_by_time

# time     0 ───────────── 80 % ───────── 100 %
# part     train           | test
#          rows of one instant stay on one side of the bar


@given(st.lists(st.integers(0, 30), min_size=1, max_size=300))
def test_no_row_of_a_part_is_as_late_as_any_of_the_next(hours: list[int]) -> None:
    times = np.array(hours, dtype=np.int64) * HOUR_MS
    try:
        train, test = split_by_time(times)
    except TrainingError:
        return
    assert times[train].max() < times[test].min()
    assert sorted([*train, *test]) == list(range(len(times)))


def test_shares_are_met_when_every_row_has_a_time_of_its_own() -> None:
    split = split_by_time(np.random.default_rng(3).permutation(1000).astype(np.int64))
    assert [len(rows) for rows in split] == [800, 200]


def test_rows_of_a_part_are_in_order_of_time() -> None:
    times = np.random.default_rng(4).integers(0, 500, 1000)
    assert all((np.diff(times[rows]) >= 0).all() for rows in split_by_time(times))


@pytest.mark.parametrize(
    ("times", "error"),
    [
        pytest.param([5] * 100, "same event time", id="all dates equal"),
        pytest.param([5] * 55 + [6] * 45, "no row is left for", id="two instants"),
        pytest.param([], "no row is left for", id="no rows"),
    ],
)
def test_times_that_cannot_be_split_are_refused(times: list[int], error: str) -> None:
    with pytest.raises(TrainingError, match=error):
        split_by_time(np.array(times, dtype=np.int64))


def test_a_part_without_fraud_is_refused_by_name() -> None:
    split = Split(np.array([0, 1]), np.array([2, 3]))
    with pytest.raises(TrainingError, match="test holds 0 frauds in 2 rows"):
        require_both_classes(split, np.array([0.0, 1, 0, 0]))


#            |---- train ----|·gap·|- test -|
def test_train_ends_a_label_delay_before_test_begins() -> None:
    times = np.arange(100) * HOUR_MS
    without_gap, with_gap = split_by_time(times), split_by_time(times, gap_ms=10 * HOUR_MS)
    assert with_gap.test.tolist() == without_gap.test.tolist()
    assert times[with_gap.train[-1]] + 10 * HOUR_MS == times[with_gap.test[0]]
    assert len(without_gap.train) - len(with_gap.train) == 9


def test_a_delay_longer_than_the_history_is_named_in_the_error() -> None:
    with pytest.raises(TrainingError, match=r"not enough matured labels: .* label delay of 4 days"):
        split_by_time(np.arange(100) * HOUR_MS, gap_ms=96 * HOUR_MS)


#  fold 1   |- test -|·gap·|----------- train -----------|
#  fold 2   |- train -|·gap·|- test -|·gap·|--- train ---|
#  fold 3   |----------- train -----------|·gap·|- test -|
@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.integers(1, 6), st.integers(0, 10))
def test_each_row_is_tested_once_by_rows_at_least_a_gap_away(hours: list[int], blocks: int, gap: int) -> None:
    times = np.array(hours, dtype=np.int64) * HOUR_MS
    folds = block_folds(times, blocks, gap_ms=gap * HOUR_MS)
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(len(times)))
    for train, test in folds:
        first, last = times[test].min(), times[test].max()
        outside = (times < first) | (times > last)
        far = (times <= first - gap * HOUR_MS) | (times >= last + gap * HOUR_MS)
        assert sorted(train.tolist()) == np.flatnonzero(outside & far).tolist()
