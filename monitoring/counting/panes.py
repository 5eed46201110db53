"""Counting in the worker: one fold per input partition, by minutes of event time.

Workers publish whole panes with the offsets they cover, not increments: a reader replaces them by (minute, partition),
so a replay does not count twice. A closed minute is published once. Open minutes are published in the same record as
the cursor, so that a crash cannot separate them. A row is late if its minute is closed in its own partition; it is
counted as late only. A row far ahead of the watermark (`monitoring.counting.watermark`) is held: its minute is
published when the watermark gets there. A partition has one order, so the result is the same after any restart or
rebalance.

Uses event time, no clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from monitoring.counting.bins import FrozenBins
from monitoring.counting.watermark import NO_TIME_MS, Advance, Watermark, advance, from_old_cursor
from schemas.time_units import MINUTE_MS
from scoring.arrays import Flags, Indices, Ints

__all__ = ["NO_TIME_MS", "Cursor", "Pane", "PartitionCounts", "PartitionPanes"]

NO_OFFSET = -1  # nothing is counted yet
MAX_HELD_MINUTES = 16  # ahead of the watermark; with more, the furthest is dropped and its rows are counted as dropped


@dataclass(frozen=True, eq=False, kw_only=True)
class Pane:
    """Counts of one minute of one input partition; a later pane of the same minute and partition replaces it."""

    start_ms: int
    partition: int
    counts: Ints  # shape (n_codes,)
    rows: int
    first_offset: int  # of the first row
    last_offset: int  # the pane includes all rows of the minute up to this offset
    layout: str  # `FrozenBins.digest` of the codes


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """Counting progress of a partition; published after its panes and before its offsets are committed."""

    partition: int
    last_offset: int = NO_OFFSET
    watermark_ms: int = NO_TIME_MS
    late: int = 0  # rows that arrived after their minute had closed
    dropped: int = 0  # rows of held minutes that were discarded
    state: Watermark = field(default_factory=Watermark)  # `watermark_ms` is its time

    @property
    def resets(self) -> int:
        """Number of times the watermark was set back."""
        return self.state.resets


@dataclass(frozen=True, eq=False, kw_only=True)
class PartitionCounts:
    """Counts of one partition at one instant, to be published together: closed minutes first, then the cursor.

    With the cursor and its open and held panes, another worker can continue.
    """

    closed: tuple[Pane, ...]  # closed since the last snapshot; final
    open: tuple[Pane, ...]  # may still grow
    held: tuple[Pane, ...]  # ahead of the watermark, or in gaps that it jumped over; published only with the cursor
    cursor: Cursor


class PartitionPanes:
    """Counts one input partition: a fold in the worker.

    To count each row exactly once across crashes and rebalances, publish (`snapshot`) before committing offsets. After
    a rebalance, `restore` the partition's last published cursor with its open and held panes, and consume from the
    committed offset.
    """

    def __init__(self, bins: FrozenBins, partition: int, lateness_ms: int) -> None:
        self._bins = bins
        self._lateness_ms = lateness_ms
        self.cursor = Cursor(partition=partition)
        self._panes: dict[int, Pane] = {}
        self._closed: list[Pane] = []  # not published yet

    @classmethod
    def restore(cls, bins: FrozenBins, cursor: Cursor, panes: Iterable[Pane], lateness_ms: int) -> "PartitionPanes":
        """Continue from a published cursor.

        panes: open and held ones of the cursor; panes of another layout are ignored. Cursors of earlier versions have
        a watermark without state.
        """
        if cursor.state.time_ms != cursor.watermark_ms:
            cursor = replace(cursor, state=from_old_cursor(cursor.watermark_ms, lateness_ms))
        found = cls(bins, cursor.partition, lateness_ms)
        found.cursor = cursor
        found._panes = {p.start_ms: p for p in panes if p.layout == bins.digest}
        return found

    def update(self, codes: Indices, event_times_ms: Ints, offsets: Ints) -> None:
        """Count rows in offset order; rows that are counted already are ignored.

        codes: shape (n_rows, n_features); event_times_ms, offsets: shape (n_rows,). A row without event time
        (NO_TIME_MS) is counted at the watermark; it is not counted if there is no watermark yet.
        """
        fresh = offsets > self.cursor.last_offset
        codes, times, offsets = codes[fresh], event_times_ms[fresh], offsets[fresh]
        while len(offsets):
            step, resets = advance(self.cursor.state, times, self._lateness_ms), self.cursor.resets
            kept = self._kept(step)
            self._count(codes[: step.n][kept], step.times_ms[kept], offsets[: step.n][kept])
            self.cursor = replace(
                self.cursor,
                last_offset=int(offsets[step.n - 1]),
                watermark_ms=step.state.time_ms,
                late=self.cursor.late + int(step.late.sum()),
                state=step.state,
            )
            if self.cursor.resets > resets:
                self._close()
                self.cursor = replace(self.cursor, state=step.state.limit_ranges())
            codes, times, offsets = codes[step.n :], times[step.n :], offsets[step.n :]

    def snapshot(self) -> PartitionCounts:
        """Current counts, to be published; closed panes are then discarded."""
        self._close()
        closed, self._closed = self._closed, []
        state = self.cursor.state
        panes = [self._panes[start] for start in sorted(self._panes)]
        open_ = tuple(p for p in panes if state.since_ms <= p.start_ms <= state.time_ms)
        held = tuple(p for p in panes if not state.since_ms <= p.start_ms <= state.time_ms)
        return PartitionCounts(closed=tuple(closed), open=open_, held=held, cursor=self.cursor)

    def _close(self) -> None:
        state, lateness_ms = self.cursor.state, self._lateness_ms
        closed = [start for start in sorted(self._panes) if state.is_closed(start, lateness_ms)]
        self._closed += [self._panes.pop(start) for start in closed]

    def _kept(self, step: Advance) -> Flags:
        """Mask of rows to count: not late, with a time, and not in a minute that exceeds `MAX_HELD_MINUTES`."""
        kept: Flags = ~step.late & (step.times_ms != NO_TIME_MS)
        starts = step.times_ms // MINUTE_MS * MINUTE_MS
        ahead = np.flatnonzero(kept & (starts >= step.ahead_from_ms))
        state, lateness_ms = self.cursor.state, self._lateness_ms
        known = {
            s for s in self._panes if s >= state.ahead_from_ms(lateness_ms) and not state.is_closed(s, lateness_ms)
        }
        if len(known | set(starts[ahead].tolist())) <= MAX_HELD_MINUTES:
            return kept
        held: dict[int, list[int]] = {start: [] for start in known}  # rows of this batch, by minute
        for i in ahead.tolist():
            held = {start: rows for start, rows in held.items() if start >= step.ahead_from_ms[i]}
            held.setdefault(int(starts[i]), []).append(i)
            if len(held) > MAX_HELD_MINUTES:
                furthest = max(held)
                rows = held.pop(furthest)
                kept[rows] = False
                pane = self._panes.pop(furthest, None)
                dropped = len(rows) + (pane.rows if pane is not None else 0)
                self.cursor = replace(self.cursor, dropped=self.cursor.dropped + dropped)
        return kept

    def _count(self, codes: Indices, times_ms: Ints, offsets: Ints) -> None:
        minutes, groups = np.unique(times_ms // MINUTE_MS * MINUTE_MS, return_inverse=True)
        if not len(minutes):
            return
        histograms = self._bins.count(codes, groups, len(minutes))
        rows = np.bincount(groups)
        for i, start in enumerate(minutes.tolist()):
            mine = offsets[groups == i]
            self._add(start, histograms[i], int(rows[i]), int(mine[0]), int(mine[-1]))

    def _add(self, start: int, counts: Ints, rows: int, first: int, last: int) -> None:
        old = self._panes.get(start)
        if old is not None:
            # After a truncation of the input, offsets start lower again; `last_offset` must not decrease.
            counts, rows, first, last = (
                old.counts + counts,
                old.rows + rows,
                old.first_offset,
                max(old.last_offset, last),
            )
        self._panes[start] = Pane(
            start_ms=start,
            partition=self.cursor.partition,
            counts=counts,
            rows=rows,
            first_offset=first,
            last_offset=last,
            layout=self._bins.digest,
        )
