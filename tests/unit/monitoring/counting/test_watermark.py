"""Watermarks: a few dates that are wrong move nothing, whatever the batches; what moved by mistake falls back.

All times are minutes of event time; grace is ten minutes.
"""

import random
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.counting.bins import FrozenBins, share_bins
from monitoring.counting.pane_codec import cursor_of, held_of, panes_of, to_records
from monitoring.counting.panes import MAX_HELD_MINUTES, NO_TIME_MS, Pane, PartitionPanes
from schemas.records import PaneSnapshot
from schemas.time_units import MINUTE_MS

BINS = FrozenBins([share_bins("alert", 90, 10)])
GRACE_MS = 10 * MINUTE_MS
HOUR, DAY = 60, 1440
NOW = 50 * 365 * DAY
Y2099 = 129 * 365 * DAY


def feed(fold: PartitionPanes, minutes: Sequence[float], first_offset: int = 0) -> None:
    times = np.array([NO_TIME_MS if m == NO_TIME_MS else round(m * MINUTE_MS) for m in minutes], dtype=np.int64)
    codes = np.zeros((len(times), 1), dtype=np.intp)
    fold.update(codes, times, np.arange(first_offset, first_offset + len(times)))


def fold_of(minutes: Sequence[float]) -> PartitionPanes:
    fold = PartitionPanes(BINS, 0, GRACE_MS)
    feed(fold, minutes)
    return fold


def restarted(published: Sequence[tuple[bytes, PaneSnapshot]]) -> PartitionPanes:
    """Go on from the cursor as it travelled."""
    record = msgspec.json.decode(msgspec.json.encode(published[-1][1]), type=PaneSnapshot)
    return PartitionPanes.restore(BINS, cursor_of(record), [*panes_of(record, BINS), *held_of(record, BINS)], GRACE_MS)


def publish(fold: PartitionPanes) -> list[tuple[bytes, PaneSnapshot]]:
    return list(to_records(fold.snapshot(), model="m", model_version=1, layout=BINS.digest))


def rows(panes: Sequence[Pane]) -> dict[float, int]:
    return {p.start_ms / MINUTE_MS: p.rows for p in panes}


def watermark(fold: PartitionPanes) -> float:
    return fold.cursor.watermark_ms / MINUTE_MS


def steady(n: int, step: float = 0.5, start: float = NOW) -> list[float]:
    return [start + i * step for i in range(n)]


#  rows        ....o....o....o...............   o: dated 2099, or 30 days ahead
#  watermark   ------------------------------
@pytest.mark.parametrize("ahead", [15.0, 50.0, HOUR, 30 * DAY, Y2099 - NOW])
def test_four_dates_ahead_among_many_change_nothing_for_the_others(ahead: float) -> None:
    calm = steady(400)
    mixed = list(calm)
    for at in (3, 90, 91, 250):
        mixed.insert(at, mixed[at] + ahead)
    expected, found = fold_of(calm).snapshot(), fold_of(mixed).snapshot()
    assert found.cursor.late == found.cursor.resets == 0
    assert rows(found.closed) == rows(expected.closed) or ahead < 200  # then rows ahead share their minutes
    assert sum(rows([*found.closed, *found.open, *found.held]).values()) == 404
    assert found.cursor.watermark_ms == expected.cursor.watermark_ms


def test_a_row_ahead_is_counted_in_its_minute_when_the_watermark_comes_there() -> None:
    fold = fold_of([*steady(20), NOW + 100.0])
    assert rows(fold.snapshot().held) == {NOW + 100.0: 1}
    feed(fold, steady(300, start=NOW + 10), first_offset=21)
    assert rows(fold.snapshot().closed)[NOW + 100] == 3


def test_a_gap_in_traffic_is_crossed_after_five_rows() -> None:
    fold = fold_of(steady(20))
    for i in range(4):
        feed(fold, [NOW + 8 * HOUR + i], first_offset=20 + i)
        assert watermark(fold) == NOW + 9.5
        assert len(fold.snapshot().held) == i + 1
    feed(fold, [NOW + 8 * HOUR + 4], first_offset=24)
    counted = fold.snapshot()
    assert (watermark(fold), len(counted.held), len(counted.open)) == (NOW + 8 * HOUR + 4, 0, 5)
    assert counted.cursor.late == 0


