"""Partitions that are ahead, behind, idle or wrongly dated: minutes are judged when all that contribute have, in time.

Time is drawn in minutes or days of event time.
"""

import random
from dataclasses import replace

import pytest

from monitoring.counting.merged_watermark import MergedWatermark
from monitoring.counting.panes import NO_TIME_MS, Cursor
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.helpers.traffic.pane_traffic import IDLE_MS, POLICY, START_MS, TIMEOUT_MS, Stream, stationary_traffic

YEAR_2099_MS = 4_070_908_800_000
SHIFT_MS = START_MS + 12 * HOUR_MS
END_MS = START_MS + 20 * HOUR_MS


def watermark(marks: dict[int, int], partitions: int, idle_minutes: int = 60) -> MergedWatermark:
    """Cursors at these minutes; every partition but those with a cursor is idle for a long while."""
    found = MergedWatermark(range(partitions), idle_minutes * MINUTE_MS)
    for wall in (0, TIMEOUT_MS, 2 * TIMEOUT_MS):
        for p, minute in marks.items():
            found.update(Cursor(partition=p, last_offset=wall, watermark_ms=minute * MINUTE_MS))
        found.update_idle(wall, range(partitions), TIMEOUT_MS)
    return found


#  minute  0         100        200  ...  a day
#  now               one far ahead changes nothing; those that rest are not asked
@pytest.mark.parametrize(
    ("marks", "partitions", "now"),
    [
        ({0: 100}, 1, 100),
        ({0: 100, 1: 1540}, 2, 100),
        ({0: 100, 1: 101, 2: 102, 3: 1540}, 4, 101),
        ({7: 100}, 64, 100),
        ({7: 100, 8: 101, 9: 1540}, 64, 101),
    ],
)
def test_one_partition_far_ahead_does_not_say_what_time_it_is(marks: dict[int, int], partitions: int, now: int) -> None:
    merged = watermark(marks, partitions)
    assert merged.now_ms == now * MINUTE_MS
    assert merged.skewed_partitions == {p for p, minute in marks.items() if minute > 1000}
    assert merged.skew_ms == (max(marks.values()) - min(marks.values())) * MINUTE_MS


def test_partitions_without_traffic_do_not_hold_up_the_one_that_has_some() -> None:
    merged = MergedWatermark(range(64), IDLE_MS)
    for minute in range(0, 180, 5):
        merged.update(Cursor(partition=7, last_offset=minute, watermark_ms=minute * MINUTE_MS))
        merged.update_idle(minute * MINUTE_MS, range(64), TIMEOUT_MS)
    assert merged.until_ms() == 175 * MINUTE_MS


def test_a_partition_that_trails_is_waited_for_while_its_input_holds_records() -> None:
    merged = watermark({0: 1000, 1: 1000, 2: 1000}, 4)
    merged.update(Cursor(partition=3, last_offset=1, watermark_ms=10 * MINUTE_MS))
    for wall in range(10):
        for p in range(3):
            merged.update(Cursor(partition=p, last_offset=10_000_000 + wall, watermark_ms=1000 * MINUTE_MS))
        merged.update_idle(3 * TIMEOUT_MS + wall * HOUR_MS, {0, 1, 2}, TIMEOUT_MS)
        assert merged.until_ms() == 10 * MINUTE_MS
    assert merged.skewed_partitions == {3}


def test_a_later_cursor_heals_one_with_an_absurd_offset_or_date() -> None:
    merged = MergedWatermark(range(1), IDLE_MS)
    merged.update(Cursor(partition=0, last_offset=5, watermark_ms=7), horizon_ms=100)
    merged.update(Cursor(partition=0, last_offset=2**60, watermark_ms=YEAR_2099_MS), horizon_ms=100)
    assert (merged.now_ms, merged.skewed_partitions) == (7, {0})
    merged.update(Cursor(partition=0, last_offset=6, watermark_ms=8), horizon_ms=100)
    assert (merged.now_ms, merged.skewed_partitions) == (8, frozenset())


