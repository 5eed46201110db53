"""Panes and windows: counts equal those of one offline pass for any partitioning, crash and replay.

All times are minutes of event time; grace is one minute.
"""

import random
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.counting.bins import FrozenBins, share_bins
from monitoring.counting.pane_codec import cursor_of, panes_of, to_records
from monitoring.counting.panes import NO_TIME_MS, Cursor, Pane, PartitionCounts, PartitionPanes
from monitoring.counting.windows import WINDOWS, ClosedMinute, MergedPanes
from monitoring.drift.baseline import hour_of_week
from schemas.records import PaneSnapshot
from schemas.time_units import HOUR_MS, MINUTE_MS

BINS = FrozenBins([share_bins("alert", 90, 10), share_bins("prime", 50, 50)])
GRACE_MS = MINUTE_MS
DAY = 1440


@dataclass
class Rows:
    """One partition's rows in offset order."""

    minutes: list[float]
    codes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(len(self.minutes))
        self.codes = rng.integers(0, 3, (len(self.minutes), 2))
        self.times = (np.array(self.minutes, dtype=float) * MINUTE_MS).astype(np.int64)
        self.offsets = np.arange(len(self.minutes))

    def feed(self, fold: PartitionPanes, start: int, stop: int) -> None:
        fold.update(self.codes[start:stop], self.times[start:stop], self.offsets[start:stop])


def merged(partitions: int = 1, idle_minutes: int = 10_000) -> MergedPanes:
    return MergedPanes(BINS, range(partitions), GRACE_MS, idle_minutes * MINUTE_MS)


def closed_by(merger: MergedPanes) -> list[ClosedMinute]:
    return list(iter(merger.close_next, None))


def pane(minute: int, rows: int, last_offset: int = 0, partition: int = 0, layout: str = BINS.digest) -> Pane:
    counts = np.zeros(BINS.n_codes, dtype=np.int64)
    counts[[0, 3]] = rows
    return Pane(
        start_ms=minute * MINUTE_MS,
        partition=partition,
        counts=counts,
        rows=rows,
        first_offset=0,
        last_offset=last_offset,
        layout=layout,
    )


def leave_out(merger: MergedPanes, *caught_up: int) -> None:
    """As after a long while of wall-clock time in which these partitions had nothing left to count."""
    for wall in (0, 1_000_000, 2_000_000):  # seen, at rest, and trailing for so long
        merger.watermark.update_idle(wall, caught_up, 1_000_000)


def slide(merger: MergedPanes, minute: int, offset: int = 1, partition: int = 0) -> list[ClosedMinute]:
    """Bring a partition's watermark so far that `minute` is the last closed."""
    merger.advance_watermark(Cursor(partition=partition, last_offset=offset, watermark_ms=(minute + 2) * MINUTE_MS))
    return closed_by(merger)


def rows_in(merger: MergedPanes) -> dict[str, int]:
    counts, by_hour = merger.windows()
    assert (counts[:, :3].sum(axis=1) == by_hour.sum(axis=1)).all()
    return dict(zip((w.name for w in WINDOWS), by_hour.sum(axis=1).tolist(), strict=True))


# One partition --------------------------------------------------------------------------------------------------------