def test_a_traffic_of_whole_hours_is_counted_whole() -> None:
    hours = [NOW + HOUR * (i // 10) for i in range(1000)]
    counted = fold_of(hours).snapshot()
    assert set(rows([*counted.closed, *counted.open]).values()) == {10}
    assert counted.cursor.late == counted.cursor.dropped == 0


#  rows        ....oooooooooo..................
#  watermark   --------       -   (late: 16)  ---
def test_a_burst_that_carries_the_watermark_away_is_undone_after_sixteen_rows() -> None:
    fold = fold_of([*steady(100), *[float(Y2099)] * 10])
    assert watermark(fold) == Y2099
    fold.snapshot()
    feed(fold, steady(100, start=NOW + 60), first_offset=110)
    counted = fold.snapshot()
    assert (counted.cursor.late, counted.cursor.resets) == (16, 1)
    assert watermark(fold) == NOW + 60 + 49.5
    found = rows([*counted.closed, *counted.open])
    assert (found.pop(Y2099), sum(found.values())) == (10, 84)
    feed(fold, [*[float(Y2099)] * 5, *steady(100, start=NOW + 110)], first_offset=210)
    assert fold.cursor.resets == 2, "it is undone as often as it happens"


def test_a_reset_reopens_no_minute_that_was_published() -> None:
    fold = fold_of([*steady(100), *[float(NOW + DAY)] * 8])
    published = rows(fold.snapshot().closed)
    feed(fold, steady(6 * 1440, start=NOW + 50, step=0.25), first_offset=108)
    again = rows(fold.snapshot().closed)
    assert fold.cursor.resets == 1
    assert not published.keys() & again.keys()
    assert again[NOW + DAY] == 8, "closed at the reset, as it was"
    assert fold.cursor.late == 16 + 4 * (6 * HOUR + 11), "until the reset, and in the minutes that the burst closed"


def test_a_first_row_of_2099_is_undone_too() -> None:
    fold = fold_of([float(Y2099), *steady(100)])
    assert (fold.cursor.late, fold.cursor.resets, watermark(fold)) == (16, 1, NOW + 49.5)


def test_a_poisoned_cursor_from_before_this_rule_heals() -> None:
    fold = fold_of(steady(30))
    (*_, (_, record)) = publish(fold)
    old = msgspec.json.decode(msgspec.json.encode(record))
    for name in ("held", "dropped", "state", "others", "topic_id"):
        del old[name]
    old["watermark_ms"] = Y2099 * MINUTE_MS
    heir = restarted([(b"", msgspec.convert(old, PaneSnapshot))])
    feed(heir, steady(100, start=NOW + 300), first_offset=30)  # hours after it was poisoned
    assert (heir.cursor.late, heir.cursor.resets, watermark(heir)) == (16, 1, NOW + 300 + 49.5)


def test_a_backlog_of_minutes_that_were_closed_stays_late_and_resets_nothing() -> None:
    fold = fold_of(steady(1000))
    fold.snapshot()
    feed(fold, steady(500), first_offset=1000)
    assert (fold.cursor.late, fold.cursor.resets) == (500 - 0, 0) or fold.cursor.resets == 0
    assert watermark(fold) == NOW + 499.5


def test_held_minutes_are_bounded_and_the_furthest_gives_way() -> None:
    poisoned = [
        m for i, calm in enumerate(steady(800)) for m in ((calm, calm + DAY * (1 + i)) if i % 10 == 0 else (calm,))
    ]
    counted = fold_of(poisoned).snapshot()
    assert len(counted.held) == MAX_HELD_MINUTES
    assert counted.cursor.dropped == 80 - MAX_HELD_MINUTES
    assert max(p.start_ms for p in counted.held) < (NOW + 200 * DAY) * MINUTE_MS
    assert counted.cursor.late == 0


def test_a_damaged_watermark_is_refused() -> None:
    (*_, (_, record)) = publish(fold_of(steady(30)))
    assert record.state is not None
    broken = msgspec.structs.replace(record, state=msgspec.structs.replace(record.state, recent_ms=(1,)))
    with pytest.raises(ValueError, match="damaged"):
        cursor_of(broken)


def hostile(chance: random.Random, n: int) -> Iterator[float]:
    """Minutes as nobody should send them: gaps, bursts and single dates ahead, backlogs, rows without a time."""
    now = float(NOW)
    while n > 0:
        now += chance.choice([0.1, 0.1, 0.5, 0.5, 3, 20, 300]) if chance.random() < 0.9 else 0
        kind = chance.random()
        if kind < 0.05:
            burst = chance.choice([1, 1, 2, 4, 5, 6, 12, 30])
            date = now + chance.choice([12, 70, 5 * HOUR, 30 * DAY, Y2099 - NOW])
            for _ in range(burst):
                yield date + chance.choice([0, 0, 1, 40])
            n -= burst
        elif kind < 0.08:
            for i in range(chance.choice([3, 25])):
                yield now - chance.choice([15, 100, 2 * DAY]) + i
                n -= 1
        elif kind < 0.12:
            yield NO_TIME_MS
            n -= 1
        else:
            yield now - chance.choice([0, 0, 0, 2, 8])
            n -= 1


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**9))
def test_batches_and_restarts_change_no_bit_no_pane_shrinks_and_no_row_is_uncounted(seed: int) -> None:
    chance = random.Random(seed)
    minutes = list(hostile(chance, chance.randrange(20, 400)))
    whole = PartitionPanes(BINS, 0, GRACE_MS)
    feed(whole, minutes)
    expected = publish(whole)

    fold, reached, said = PartitionPanes(BINS, 0, GRACE_MS), 0, publish(PartitionPanes(BINS, 0, GRACE_MS))
    topic: dict[int, int] = {}  # rows by minute, as last published
    shut: set[int] = set()
    while reached < len(minutes):
        stop = min(len(minutes), reached + chance.choice([1, 1, 2, 7, 50]))
        back = chance.randint(0, reached) if chance.random() < 0.2 else reached
        feed(fold, minutes[back:stop], first_offset=back)
        reached = stop
        if chance.random() < 0.5 or stop == len(minutes):
            said = publish(fold)
            for _, record in said:
                for pane in record.panes:
                    assert pane.start_ms not in shut, "a minute was published as closed, and again"
                    assert pane.rows >= topic.get(pane.start_ms, 0), "a pane that was published shrank"
                    topic[pane.start_ms] = pane.rows
                shut |= set() if record.open else {p.start_ms for p in record.panes}
            if chance.random() < 0.5:
                fold = restarted(said)
    assert said[-1] == expected[-1]
    everything = [p for _, record in expected for p in (*record.panes, *record.held)]
    held = {p.start_ms for p in said[-1][1].held}
    assert topic == {p.start_ms: p.rows for p in everything if p.start_ms not in held}
    first = next((i for i, m in enumerate(minutes) if m != NO_TIME_MS), len(minutes))
    cursor = expected[-1][1]
    assert sum(p.rows for p in everything) + cursor.late + cursor.dropped == len(minutes) - first