def test_nothing_is_closed_before_a_partition_was_heard_of() -> None:
    assert MergedWatermark(range(4), IDLE_MS).until_ms() == NO_TIME_MS


# Whole streams --------------------------------------------------------------------------------------------------------


#  partition 0..3   produced at full speed: the partition read first is briefly days ahead of the others
@pytest.mark.parametrize("idle", [0, 1])
def test_a_calm_history_replayed_at_full_speed_is_silent(idle: int) -> None:
    chance = random.Random(4)
    stream = Stream(stationary_traffic(1.5), partitions=4 + idle, partition_of=lambda cards: cards % 4)
    at, wall = [START_MS] * 4, 0
    while any(stream.left(p) for p in range(4)):
        p = chance.choice([p for p in range(4) if stream.left(p)])
        at[p] += chance.randrange(10 * MINUTE_MS, 8 * HOUR_MS)
        stream.count(p, at[p])
        wall += 100
        stream.look(wall, [p for p in range(4 + idle) if p == 4 or chance.random() < 0.5])
    for _ in range(3):
        wall += TIMEOUT_MS
        stream.look(wall)
    assert list(stream.alerts) == []
    assert stream.found[-1].report.until_ms > START_MS + 35 * HOUR_MS
    assert stream.watch.incomplete == 0


def test_a_backlog_of_days_on_one_partition_delays_and_is_silent() -> None:
    stream = Stream(stationary_traffic(1.5), partitions=4)
    for p in range(3):
        stream.count(p, START_MS + 2 * DAY_MS)
    for wall in range(0, 12 * HOUR_MS, HOUR_MS):
        stream.look(wall, {0, 1, 2})
    assert stream.found == []
    for hour in range(0, 36, 3):
        stream.count(3, START_MS + (hour + 3) * HOUR_MS)
        stream.look(12 * HOUR_MS + hour, {0, 1, 2})
    assert list(stream.alerts) == []
    assert stream.found[-1].report.until_ms > START_MS + 35 * HOUR_MS


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_partition_a_day_apart_delays_no_alert_and_is_shown(hours: int) -> None:
    plain, apart = (
        Stream(
            stationary_traffic(0.85, shift_ms=SHIFT_MS),
            partitions=4,
            ahead_ms=wrong,
            policy=replace(POLICY, max_ahead_ms=2 * DAY_MS),
        )
        for wrong in ({}, {3: hours * HOUR_MS})
    )
    for stream in (plain, apart):
        stream.live(START_MS, END_MS)
    (wanted,), (found,) = ([at for _, _, at in s.opened if at > SHIFT_MS] for s in (plain, apart))
    assert [features for _, features, _ in apart.opened] == [("x10",)]
    assert SHIFT_MS < wanted <= found < SHIFT_MS + 4 * HOUR_MS
    assert apart.found[-1].report.skewed == (3,)
    assert abs(apart.found[-1].report.skew_ms - DAY_MS) < HOUR_MS
    assert plain.found[-1].report.skewed == ()


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_poisoned_date_that_was_published_blinds_nothing(partitions: int) -> None:
    plain, poisoned = (Stream(stationary_traffic(0.85, shift_ms=SHIFT_MS), partitions=partitions) for _ in range(2))
    for stream in (plain, poisoned):
        stream.live(START_MS, START_MS + 6 * HOUR_MS)
        if stream is poisoned:  # as a worker without a limit counted it: the date is in pane and cursor
            stream.ahead_ms[0] = YEAR_2099_MS - START_MS
            before = stream.folds[0].cursor
            stream.count(0, START_MS + 6 * HOUR_MS + 5 * MINUTE_MS, START_MS + 6 * HOUR_MS)
            del stream.ahead_ms[0]
            stream.folds[0].cursor = replace(before, last_offset=stream.folds[0].cursor.last_offset)
        stream.live(START_MS + 6 * HOUR_MS, END_MS)
    assert len(poisoned.found) > 0.95 * len(plain.found)
    assert [features for _, features, _ in poisoned.opened] == [features for _, features, _ in plain.opened]
    assert poisoned.watch.lost > 0
