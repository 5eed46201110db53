"""Panes and sliding windows of counts: folded by event time, bit-identical however many workers share the counting.

A worker counts the minutes of each input partition (`PartitionPanes`) and publishes whole panes, each with the offsets
it covers. One merger (`MergedPanes`) overwrites by (minute, partition), then sums: a replay cannot count twice. A minute
closes when no partition can bring it more; closed minutes slide through rings, where arriving is ``+`` and leaving is
``-``, on whole numbers::

    partition 0   |--12:00--|--12:01--|--12:02-        each worker's panes, published again as they grow
    partition 1   |--12:00--|--12:01-
                                      ^ watermark less grace: 12:00 is closed, and summed, once

No clock: time is the events' own. Late is what comes after its minute closed in its own partition; it is counted as late
and nowhere else, and that too is the same after any restart.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from monitoring.bins import Codes, FrozenBins, Ints
from monitoring.calibration import HOURS_OF_WEEK, hour_of_week

MINUTE_MS = 60_000
NEVER = -1  # before any event time, and before any offset


@dataclass(frozen=True, eq=False, kw_only=True)
class Pane:
    """A snapshot of one minute of one input partition; a later one of the same key replaces it."""

    start_ms: int
    partition: int
    counts: Ints  # shape (n_codes,)
    rows: int
    first_offset: int  # of the rows in it
    last_offset: int  # every row of this minute up to here is in it
    layout: str  # `FrozenBins.digest`: counts over other codes are not these


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How far a partition has been counted; published after its panes and before its offsets are committed."""

    partition: int
    last_offset: int = NEVER
    watermark_ms: int = NEVER  # latest event time
    late: int = 0  # rows that came after their minute had closed


class PartitionPanes:
    """One worker's fold over one input partition.

    To lose nothing and double nothing across crashes and rebalances, publish (`snapshot`) before committing offsets, and
    take over with the newest snapshots of the partition (`restore`); consume from the committed offset.
    """

    def __init__(self, bins: FrozenBins, partition: int, grace_ms: int) -> None:
        self._bins = bins
        self._grace_ms = grace_ms
        self.cursor = Cursor(partition=partition)
        self._panes: dict[int, Pane] = {}
        self._changed: set[int] = set()

    @classmethod
    def restore(cls, bins: FrozenBins, cursor: Cursor, panes: Iterable[Pane], grace_ms: int) -> "PartitionPanes":
        """Go on where another left off. panes: the newest of each minute; those of another layout are left out."""
        found = cls(bins, cursor.partition, grace_ms)
        found.cursor = cursor
        # A crash may fall between the panes' publication and the cursor's: then panes know more than the cursor.
        found._panes = {p.start_ms: p for p in panes if p.partition == cursor.partition and p.layout == bins.digest}
        return found

    def observe(self, codes: Codes, event_times_ms: Ints, offsets: Ints) -> None:
        """Count rows in offset order. codes: shape (n_rows, n_features); the others (n_rows,). Repeats are passed over."""
        fresh = offsets > self.cursor.last_offset
        if not fresh.any():
            return
        codes, times, offsets = codes[fresh], event_times_ms[fresh], offsets[fresh]
        seen = np.maximum.accumulate(np.append(self.cursor.watermark_ms, times))
        starts = times // MINUTE_MS * MINUTE_MS
        late = starts + MINUTE_MS + self._grace_ms <= seen[:-1]
        self.cursor = replace(
            self.cursor,
            last_offset=int(offsets[-1]),
            watermark_ms=int(seen[-1]),
            late=self.cursor.late + int(late.sum()),
        )
        counted = np.array([p.last_offset for p in self._panes.values()], dtype=np.int64)
        if counted.size and counted.max() >= offsets[0]:
            late |= self._already(starts, offsets)
        minutes, groups = np.unique(starts[~late], return_inverse=True)
        if not len(minutes):
            return
        offsets = offsets[~late]
        histograms = self._bins.count(codes[~late], groups, len(minutes))
        rows = np.bincount(groups)
        for i, start in enumerate(minutes.tolist()):
            mine = offsets[groups == i]
            self._add(start, histograms[i], int(rows[i]), int(mine[0]), int(mine[-1]))

    def snapshot(self) -> tuple[list[Pane], Cursor]:
        """What changed since the last one, to be published in this order; closed panes are then forgotten."""
        changed = [self._panes[start] for start in sorted(self._changed)]
        self._changed.clear()
        closed = self.cursor.watermark_ms - self._grace_ms
        self._panes = {start: p for start, p in self._panes.items() if start + MINUTE_MS > closed}
        return changed, self.cursor

    def _already(self, starts: Ints, offsets: Ints) -> npt.NDArray[np.bool_]:
        last = [p.last_offset if (p := self._panes.get(s)) else NEVER for s in starts.tolist()]
        return offsets <= np.array(last)

    def _add(self, start: int, counts: Ints, rows: int, first: int, last: int) -> None:
        old = self._panes.get(start)
        if old is not None:
            counts, rows, first = old.counts + counts, old.rows + rows, old.first_offset
        self._panes[start] = Pane(
            start_ms=start,
            partition=self.cursor.partition,
            counts=counts,
            rows=rows,
            first_offset=first,
            last_offset=last,
            layout=self._bins.digest,
        )
        self._changed.add(start)


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
        """idle_ms: a partition whose watermark trails the furthest by more is not waited for."""
        self._bins = bins
        self._grace_ms, self._idle_ms = grace_ms, idle_ms
        self._cursors = {p: Cursor(partition=p) for p in partitions}
        self._waiting: dict[int, dict[int, Pane]] = {}
        self._merged: dict[tuple[int, int], Pane | int] = {}  # of closed minutes: the pane, later only its last offset
        self._closed_ms = NEVER  # minutes that begin before this are closed
        width = bins.n_codes + HOURS_OF_WEEK
        self._rings = {
            w.cell_ms: _Ring(w.cell_ms, max(v.cells for v in WINDOWS if v.cell_ms == w.cell_ms), width) for w in WINDOWS
        }
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

    def advance(self, cursor: Cursor) -> list[ClosedMinute]:
        """Hear how far a partition is; the minutes that this closes, oldest first, each with at least one row."""
        if cursor.last_offset >= self._cursors[cursor.partition].last_offset:
            self._cursors[cursor.partition] = cursor
        marks = [c.watermark_ms for c in self._cursors.values()]
        awaited = min(m for m in marks if m >= max(marks) - self._idle_ms)
        until = (awaited - self._grace_ms) // MINUTE_MS * MINUTE_MS
        if until <= self._closed_ms:
            return []
        closed = []
        for start in sorted(s for s in self._waiting if s < until):
            panes = self._waiting.pop(start)
            self._merged.update({(start, p): pane for p, pane in panes.items()})
            counts = np.sum([panes[p].counts for p in sorted(panes)], axis=0)
            rows = sum(p.rows for p in panes.values())
            self._slide_in(start, counts, rows)
            closed.append(ClosedMinute(start_ms=start, counts=counts, rows=rows))
        self._closed_ms = until
        for total in self._sums:
            total.slide(until - MINUTE_MS)
        self._forget()
        return closed

    def windows(self) -> tuple[Ints, Ints]:
        """Counts by code of each of `WINDOWS`, shape (n_windows, n_codes), and rows by hour of week, (n_windows, 168)."""
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
        """Keep panes an hour, for snapshots that grow after their minute closed, and offsets as long as windows reach."""
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
