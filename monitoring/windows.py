"""Sliding windows over merged panes, bit-identical however many workers share the counting.

Panes are overwritten by (minute, partition) and then summed. A minute closes when no partition can bring it more;
closed minutes slide through rings, where arriving is ``+`` and leaving is ``-``, on whole numbers::

    partition 0   |--12:00--|--12:01--|--12:02-        workers publish a minute again as it grows
    partition 1   |--12:00--|--12:01-
                                      ^ the slowest watermark, less grace: 12:00 is closed, and summed, once

No clock: time is the events' own.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from monitoring.bins import FrozenBins, Ints
from monitoring.calibration import HOURS_OF_WEEK, hour_of_week
from monitoring.panes import MINUTE_MS, NEVER, Cursor, Pane


@dataclass(frozen=True, kw_only=True)
class Window:
    """A sliding window: so many cells of a ring, up to the last closed minute."""

    name: str
    cell_ms: int
    cells: int


WINDOWS = (
    Window(name="15 min", cell_ms=MINUTE_MS, cells=15),
    Window(name="1 h", cell_ms=MINUTE_MS, cells=60),
    Window(name="6 h", cell_ms=5 * MINUTE_MS, cells=72),
    Window(name="24 h", cell_ms=5 * MINUTE_MS, cells=288),
    Window(name="7 d", cell_ms=60 * MINUTE_MS, cells=168),
)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClosedMinute:
    """All partitions' panes of one minute, summed."""

    start_ms: int
    counts: Ints  # shape (n_codes,)
    rows: int

    @property
    def hour_of_week(self) -> int:
        """0 for Monday 0 h UTC."""
        return int(hour_of_week(self.start_ms // (60 * MINUTE_MS)))


class MergedPanes:
    """The merger's fold over all partitions' panes and cursors."""

    def __init__(self, bins: FrozenBins, partitions: Iterable[int], grace_ms: int, idle_ms: int) -> None:
        """idle_ms: a partition whose watermark trails the furthest by more is not waited for; one not heard of yet is
        waited for until the furthest has come as far since the first was heard.
        """
        self._bins = bins
        self._grace_ms, self._idle_ms = grace_ms, idle_ms
        self._cursors = {p: Cursor(partition=p) for p in partitions}
        self._first_ms = NEVER  # the first watermark heard
        self._waiting: dict[int, dict[int, Pane]] = {}
        self._merged: dict[tuple[int, int], Pane | int] = {}  # of closed minutes: the pane, later only its last offset
        self._closed_ms = NEVER  # minutes that begin before this are closed
        width = bins.n_codes + HOURS_OF_WEEK
        cells = {w.cell_ms: w.cells for w in sorted(WINDOWS, key=lambda w: w.cells)}  # the longest of each grain
        self._rings = {cell_ms: _Ring(cell_ms, n, width) for cell_ms, n in cells.items()}
        self._sums = [_SlidingSum(self._rings[w.cell_ms], w.cells) for w in WINDOWS]
        self.lost = 0  # rows of snapshots that could no longer be merged

    @property
    def late(self) -> int:
        """Rows that came after their minute had closed, over all partitions."""
        return sum(c.late for c in self._cursors.values())

    def merge(self, pane: Pane) -> None:
        """Take in a snapshot: once, twice or out of order, the outcome is the same."""
        if pane.layout != self._bins.digest:
            return
        key = pane.start_ms, pane.partition
        if pane.start_ms >= self._closed_ms:
            panes = self._waiting.setdefault(pane.start_ms, {})
            old = panes.get(pane.partition)
            if old is None or old.last_offset < pane.last_offset:
                panes[pane.partition] = pane
            return
        # Its minute was closed without it: the windows still take it, the e-CUSUM has gone on.
        before = self._merged.get(key)
        if before is None:
            self._slide_in(pane.start_ms, pane.counts, pane.rows)
        elif isinstance(before, Pane) and before.last_offset < pane.last_offset:
            self._slide_in(pane.start_ms, pane.counts - before.counts, pane.rows - before.rows)
        elif isinstance(before, int) and before < pane.last_offset:
            self.lost += pane.rows
            return
        else:
            return
        self._merged[key] = pane

    def hear(self, cursor: Cursor) -> None:
        """Learn how far a partition is; `close_next` then says what that closes."""
        if cursor.last_offset >= self._cursors[cursor.partition].last_offset:
            self._cursors[cursor.partition] = cursor
            if self._first_ms == NEVER:
                self._first_ms = cursor.watermark_ms

    def close_next(self) -> ClosedMinute | None:
        """The oldest minute that can grow no more and has rows, slid into the windows; None when there is none yet."""
        marks = [c.watermark_ms for c in self._cursors.values()]
        if NEVER in marks and max(marks) <= self._first_ms + self._idle_ms:
            return None
        awaited = min(m for m in marks if m != NEVER and m >= max(marks) - self._idle_ms)
        until = (awaited - self._grace_ms) // MINUTE_MS * MINUTE_MS
        ready = min((s for s in self._waiting if s < until), default=None)
        if ready is None:
            self._close(until)
            return None
        panes = self._waiting.pop(ready)
        self._merged.update({(ready, p): pane for p, pane in panes.items()})
        counts = np.sum([p.counts for p in panes.values()], axis=0)
        rows = sum(p.rows for p in panes.values())
        self._slide_in(ready, counts, rows)
        self._close(ready + MINUTE_MS)
        return ClosedMinute(start_ms=ready, counts=counts, rows=rows)

    def _close(self, until_ms: int) -> None:
        if until_ms > self._closed_ms:
            self._closed_ms = until_ms
            for total in self._sums:
                total.slide(until_ms - MINUTE_MS)
            self._forget()

    def windows(self) -> tuple[Ints, Ints]:
        """Counts by code of each of `WINDOWS`, shape (n_windows, n_codes), and their rows by hour of week, (n, 168)."""
        sums = np.stack([s.total for s in self._sums])
        return sums[:, : self._bins.n_codes], sums[:, self._bins.n_codes :]

    def _slide_in(self, start_ms: int, counts: Ints, rows: int) -> None:
        values = np.zeros(self._bins.n_codes + HOURS_OF_WEEK, dtype=np.int64)
        values[: self._bins.n_codes] = counts
        values[self._bins.n_codes + int(hour_of_week(start_ms // (60 * MINUTE_MS)))] = rows
        for total in self._sums:  # before a ring's cell is used anew, what it held must have left
            total.slide(start_ms)
        for ring in self._rings.values():
            ring.add(start_ms, values)
        for total in self._sums:
            total.add(start_ms, values)

    def _forget(self) -> None:
        """Keep panes an hour, should a snapshot grow after its minute closed, and offsets as far as windows reach."""
        hour, week = self._closed_ms - 60 * MINUTE_MS, self._closed_ms - 168 * 60 * MINUTE_MS
        old = [k for k, v in self._merged.items() if k[0] < hour and (isinstance(v, Pane) or k[0] < week)]
        for key in old:
            kept = self._merged.pop(key)
            if isinstance(kept, Pane) and key[0] >= week:
                self._merged[key] = kept.last_offset


class _Ring:
    """Counts of the last cells of one length; a cell's place is its number modulo their count."""

    def __init__(self, cell_ms: int, cells: int, width: int) -> None:
        self.cell_ms = cell_ms
        self.counts = np.zeros((cells, width), dtype=np.int32)
        self._number = np.full(cells, NEVER)

    def add(self, start_ms: int, values: Ints) -> None:
        number = start_ms // self.cell_ms
        place = number % len(self._number)
        if self._number[place] > number:  # older than the ring reaches
            return
        if self._number[place] < number:
            self._number[place] = number
            self.counts[place] = 0
        self.counts[place] += values.astype(np.int32)

    def cell(self, number: int) -> Ints | None:
        place = number % len(self._number)
        return self.counts[place] if self._number[place] == number else None


class _SlidingSum:
    """Sum of a ring's last cells: what arrives is added, what leaves is taken away."""

    def __init__(self, ring: _Ring, cells: int) -> None:
        self._ring, self._cells = ring, cells
        self._last = NEVER
        self.total = np.zeros(ring.counts.shape[1], dtype=np.int64)

    def slide(self, start_ms: int) -> None:
        last = start_ms // self._ring.cell_ms
        if last <= self._last:
            return
        first = self._last - self._cells + 1
        for number in range(first, min(last - self._cells + 1, self._last + 1)):
            leaving = self._ring.cell(number)
            if leaving is not None:
                self.total -= leaving
        self._last = last

    def add(self, start_ms: int, values: Ints) -> None:
        if start_ms // self._ring.cell_ms > self._last - self._cells:
            self.total += values
