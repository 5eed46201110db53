"""Splits by event time: train on the oldest rows and test on the latest, or test on each block of time in turn."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from schemas.errors import TrainingError
from schemas.time_units import DAY_MS
from scoring.arrays import Floats, Indices, Ints
from training.data.holdout import TEST_SHARE


class Split(NamedTuple):
    """Row indices of each part, in order of event time. Each row is in one part or in the gap between them."""

    train: Indices
    test: Indices


def split_by_time(event_time_ms: Ints, *, test_share: float = TEST_SHARE, gap_ms: int = 0) -> Split:
    """Split rows by event time into train and test.

    Rows with the same time stay in one part, so the shares are approximate. event_time_ms: shape (n,), in any order.
    gap_ms: the label delay. Rows closer than this to the test part are left out: their labels were not final when the
    test part began, so a model could not have used them.
    Raises TrainingError when a part is empty.

    >>> split_by_time(np.arange(10) * 1000, test_share=0.2)
    Split(train=array([0, 1, 2, 3, 4, 5, 6, 7]), test=array([8, 9]))
    """
    order = np.argsort(event_time_ms, kind="stable")
    times = event_time_ms[order]
    n = len(times)
    if n and times[0] == times[-1]:
        raise TrainingError(
            "all rows have the same event time, so they cannot be split by time; "
            "check the column that the data set declares as its event time"
        )
    cut = _start_of_instant(times, round(n * (1 - test_share)))
    end = int(np.searchsorted(times, times[cut] - gap_ms, side="right")) if gap_ms and cut < n else cut
    parts = Split(order[:end], order[cut:])
    for name, rows in parts._asdict().items():
        if not len(rows) and gap_ms:
            raise TrainingError(
                f"not enough matured labels: with a label delay of {gap_ms / DAY_MS:g} days, none of the {n} rows is "
                f"left for {name}; give a longer history"
            )
        if not len(rows):
            raise TrainingError(
                f"the {n} rows have too few distinct event times to be split: no row is left for {name}; "
                "give a history that spans more time"
            )
    return parts


def expanding_folds(event_time_ms: Ints, folds: int, *, gap_ms: int = 0) -> list[Split]:
    """Time-series cross-validation with an expanding window.

    The rows are cut into `folds` + 1 consecutive segments. Each segment except the first is the test part of one fold;
    all rows before it are its train part. event_time_ms: shape (n,), in any order. gap_ms: as for `split_by_time`.
    Raises TrainingError when a part is empty.

    >>> [[part.tolist() for part in fold] for fold in expanding_folds(np.arange(9), 2)]
    [[[0, 1, 2], [3, 4, 5]], [[0, 1, 2, 3, 4, 5], [6, 7, 8]]]
    """
    order = np.argsort(event_time_ms, kind="stable")
    times = event_time_ms[order]
    cuts = [_start_of_instant(times, round(len(times) * k / (folds + 1))) for k in range(1, folds + 2)]
    found = []
    for begin, end in pairwise(cuts):
        parts = split_by_time(times[:end], test_share=(end - begin) / end if end else 0.0, gap_ms=gap_ms)
        found.append(Split(*(order[rows] for rows in parts)))
    return found


def block_folds(event_time_ms: Ints, blocks: int, *, gap_ms: int = 0) -> list[Split]:
    """Blocked cross-validation: each of `blocks` consecutive blocks of time is the test part of one fold.

    The train part is every row before and after the block that is at least `gap_ms` away from it. Unlike expanding
    folds, each fold trains on nearly all rows, so its model is close to one that is fitted to all of them.
    event_time_ms: shape (n,), in any order. A block of an instant that fills more than its share may be empty; it is
    left out.
    Sources: Bergmeir & Benítez (2012), On the Use of Cross-Validation for Time Series Predictor Evaluation; López de
    Prado (2018), Advances in Financial Machine Learning, chapter 7 (purging and embargo).

    >>> [[part.tolist() for part in fold] for fold in block_folds(np.arange(6), 3)]
    [[[2, 3, 4, 5], [0, 1]], [[0, 1, 4, 5], [2, 3]], [[0, 1, 2, 3], [4, 5]]]
    """
    order = np.argsort(event_time_ms, kind="stable")
    times = event_time_ms[order]
    cuts = [_start_of_instant(times, round(len(times) * k / blocks)) for k in range(blocks + 1)]
    found = []
    for begin, end in pairwise(cuts):
        if begin < end:
            before = int(np.searchsorted(times, times[begin] - gap_ms, side="right")) if gap_ms else begin
            after = int(np.searchsorted(times, times[end - 1] + gap_ms, side="left")) if gap_ms else end
            found.append(Split(np.concatenate([order[:before], order[after:]]), order[begin:end]))
    return found


def _start_of_instant(times: Ints, place: int) -> int:
    """The index nearest to `place` at which a new event time begins."""
    if place >= len(times):
        return len(times)
    before = int(np.searchsorted(times, times[place], side="left"))
    after = int(np.searchsorted(times, times[place], side="right"))
    return before if place - before <= after - place else after


def require_both_classes(split: Split, fraud: Floats) -> None:
    """Raise TrainingError when a part holds only fraud or only legitimate rows.

    fraud: shape (n,), 0 or 1, indexed by the split's rows.
    """
    for name, rows in split._asdict().items():
        n_fraud = int(fraud[rows].sum())
        if n_fraud in (0, len(rows)):
            raise TrainingError(
                f"after the split by time, {name} holds {n_fraud} frauds in {len(rows)} rows: each part needs both "
                "classes; give a longer history"
            )