#  minute   0        1        2        3
#  rows     a  b     c                 d
#                                b'  (late: 0:xx closed when d was seen, at 3 less grace 1)
def test_a_row_within_grace_is_counted_and_a_later_one_is_only_counted_as_late() -> None:
    fold = PartitionPanes(BINS, 0, GRACE_MS)
    rows = Rows([0.1, 0.5, 1.2, 0.9, 3.0, 0.6])
    rows.feed(fold, 0, 6)
    counted = fold.snapshot()
    assert [
        [(p.start_ms // MINUTE_MS, p.rows, p.first_offset, p.last_offset) for p in panes]
        for panes in (counted.closed, counted.open)
    ] == [[(0, 3, 0, 3), (1, 1, 2, 2)], [(3, 1, 4, 4)]]
    assert (counted.cursor.late, counted.cursor.last_offset, counted.cursor.watermark_ms) == (1, 5, 3 * MINUTE_MS)


def test_a_row_without_a_time_counts_at_the_watermark_and_before_any_not_at_all() -> None:
    fold = PartitionPanes(BINS, 0, GRACE_MS)
    fold.update(
        np.zeros((4, 2), dtype=np.intp), np.array([NO_TIME_MS, 5 * MINUTE_MS, NO_TIME_MS, NO_TIME_MS]), np.arange(4)
    )
    assert [(p.start_ms // MINUTE_MS, p.rows) for p in fold.snapshot().open] == [(5, 3)]
    assert (fold.cursor.last_offset, fold.cursor.watermark_ms) == (3, 5 * MINUTE_MS)


def test_a_redelivered_row_is_counted_once() -> None:
    fold = PartitionPanes(BINS, 0, GRACE_MS)
    rows = Rows([0.1, 0.2, 0.3])
    rows.feed(fold, 0, 3)
    rows.feed(fold, 1, 3)
    assert [p.rows for p in fold.snapshot().open] == [3]


def test_a_minute_is_published_as_closed_once_and_as_open_for_as_long_as_it_may_grow() -> None:
    fold = PartitionPanes(BINS, 0, GRACE_MS)
    rows = Rows([0.1, 1.1, 2.5, 9.0])
    seen = []
    for i in range(4):
        rows.feed(fold, i, i + 1)
        counted = fold.snapshot()
        seen.append([[p.start_ms // MINUTE_MS for p in panes] for panes in (counted.closed, counted.open)])
    assert seen == [[[], [0]], [[], [0, 1]], [[0], [1, 2]], [[1, 2], [9]]]


def test_panes_travel_as_records_and_come_back_as_they_were() -> None:
    fold = PartitionPanes(BINS, 3, GRACE_MS)
    Rows([0.1, 0.5, 1.2, 0.9, 3.0, 0.6]).feed(fold, 0, 6)
    counted = fold.snapshot()
    sent = [
        (key, msgspec.json.decode(msgspec.json.encode(record), type=PaneSnapshot))
        for key, record in to_records(counted, model="m", model_version=7, layout=BINS.digest)
    ]
    assert [(key.decode(), record.open) for key, record in sent] == [
        (f"m/7/{BINS.digest}/3/0", False),
        (f"m/7/{BINS.digest}/3/cursor", True),
    ]
    came = [pane for _, record in sent for pane in panes_of(record, BINS)]
    assert [vars(p) | {"counts": p.counts.tolist()} for p in came] == [
        vars(p) | {"counts": p.counts.tolist()} for p in (*counted.closed, *counted.open)
    ]
    assert cursor_of(sent[-1][1]) == counted.cursor


def test_a_damaged_pane_is_refused() -> None:
    fold = PartitionPanes(BINS, 0, GRACE_MS)
    Rows([0.1]).feed(fold, 0, 1)
    ((_, record),) = to_records(fold.snapshot(), model="m", model_version=7, layout=BINS.digest)
    broken = msgspec.structs.replace(record.panes[0], codes=np.array([0, 99], "<u4").tobytes())
    with pytest.raises(ValueError, match="its codes are not those"):
        panes_of(msgspec.structs.replace(record, panes=(broken,)), BINS)


def test_panes_of_other_bins_are_not_taken_over_nor_merged() -> None:
    stranger = pane(0, 5, layout="other")
    assert PartitionPanes.restore(BINS, Cursor(partition=0), [stranger], GRACE_MS).snapshot().open == ()
    merger = merged()
    merger.merge(stranger)
    assert slide(merger, 5) == []


# Windows --------------------------------------------------------------------------------------------------------------


#  minute     0            15           60          360         1440       10080
#  pane       x
#  15 min     (------------]
#  1 h        (-------------------------]
def test_a_row_leaves_each_window_when_its_time_is_over() -> None:
    merger = merged()
    merger.merge(pane(0, 7))
    left: dict[str, int] = {}
    for minute in range(8 * DAY):
        slide(merger, minute, offset=minute)
        for name, rows in rows_in(merger).items():
            if rows == 0:
                left.setdefault(name, minute)
    assert left == {"15 min": 15, "1 h": 60, "6 h": 360, "24 h": 1440, "7 d": 7 * DAY}


@pytest.mark.parametrize("step", [1, 7, 61, 400])
def test_windows_are_the_sums_of_the_minutes_they_cover(step: int) -> None:
    merger = merged()
    brought: dict[int, int] = {}
    for i, minute in enumerate(range(0, 3 * DAY, step)):
        brought[minute] = 1 + i % 5
        merger.merge(pane(minute, brought[minute]))
        slide(merger, minute, offset=minute)
        for window in WINDOWS:
            cell = window.cell_ms // MINUTE_MS
            first = (minute // cell - window.cells + 1) * cell
            assert rows_in(merger)[window.name] == sum(n for m, n in brought.items() if m >= first), (minute, window)


def test_a_silence_longer_than_every_window_empties_them() -> None:
    merger = merged()
    merger.merge(pane(3, 5))
    slide(merger, 3)
    merger.merge(pane(30 * DAY, 2))
    slide(merger, 30 * DAY, offset=2)
    assert set(rows_in(merger).values()) == {2}


def test_rows_are_known_by_their_hour_of_the_week() -> None:
    merger = merged()
    merger.merge(pane(59, 4))
    merger.merge(pane(60, 6))
    slide(merger, 60)
    by_hour = merger.windows()[1][1]
    assert {i: n for i, n in enumerate(by_hour.tolist()) if n} == {72: 4, 73: 6}  # the epoch was a Thursday
    assert hour_of_week(4 * 24) == 0


# Several partitions ---------------------------------------------------------------------------------------------------


def test_a_minute_closes_when_the_slowest_partition_has_passed_it() -> None:
    merger = merged(2)
    merger.merge(pane(0, 1, partition=0))
    slide(merger, 9, partition=0)
    merger.merge(pane(0, 2, partition=1))
    closed = slide(merger, 0, partition=1)
    assert [(c.start_ms, c.rows, c.hour_of_week) for c in closed] == [(0, 3, 72)]


def test_a_partition_not_heard_of_yet_is_waited_for_as_long_as_an_idle_one() -> None:
    merger = merged(2, idle_minutes=5)
    merger.merge(pane(10, 1, partition=0))
    assert slide(merger, 12, partition=0) == []
    merger.merge(pane(10, 2, partition=1))
    assert [c.rows for c in slide(merger, 12, partition=1)] == [3]
    alone = merged(2, idle_minutes=5)
    alone.merge(pane(10, 1, partition=0))
    assert slide(alone, 12, partition=0) == []
    assert slide(alone, 18, offset=2, partition=0) == []
    leave_out(alone, 1)
    assert [c.rows for c in closed_by(alone)] == [1]


def test_an_idle_partition_is_not_waited_for_and_the_windows_still_take_what_it_brings() -> None:
    merger = merged(2, idle_minutes=5)
    merger.merge(pane(0, 1, partition=0))
    slide(merger, -1, partition=1)
    assert slide(merger, 9, partition=0) == []
    leave_out(merger, 1)
    assert [c.rows for c in closed_by(merger)] == [1]
    merger.merge(pane(0, 2, partition=1))
    merger.merge(pane(0, 2, partition=1))
    assert rows_in(merger)["1 h"] == 3


def test_a_snapshot_that_grew_after_its_minute_closed_replaces_what_was_summed() -> None:
    merger = merged()
    merger.merge(pane(0, 2, last_offset=5))
    slide(merger, 0)
    merger.merge(pane(0, 6, last_offset=9))
    merger.merge(pane(0, 2, last_offset=5))  # a zombie's older one
    assert rows_in(merger)["7 d"] == 6


#  minute        0        1        2        3
#  partition 0   0..5     6..9              |
#  partition 1            0..3     4..7     |
#                         [------- 1 ------)       the period
def test_offsets_of_a_period_are_those_that_its_closed_minutes_count() -> None:
    merger = merged(2)
    for minute, partition, first, last in ((0, 0, 0, 5), (1, 0, 6, 9), (1, 1, 0, 3), (2, 1, 4, 7)):
        merger.merge(replace(pane(minute, 1, last, partition), first_offset=first))
    for partition in (0, 1):
        merger.advance_watermark(Cursor(partition=partition, last_offset=9, watermark_ms=4 * MINUTE_MS))
    assert len(closed_by(merger)) == 3
    assert merger.counted_offsets(MINUTE_MS, 2 * MINUTE_MS) == {0: (6, 9), 1: (0, 3)}
    assert merger.counted_offsets(0, 3 * MINUTE_MS) == {0: (0, 9), 1: (0, 7)}
    assert merger.counted_offsets(3 * MINUTE_MS, 9 * MINUTE_MS) == {}


def test_a_whole_weeks_panes_read_a_second_time_change_nothing() -> None:
    merger = merged()
    panes = [pane(minute, 1 + minute % 3, last_offset=minute) for minute in range(0, 7 * DAY, 30)]
    for p in panes:
        merger.merge(p)
        slide(merger, p.start_ms // MINUTE_MS, offset=p.last_offset)
    before = merger.windows()[0].tolist()
    for p in panes:
        merger.merge(p)
    assert merger.windows()[0].tolist() == before
    assert merger.lost == 0


def test_where_too_much_waits_the_oldest_minute_is_closed_as_incomplete_until_its_partition_has_come() -> None:
    merger = MergedPanes(BINS, range(2), GRACE_MS, idle_timeout_ms=10_000 * MINUTE_MS, max_bytes=2_000)
    slide(merger, 0, partition=1)
    closed = []
    for minute in range(1, 11):
        merger.merge(pane(minute, 1, partition=0))
        closed += slide(merger, minute, partition=0)
    assert [c.complete for c in closed] == [False] * len(closed)
    assert 5 <= len(closed) == merger.incomplete < 10
    assert merger.incomplete_minutes().tolist() == [len(closed)] * 5
    merger.merge(pane(1, 4, partition=1))
    assert all(c.complete for c in slide(merger, 10, offset=2, partition=1))
    assert merger.incomplete_minutes().tolist() == [0] * 5
    assert rows_in(merger)["7 d"] == 14


def test_where_too_much_waits_far_ahead_it_is_given_up_and_its_minutes_are_incomplete() -> None:
    merger = MergedPanes(BINS, range(3), GRACE_MS, idle_timeout_ms=HOUR_MS, max_bytes=2_000)
    for p in (0, 1):
        slide(merger, 0, partition=p)
    for minute in range(1000, 1010):
        merger.merge(pane(minute, 1, partition=2))
        assert slide(merger, minute, offset=minute, partition=2) == []
    assert 5 <= merger.lost < 10
    for p in (0, 1):
        merger.merge(pane(1009, 1, partition=p))
        closed = slide(merger, 1009, offset=2, partition=p)
    assert {c.complete for c in closed} == {True, False}


def test_absurd_dates_take_no_place_from_real_ones() -> None:
    merger = merged()
    for wrong in (50_000_000, 5_000_000):
        merger.merge(pane(wrong, 7), horizon_ms=100 * MINUTE_MS)
        merger.merge(pane(wrong, 9, last_offset=1), horizon_ms=100 * MINUTE_MS)
    assert merger.lost == 18
    merger.advance_watermark(Cursor(partition=0, last_offset=1, watermark_ms=50_000_000 * MINUTE_MS), 100 * MINUTE_MS)
    merger.merge(pane(5, 3, last_offset=2))
    assert [c.rows for c in slide(merger, 5, offset=2)] == [3]
    assert set(rows_in(merger).values()) == {3}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_any_workers_any_crashes_and_any_replay_give_the_counts_of_one_offline_pass(seed: int) -> None:
    chance = random.Random(seed)
    partitions = [
        Rows(
            [
                max(0.0, i * chance.choice([0.05, 0.3]) + chance.uniform(-2.5, 0))
                for i in range(chance.randrange(1, 120))
            ]
        )
        for _ in range(3)
    ]
    offline = merged(3)
    for p, rows in enumerate(partitions):
        fold = PartitionPanes(BINS, p, GRACE_MS)
        rows.feed(fold, 0, len(rows.minutes))
        deliver(offline, fold.snapshot())
    wanted = [(c.start_ms, c.counts.tolist()) for c in closed_by(offline)]

    live = merged(3)
    topic: list[tuple[tuple[Pane, ...], Cursor]] = [((), Cursor(partition=p)) for p in range(3)]
    committed = [0] * 3
    folds: list[PartitionPanes | None] = [None] * 3
    reached = [0] * 3
    closed = []
    while any(committed[p] < len(rows.minutes) for p, rows in enumerate(partitions)):
        p = chance.randrange(3)
        rows = partitions[p]
        fold = folds[p]
        if fold is None:  # taken over, after a crash or a rebalance
            fold = folds[p] = PartitionPanes.restore(BINS, topic[p][1], topic[p][0], GRACE_MS)
            reached[p] = chance.randint(0, committed[p])  # some rows are delivered again
        stop = min(len(rows.minutes), reached[p] + chance.randint(1, 30))
        rows.feed(fold, reached[p], stop)
        reached[p] = stop
        if chance.random() < 0.6:
            counted = fold.snapshot()
            survives = chance.random() < 0.7
            for one in counted.closed if survives else counted.closed[: chance.randint(0, len(counted.closed))]:
                live.merge(one)
            if survives:
                topic[p] = (*counted.open, *counted.held), counted.cursor
                deliver(live, counted)
                closed += closed_by(live)
                committed[p] = stop
            else:
                folds[p] = None
        elif chance.random() < 0.3:
            folds[p] = None  # a crash with nothing published
    assert [(c.start_ms, c.counts.tolist()) for c in closed] == wanted
    assert [a.tolist() for a in live.windows()] == [a.tolist() for a in offline.windows()]
    assert live.late == offline.late
    assert live.lost == 0


def deliver(merger: MergedPanes, counted: PartitionCounts) -> None:
    for one in (*counted.closed, *counted.open):
        merger.merge(one)
    merger.advance_watermark(counted.cursor)
