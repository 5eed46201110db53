"""Sliding windows over merged panes; bit-identical for any number of workers.

A later pane replaces an earlier one of the same (minute, partition); the panes of a minute are then summed. A minute
closes when no partition can add rows to it. Closed minutes enter and leave the windows by adding and subtracting
integers::

    partition 0   |--12:00--|--12:01--|--12:02-        workers publish a minute again as it grows
    partition 1   |--12:00--|--12:01-
                                      ^ merged watermark minus allowed lateness: 12:00 closes and is summed once

`monitoring/counting/merged_watermark.py` decides which partitions are awaited. A minute is complete when all partitions
have passed it.

Uses event time, no clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from monitoring.counting.bins import FrozenBins
from monitoring.counting.merged_watermark import MergedWatermark
from monitoring.counting.pane_buffer import PaneBuffer
from monitoring.counting.panes import NO_TIME_MS, Cursor, Pane
from monitoring.drift.baseline import HOURS_OF_WEEK, hour_of_week
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from scoring.arrays import Ints

MAX_WINDOW_MS = 7 * DAY_MS
MAX_BUFFERED_BYTES = 128 * 1024 * 1024  # of panes whose minute is not closed
MAX_REFUSED = 10_000  # refused panes that are remembered, so that their rows are counted as lost once


@dataclass(frozen=True, kw_only=True)
class Window:
    """A sliding window: a number of cells of a ring, up to the last closed minute."""

    name: str
    cell_ms: int
    cells: int

    @property
    def length_ms(self) -> int:
        """Event time that the window covers."""
        return self.cell_ms * self.cells


WINDOWS = (
    Window(name="15 min", cell_ms=MINUTE_MS, cells=15),
    Window(name="1 h", cell_ms=MINUTE_MS, cells=60),
    Window(name="6 h", cell_ms=5 * MINUTE_MS, cells=72),
    Window(name="24 h", cell_ms=5 * MINUTE_MS, cells=288),
    Window(name="7 d", cell_ms=HOUR_MS, cells=168),
)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClosedMinute:
    """Sum of the panes of one minute over all partitions."""

    start_ms: int
    counts: Ints  # shape (n_codes,)
    rows: int
    complete: bool = True  # False: a contributing partition had not passed it; the minute is not evaluated

    @property
    def hour_of_week(self) -> int:
        """Hour of the week; 0 for Monday 0 h UTC."""
        return int(hour_of_week(self.start_ms // HOUR_MS))


class OffsetRange(NamedTuple):
    """Offsets of one partition, both inclusive."""

    first: int
    last: int


class MergedPanes:
    """Merges panes and cursors of all partitions: a fold in the monitor."""

    def __init__(
        self,
        bins: FrozenBins,
        partitions: Iterable[int],
        lateness_ms: int,
        idle_timeout_ms: int,
        max_bytes: int = MAX_BUFFERED_BYTES,
    ) -> None:
        """idle_timeout_ms: as for `MergedWatermark`; max_bytes: of panes whose minute is not closed."""
        self._bins = bins
        self._lateness_ms, self._idle_timeout_ms, self._max_bytes = lateness_ms, idle_timeout_ms, max_bytes
        self.watermark = MergedWatermark(partitions, idle_timeout_ms)
        self._waiting = PaneBuffer(bins.n_codes)
        self._merged: dict[tuple[int, int], Pane | int] = {}  # of closed minutes: the pane, later only its last offset
        self._closed_ms = NO_TIME_MS  # end of the closed minutes
        self._forgot_ms = NO_TIME_MS  # event time at which old panes were last discarded
        self._refused: dict[tuple[int, int], int] = {}  # rows of refused panes, to count each once
        self._dropped: set[int] = set()  # minutes with a pane that was discarded to bound memory
        self._unfinished: dict[int, frozenset[int]] = {}  # minutes closed before these partitions had passed them
        width = bins.n_codes + HOURS_OF_WEEK + 1  # the last: number of incomplete minutes
        cells = {w.cell_ms: w.cells for w in sorted(WINDOWS, key=lambda w: w.cells)}  # the longest of each grain
        self._rings = {cell_ms: _Ring(cell_ms, n, width) for cell_ms, n in cells.items()}
        self._sums = [_SlidingSum(self._rings[w.cell_ms], w.cells) for w in WINDOWS]
        self.lost = 0  # rows of panes that could not be merged: too late, or dated in the future
        self.incomplete = 0  # incomplete minutes, in total

    @property
    def late(self) -> int:
        """Rows that arrived after their minute had closed, over all partitions."""
        return self.watermark.late

    def merge(self, pane: Pane, horizon_ms: int | None = None) -> None:
        """Merge a pane. Duplicates and another order give the same result.

        horizon_ms: a pane of a later minute is refused, and its rows count as lost.
        """
        if pane.layout != self._bins.digest:
            return
        if horizon_ms is not None and pane.start_ms > horizon_ms:
            self._refuse(pane)
            return
        if pane.start_ms >= self._closed_ms:
            self._waiting.add(pane)
            return
        # The minute closed without this pane: the windows still include it, the e-CUSUM does not.
        key = pane.start_ms, pane.partition
        before = self._merged.get(key)
        if before is None and pane.start_ms < self._closed_ms - MAX_WINDOW_MS:
            self._refuse(pane)
            return
        if before is None:
            self._slide_in(pane.start_ms, pane.counts, pane.rows)
        elif isinstance(before, Pane) and before.last_offset < pane.last_offset:
            self._slide_in(pane.start_ms, pane.counts - before.counts, pane.rows - before.rows)
        elif isinstance(before, int) and before < pane.last_offset:
            self._refuse(pane)
            return
        else:
            return
        self._merged[key] = pane

    def advance_watermark(self, cursor: Cursor, horizon_ms: int | None = None) -> None:
        """Apply the cursor of a partition; `close_next` then returns the minutes that this closes."""
        self.watermark.update(cursor, horizon_ms)

    def close_next(self) -> ClosedMinute | None:
        """Close the oldest minute that is complete and has rows, and add it to the windows; None if there is none.

        If the panes exceed `max_bytes`, those furthest ahead are discarded, or else the oldest minute is closed early.
        These minutes are marked incomplete.
        """
        self._finish()
        mark = self.watermark.until_ms()
        until = (mark - self._lateness_ms) // MINUTE_MS * MINUTE_MS if mark != NO_TIME_MS else NO_TIME_MS
        self._give_up_what_is_ahead()
        ready = self._waiting.first_ms
        forced = self._waiting.bytes > self._max_bytes
        if ready is None or (ready >= until and not forced):
            self._close(until)
            return None
        panes = self._waiting.pop(ready)
        self._merged.update({(ready, p): pane for p, pane in panes.items()})
        counts = np.sum([p.counts for p in panes.values()], axis=0)
        rows = sum(p.rows for p in panes.values())
        complete = ready < until and ready not in self._dropped
        self._dropped.discard(ready)
        self._slide_in(ready, counts, rows, incomplete=int(not complete))
        if ready >= until:
            self._unfinished[ready] = self.watermark.partitions_behind(ready + MINUTE_MS + self._lateness_ms)
        self.incomplete += not complete
        self._close(ready + MINUTE_MS)
        return ClosedMinute(start_ms=ready, counts=counts, rows=rows, complete=complete)

    def _finish(self) -> None:
        """Mark minutes that closed early as complete once the partitions they lacked have passed them."""
        none = np.zeros(self._bins.n_codes, dtype=np.int64)
        while self._unfinished:
            start, lacking = next(iter(self._unfinished.items()))
            if not self.watermark.have_passed(lacking, start + MINUTE_MS + self._lateness_ms):
                return
            del self._unfinished[start]
            self._slide_in(start, none, 0, incomplete=-1)

    def _give_up_what_is_ahead(self) -> None:
        while self._waiting.bytes > self._max_bytes:
            last = self._waiting.last_ms
            if last is None or last <= self.watermark.now_ms + self._idle_timeout_ms:
                return
            self.lost += sum(p.rows for p in self._waiting.pop(last).values())
            self._dropped.add(last)

    def _refuse(self, pane: Pane) -> None:
        key = pane.start_ms, pane.partition
        if len(self._refused) >= MAX_REFUSED:
            self._refused.clear()
        self.lost += max(0, pane.rows - self._refused.get(key, 0))
        self._refused[key] = pane.rows

    def _close(self, until_ms: int) -> None:
        if until_ms > self._closed_ms:
            self._closed_ms = until_ms
            for total in self._sums:
                total.slide(until_ms - MINUTE_MS)
            if until_ms - self._forgot_ms >= 30 * MINUTE_MS:
                self._forgot_ms = until_ms
                self._forget()

    def windows(self) -> tuple[Ints, Ints]:
        """Counts by code per window, shape (n_windows, n_codes), and rows by hour of week, shape (n_windows, 168)."""
        sums = np.stack([s.total for s in self._sums])
        return sums[:, : self._bins.n_codes], sums[:, self._bins.n_codes : -1]

    def incomplete_minutes(self) -> Ints:
        """Number of incomplete minutes per window, shape (n_windows,)."""
        return np.array([s.total[-1] for s in self._sums])

    def counted_offsets(self, since_ms: int, until_ms: int) -> dict[int, OffsetRange]:
        """Offsets that the closed minutes of a period count, by partition.

        Of panes older than an hour only the last offset is known, so the first one may be too high.
        """
        found: dict[int, OffsetRange] = {}
        for (start_ms, partition), pane in self._merged.items():
            if since_ms <= start_ms < until_ms:
                first, last = (pane.first_offset, pane.last_offset) if isinstance(pane, Pane) else (pane, pane)
                before = found.get(partition, OffsetRange(first, last))
                found[partition] = OffsetRange(min(first, before.first), max(last, before.last))
        return found

    def _slide_in(self, start_ms: int, counts: Ints, rows: int, incomplete: int = 0) -> None:
        values = np.zeros(self._bins.n_codes + HOURS_OF_WEEK + 1, dtype=np.int64)
        values[: self._bins.n_codes] = counts
        values[self._bins.n_codes + int(hour_of_week(start_ms // HOUR_MS))] = rows
        values[-1] = incomplete
        for total in self._sums:  # subtract the old content of a ring's cell before the cell is reused
            total.slide(start_ms)
        for ring in self._rings.values():
            ring.add(start_ms, values)
        for total in self._sums:
            total.add(start_ms, values)

    def _forget(self) -> None:
        """Discard panes after an hour (until then a pane may grow after its minute closed) and offsets after a week."""
        hour, week = self._closed_ms - HOUR_MS, self._closed_ms - MAX_WINDOW_MS
        old = [k for k, v in self._merged.items() if k[0] < hour and (isinstance(v, Pane) or k[0] < week)]
        for key in old:
            kept = self._merged.pop(key)
            if isinstance(kept, Pane) and key[0] >= week:
                self._merged[key] = kept.last_offset


class _Ring:
    """Ring buffer of counts per cell; the index of a cell is its number modulo the number of cells."""

    def __init__(self, cell_ms: int, cells: int, width: int) -> None:
        self.cell_ms = cell_ms
        self.counts = np.zeros((cells, width), dtype=np.int32)
        self._number = np.full(cells, NO_TIME_MS)

    def add(self, start_ms: int, values: Ints) -> None:
        number = start_ms // self.cell_ms
        place = number % len(self._number)
        if self._number[place] > number:  # older than the oldest cell
            return
        if self._number[place] < number:
            self._number[place] = number
            self.counts[place] = 0
        self.counts[place] += values.astype(np.int32)

    def cell(self, number: int) -> Ints | None:
        place = number % len(self._number)
        return self.counts[place] if self._number[place] == number else None


class _SlidingSum:
    """Sum of a ring's last cells: adds cells that enter and subtracts cells that leave."""

    def __init__(self, ring: _Ring, cells: int) -> None:
        self._ring, self._cells = ring, cells
        self._last = NO_TIME_MS
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
