"""Merged watermark: the event time up to which all active partitions have been counted.

    partition 0   ----------------|           "now" is the lower median of the watermarks of the active partitions
    partition 1   ---------------|
    partition 2   ----|                       lags: waited for, as long as its input has records to count
    partition 3   ------------------------------------|    ahead: its panes wait for the others

A partition that lags "now" by more than `idle_timeout_ms` is excluded only after it has counted all of its input, and
has lagged, for some wall-clock time. Event time alone cannot distinguish an idle partition from one with a slow worker:
a replay at full speed covers hours per second. Wall-clock time and ends of the input are arguments (`update_idle`).
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from monitoring.counting.panes import NO_TIME_MS, Cursor


class MergedWatermark:
    """A fold over cursors and checks of the input."""

    def __init__(self, partitions: Iterable[int], idle_timeout_ms: int) -> None:
        """idle_timeout_ms: maximum skew, in event time, of a partition against the others."""
        self._cursors = {p: Cursor(partition=p) for p in partitions}
        self._idle_timeout_ms = idle_timeout_ms
        self._first_ms = NO_TIME_MS  # the first watermark
        self._moved: set[int] = set()  # partitions with a new cursor since the last check
        self._still_since: dict[int, int] = {}  # wall clock; caught up, without a new cursor
        self._behind_since: dict[int, int] = {}  # wall clock; caught up, and lagging
        self._resting: frozenset[int] = frozenset()
        self._left_out: frozenset[int] = frozenset()
        self._refused: set[int] = set()  # partitions whose last cursor was later than its own publication

    @property
    def late(self) -> int:
        """Rows that arrived after their minute had closed, over all partitions."""
        return sum(c.late for c in self._cursors.values())

    def update(self, cursor: Cursor, horizon_ms: int | None = None) -> None:
        """Apply a cursor. The last one on the topic is valid, with any offset, so the next one repairs a wrong one.

        horizon_ms: a later watermark is refused, and that of the partition remains unchanged.
        """
        p = cursor.partition
        old = self._cursors.get(p, Cursor(partition=p))
        if horizon_ms is not None and cursor.watermark_ms > horizon_ms:
            self._refused.add(p)
            cursor = replace(cursor, watermark_ms=old.watermark_ms)
        else:
            self._refused.discard(p)
        self._cursors[p] = cursor
        if cursor.last_offset != old.last_offset or cursor.watermark_ms != old.watermark_ms:
            self._moved.add(p)
            if p in self._resting:  # active again
                self._resting -= {p}
                self._left_out -= {p}
                self._behind_since.pop(p, None)
        if self._first_ms == NO_TIME_MS:
            self._first_ms = cursor.watermark_ms

    def update_idle(self, wall_ms: int, caught_up: Collection[int], idle_after_ms: int) -> None:
        """Update which partitions are idle. wall_ms: wall-clock time.

        caught_up: partitions whose input is counted to its end; idle_after_ms: minimum time in that state.
        """
        for p in self._cursors:
            if p in self._moved or p not in caught_up:
                self._still_since.pop(p, None)
            if p in caught_up:
                self._still_since.setdefault(p, wall_ms)
        self._moved.clear()
        self._resting = frozenset(p for p, since in self._still_since.items() if wall_ms - since >= idle_after_ms)
        now_ms = self.now_ms
        for p in self._cursors:
            if p in caught_up and self._trails(p, now_ms):
                self._behind_since.setdefault(p, wall_ms)
            else:
                self._behind_since.pop(p, None)
        self._left_out = frozenset(p for p, since in self._behind_since.items() if wall_ms - since >= idle_after_ms)

    @property
    def now_ms(self) -> int:
        """Lower median of the watermarks of active partitions, of all if none is active; NO_TIME_MS before the first.

        A single partition far from the rest does not change it; of two partitions, the earlier one counts.
        """
        watermarks = {p: c.watermark_ms for p, c in self._cursors.items() if c.watermark_ms != NO_TIME_MS}
        marks = sorted(mark for p, mark in watermarks.items() if p not in self._resting) or sorted(watermarks.values())
        return marks[(len(marks) - 1) // 2] if marks else NO_TIME_MS

    def until_ms(self) -> int:
        """Event time that all awaited partitions have passed; NO_TIME_MS if one of them has no watermark."""
        now_ms = self.now_ms
        awaited = [
            c.watermark_ms for p, c in self._cursors.items() if p not in self._left_out or not self._trails(p, now_ms)
        ]
        return min(awaited, default=NO_TIME_MS)

    def partitions_behind(self, until_ms: int) -> frozenset[int]:
        """Awaited partitions that have not passed an event time."""
        now_ms = self.now_ms
        return frozenset(
            p
            for p, c in self._cursors.items()
            if c.watermark_ms < until_ms and (p not in self._left_out or not self._trails(p, now_ms))
        )

    def have_passed(self, partitions: Collection[int], until_ms: int) -> bool:
        """Whether all of these partitions have passed an event time."""
        return all(p in self._cursors and self._cursors[p].watermark_ms >= until_ms for p in partitions)

    @property
    def skew_ms(self) -> int:
        """Event time between the watermarks of the first and the last active partition."""
        marks = [
            c.watermark_ms for p, c in self._cursors.items() if p not in self._resting and c.watermark_ms != NO_TIME_MS
        ]
        return max(marks) - min(marks) if marks else 0

    @property
    def skewed_partitions(self) -> frozenset[int]:
        """Active partitions beyond `idle_timeout_ms` of "now", and those whose cursor is later than its publication."""
        now_ms = self.now_ms
        apart = {
            p
            for p, c in self._cursors.items()
            if p not in self._resting
            and c.watermark_ms != NO_TIME_MS
            and abs(c.watermark_ms - now_ms) > self._idle_timeout_ms
        }
        return frozenset(apart | self._refused)

    def _trails(self, partition: int, now_ms: int) -> bool:
        mark = self._cursors[partition].watermark_ms
        return now_ms - self._idle_timeout_ms > (self._first_ms if mark == NO_TIME_MS else mark)
