"""Watermark of one input partition, robust against single records with wrong event times.

A fold over event times in offset order; batches, restarts and rebalances do not change the result. Three rules::

    confirmed    the 5th latest of the last 8 event times; never decreases. Four wrong records in eight cannot move it
    watermark    the latest event time up to one step beyond `confirmed`; a row further ahead is held and ignored here
    reset        a jump of more than six hours leaves a gap of minutes that were never closed. If 16 rows fall into
                 gaps, with fewer than one row in four at the watermark between them, the jump was wrong: the watermark
                 is set back. A smaller error corrects itself within those six hours

Closed minutes remain closed after a reset, on both sides of the gap: a published pane never shrinks.

         closed          gap                        closed
    |==============|- - - - - - - - - - - - - |==================|        |
                   ^ watermark before a jump  ^ `since`          ^ until  ^ watermark
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from schemas.time_units import HOUR_MS, MINUTE_MS
from scoring.arrays import Flags, Ints

REACH_MS = 6 * HOUR_MS  # minutes this far below the end of a jump stay open
NO_TIME_MS = -1  # no event time yet
WINDOW_ROWS = 8
CONFIRMING_ROWS = 5  # of `WINDOW_ROWS`
MIN_STEP_MS = 10 * MINUTE_MS
RESET_ROWS = 16
ROWS_OUTWEIGHED = 4  # number of rows in gaps that one row at the watermark cancels
MAX_RANGES = 8  # of closed minutes below the watermark, and as many above

Range = tuple[int, int]  # [start of the first minute, end of the last minute)


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """State of the fold."""

    time_ms: int = NO_TIME_MS
    confirmed_ms: int = NO_TIME_MS
    recent_ms: tuple[int, ...] = ()  # the last `WINDOW_ROWS` - 1 event times
    since_ms: int = NO_TIME_MS  # minutes from here on close when the watermark passes them
    closed: tuple[Range, ...] = ()  # minutes closed before a jump or a reset, ascending, disjoint
    gap_ms: tuple[int, ...] = ()  # event times of rows in gaps, fewer than `RESET_ROWS`
    resets: int = 0

    def until_ms(self, lateness_ms: int) -> int:
        """End of the closed minutes that start at `since_ms`."""
        return _minute(self.time_ms - lateness_ms)

    def ahead_from_ms(self, lateness_ms: int) -> int:
        """Start of the first minute whose rows are held."""
        return _minute(self.confirmed_ms) + step_ms(lateness_ms)

    def limit_ranges(self) -> "Watermark":
        """Copy with at most `MAX_RANGES` ranges above the watermark; discards the furthest, whose panes are closed."""
        above = [r for r in self.closed if r[0] > self.time_ms]
        return replace(self, closed=self.closed[: len(self.closed) - len(above[MAX_RANGES:])])

    def is_closed(self, start_ms: int, lateness_ms: int) -> bool:
        """Whether a minute accepts no more rows."""
        passed = self.since_ms <= start_ms < self.until_ms(lateness_ms)
        return passed or any(first <= start_ms < end for first, end in self.closed)


class Advance(NamedTuple):
    """Result of `advance`: all rows, or those up to the first reset."""

    n: int  # number of rows
    state: Watermark  # after these rows
    times_ms: (
        Ints  # shape (n,): a row without event time has the time of the watermark; NO_TIME_MS if there is none yet
    )
    late: Flags  # shape (n,): its minute was closed
    ahead_from_ms: Ints  # shape (n,): after the row, as `Watermark.ahead_from_ms`


def step_ms(lateness_ms: int) -> int:
    """Maximum lead of the watermark over `confirmed_ms`: at least the lateness, so that no punctual row is late."""
    return max(lateness_ms, MIN_STEP_MS)


def from_old_cursor(watermark_ms: int, lateness_ms: int) -> Watermark:
    """State from a cursor that has only a watermark; earlier minutes count as a gap, so that a reset is possible."""
    return _at(Watermark(), watermark_ms, lateness_ms, reach_ms=REACH_MS) if watermark_ms != NO_TIME_MS else Watermark()


def advance(state: Watermark, times_ms: Ints, lateness_ms: int) -> Advance:
    """Process rows in offset order, up to the first reset.

    times_ms: shape (n,), n > 0; NO_TIME_MS for a row without event time, which does not change the watermark.
    """
    timed = times_ms != NO_TIME_MS
    before = state
    if state.time_ms == NO_TIME_MS:
        if not timed.any():
            nothing = np.zeros(len(times_ms), dtype=bool)
            return Advance(len(times_ms), state, times_ms, nothing, np.full(len(times_ms), NO_TIME_MS))
        state = _at(state, int(times_ms[timed][0]), lateness_ms)
    own = times_ms[timed]
    confirmed = np.maximum.accumulate(np.maximum(state.confirmed_ms, _fifth_latest(state.recent_ms, own)))
    ahead_from = _minutes(confirmed) + step_ms(lateness_ms)
    near = _minutes(own) < ahead_from
    marks = np.append(before.time_ms, np.maximum.accumulate(np.maximum(state.time_ms, np.where(near, own, confirmed))))
    place = np.cumsum(timed)  # of each row among those with a time, counted from one
    mark_before = marks[place - timed]
    times = np.where(timed, times_ms, mark_before)
    starts = _minutes(times)
    late = (starts < _minutes(mark_before - lateness_ms)) & (mark_before != NO_TIME_MS)
    for first, end in state.closed:
        late |= (first <= starts) & (starts < end)
    late &= times != NO_TIME_MS

    confirmed_before = np.append(state.confirmed_ms, confirmed[:-1])
    jumped = np.zeros(len(times), dtype=bool)
    jumped[timed] = (confirmed > confirmed_before) & (
        _minutes(confirmed - lateness_ms - REACH_MS) > _minutes(marks[:-1])
    )
    counted = np.zeros(len(times), dtype=bool)
    counted[timed] = near
    counts = np.append(0, np.cumsum(counted & ~late))

    n, seen = len(times), 0
    ranges = _Ranges(state, lateness_ms)
    for i in np.flatnonzero(jumped | (late & timed)).tolist():
        if ranges.gap_ms:
            ranges.outweigh(int(counts[i] - seen))
        seen = int(counts[i])
        if late[i] and ranges.in_gap(int(starts[i])):
            ranges.gap_ms.append(int(times[i]))
            if len(ranges.gap_ms) == RESET_ROWS:
                n = i + 1
                break
        if jumped[i]:
            ranges.jump(int(mark_before[i]), int(confirmed[place[i] - 1]))
    else:
        if ranges.gap_ms:
            ranges.outweigh(int(counts[-1]) - seen)
    last = int(place[n - 1])
    state = replace(
        state,
        time_ms=int(marks[last]),
        confirmed_ms=int(confirmed[last - 1]) if last else state.confirmed_ms,
        recent_ms=tuple(np.append(state.recent_ms, own[:last])[1 - WINDOW_ROWS :].tolist()),
        since_ms=ranges.since_ms,
        closed=ranges.closed,
        gap_ms=tuple(ranges.gap_ms),
    )
    if len(state.gap_ms) == RESET_ROWS:
        state = _fallen_back(state, lateness_ms)
    ahead = np.append(_minute(before.confirmed_ms) + step_ms(lateness_ms), ahead_from)[place]
    return Advance(n, state, times[:n], late[:n], ahead[:n])


def _fifth_latest(recent_ms: tuple[int, ...], times_ms: Ints) -> Ints:
    """5th latest event time of the window that ends at each row, shape (n,)."""
    if not len(times_ms):
        return times_ms
    window = np.lib.stride_tricks.sliding_window_view(np.append(recent_ms, times_ms), WINDOW_ROWS)
    place = WINDOW_ROWS - CONFIRMING_ROWS
    return np.partition(window, place, axis=1)[:, place]


class _Ranges:
    """Closed minutes and rows in gaps, updated row by row."""

    def __init__(self, state: Watermark, lateness_ms: int) -> None:
        self.since_ms, self.closed, self.gap_ms = state.since_ms, state.closed, list(state.gap_ms)
        self._lateness_ms = lateness_ms

    def in_gap(self, start_ms: int) -> bool:
        """Whether the minute of a late row was never closed by counting."""
        return start_ms < self.since_ms and not any(first <= start_ms < end for first, end in self.closed)

    def outweigh(self, rows: int) -> None:
        """Discard the oldest rows in gaps. rows: number of rows counted at the watermark."""
        del self.gap_ms[: rows * ROWS_OUTWEIGHED]

    def jump(self, from_ms: int, to_ms: int) -> None:
        """End the current range of closed minutes and start another."""
        ranges = _united((*self.closed, (self.since_ms, _minute(from_ms) + MINUTE_MS)))
        self.since_ms = _minute(to_ms - self._lateness_ms - REACH_MS)
        below = [r for r in ranges if r[0] < self.since_ms]
        while len(below) > MAX_RANGES:  # close the smallest gap; a reset into it is no longer possible
            _, i = min((below[i + 1][0] - below[i][1], i) for i in range(len(below) - 1))
            below[i : i + 2] = [(below[i][0], below[i + 1][1])]
        self.closed = (*below, *(r for r in ranges if r[0] >= self.since_ms))


def _fallen_back(state: Watermark, lateness_ms: int) -> Watermark:
    to_ms = sorted(state.gap_ms)[-CONFIRMING_ROWS]
    ranges = _united((*state.closed, (state.since_ms, _minute(state.time_ms) + MINUTE_MS)))
    below = tuple(r for r in ranges if r[0] <= to_ms)
    above = tuple(r for r in ranges if r[0] > to_ms)
    return _at(replace(state, closed=below + above, gap_ms=(), resets=state.resets + 1), to_ms, lateness_ms)


def _at(state: Watermark, time_ms: int, lateness_ms: int, reach_ms: int = 0) -> Watermark:
    return replace(
        state,
        time_ms=time_ms,
        confirmed_ms=time_ms,
        recent_ms=(time_ms,) * (WINDOW_ROWS - 1),
        since_ms=_minute(time_ms - lateness_ms - reach_ms),
    )


def _united(ranges: tuple[Range, ...]) -> list[Range]:
    found: list[Range] = []
    for first, end in sorted(ranges):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        elif first < end:
            found.append((first, end))
    return found


def _minute(time_ms: int) -> int:
    return time_ms // MINUTE_MS * MINUTE_MS


def _minutes(times_ms: Ints) -> Ints:
    return times_ms // MINUTE_MS * MINUTE_MS
