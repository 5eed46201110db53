"""The merged watermark: up to which event time all partitions that will contribute have contributed.

    partition 0   ----------------|           a majority says what time it is: "now" is the lower median of the
    partition 1   ---------------|            watermarks of partitions that move
    partition 2   ----|                       trails: waited for, as long as its input holds records to count
    partition 3   ------------------------------------|    ahead: its panes wait for the others

A partition that trails "now" by more than `idle_ms` is left out only after it has been caught up with its input, and
has trailed, for a while of wall-clock time. Event time alone cannot tell an idle partition from one whose worker is
slow: a replay at full speed passes hours in a second. Wall-clock time and the ends of the input are values (`look`).
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from monitoring.counting.panes import NEVER, Cursor


class MergedWatermark:
    """A fold over cursors and looks."""

    def __init__(self, partitions: Iterable[int], idle_ms: int) -> None:
        """idle_ms: event time by which a partition may trail, or be ahead, and count as in step."""
        self._cursors = {p: Cursor(partition=p) for p in partitions}
        self._idle_ms = idle_ms
        self._first_ms = NEVER  # the first watermark
        self._moved: set[int] = set()  # since the last look
        self._still_since: dict[int, int] = {}  # wall clock; caught up, and no new cursor
        self._behind_since: dict[int, int] = {}  # wall clock; caught up, and trailing
        self._resting: frozenset[int] = frozenset()
        self._left_out: frozenset[int] = frozenset()
        self._refused: set[int] = set()  # whose last cursor was dated after its own publication

    @property
    def late(self) -> int:
        """Rows that came after their minute had closed, over all partitions."""
        return sum(c.late for c in self._cursors.values())

    def advance(self, cursor: Cursor, horizon_ms: int | None = None) -> None:
        """Take in a cursor. The last one on the topic holds, whatever its offset: a wrong one is healed by the next.

        horizon_ms: no event time after this is believed; the partition then stays where it was.
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
            if p in self._resting:  # it contributes again
                self._resting -= {p}
                self._left_out -= {p}
                self._behind_since.pop(p, None)
        if self._first_ms == NEVER:
            self._first_ms = cursor.watermark_ms

    def look(self, wall_ms: int, caught_up: Collection[int], patience_ms: int) -> None:
        """Learn which partitions have nothing left to count, by wall-clock time `wall_ms`.

        caught_up: partitions whose input is counted to its end; patience_ms: how long that must have been so.
        """
        for p in self._cursors:
            if p in self._moved or p not in caught_up:
                self._still_since.pop(p, None)
            if p in caught_up:
                self._still_since.setdefault(p, wall_ms)
        self._moved.clear()
        self._resting = frozenset(p for p, since in self._still_since.items() if wall_ms - since >= patience_ms)
        now_ms = self.now_ms
        for p in self._cursors:
            if p in caught_up and self._trails(p, now_ms):
                self._behind_since.setdefault(p, wall_ms)
            else:
                self._behind_since.pop(p, None)
        self._left_out = frozenset(p for p, since in self._behind_since.items() if wall_ms - since >= patience_ms)

    @property
    def now_ms(self) -> int:
        """The lower median of the watermarks of partitions that move, of all where none does; NEVER before the first.

        One partition far from the rest does not change it, and of two the earlier holds.
        """
        heard = {p: c.watermark_ms for p, c in self._cursors.items() if c.watermark_ms != NEVER}
        marks = sorted(mark for p, mark in heard.items() if p not in self._resting) or sorted(heard.values())
        return marks[(len(marks) - 1) // 2] if marks else NEVER

    def until_ms(self) -> int:
        """Every partition that is waited for has passed this event time; NEVER while one has none."""
        now_ms = self.now_ms
        awaited = [
            c.watermark_ms for p, c in self._cursors.items() if p not in self._left_out or not self._trails(p, now_ms)
        ]
        return min(awaited, default=NEVER)

    def behind(self, until_ms: int) -> frozenset[int]:
        """Partitions that are waited for and have not passed this event time."""
        now_ms = self.now_ms
        return frozenset(
            p
            for p, c in self._cursors.items()
            if c.watermark_ms < until_ms and (p not in self._left_out or not self._trails(p, now_ms))
        )

    def passed(self, partitions: Collection[int], until_ms: int) -> bool:
        """Whether all of these have passed this event time."""
        return all(p in self._cursors and self._cursors[p].watermark_ms >= until_ms for p in partitions)

    @property
    def skew_ms(self) -> int:
        """Event time between the first and the last of the partitions that move."""
        marks = [c.watermark_ms for p, c in self._cursors.items() if p not in self._resting and c.watermark_ms != NEVER]
        return max(marks) - min(marks) if marks else 0

    @property
    def skewed(self) -> frozenset[int]:
        """Partitions that move further than `idle_ms` from "now", or whose cursor is dated after its publication."""
        now_ms = self.now_ms
        apart = {
            p
            for p, c in self._cursors.items()
            if p not in self._resting and c.watermark_ms != NEVER and abs(c.watermark_ms - now_ms) > self._idle_ms
        }
        return frozenset(apart | self._refused)

    def _trails(self, partition: int, now_ms: int) -> bool:
        mark = self._cursors[partition].watermark_ms
        return now_ms - self._idle_ms > (self._first_ms if mark == NEVER else mark)
