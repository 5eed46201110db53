"""Counting in the worker: one fold per input partition, by minutes of event time.

What is published are whole panes with the offsets they cover, never increments: whoever reads them overwrites by
(minute, partition), and a replay cannot count twice. Closed minutes go out once; those still open travel with the
cursor, in one record, so that a crash finds them together or not at all. Late is what comes after its minute closed in
its own partition; it is counted as late and nowhere else. A row far ahead of the watermark
(`monitoring.counting.watermark`) is held: counted into its minute, which is published only when the watermark comes
there. As a partition has one order, all of this comes out the same after any restart or rebalance.

No clock: time is the events' own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from monitoring.counting.bins import FrozenBins
from monitoring.counting.watermark import NEVER, Advance, Watermark, advance, of_old_cursor
from schemas.time_units import MINUTE_MS
from scoring.arrays import Flags, Indices, Ints

__all__ = ["NEVER", "Cursor", "Pane", "PartitionCounts", "PartitionPanes"]

MAX_HELD_MINUTES = 16  # ahead of the watermark; beyond them the furthest is dropped, and its rows counted as dropped


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
    watermark_ms: int = NEVER
    late: int = 0  # rows that came after their minute had closed
    dropped: int = 0  # rows that were held ahead of the watermark, and had to give way
    state: Watermark = field(default_factory=Watermark)  # of which `watermark_ms` is the time

    @property
    def resets(self) -> int:
        """How often the watermark fell back."""
        return self.state.resets


@dataclass(frozen=True, eq=False, kw_only=True)
class PartitionCounts:
    """One partition's counting at an instant, to be published whole: closed minutes first, then the cursor.

    Open and held panes are, with the cursor, all that another worker needs to go on.
    """

    closed: tuple[Pane, ...]  # since the last one; they grow no more
    open: tuple[Pane, ...]  # they may still grow
    held: tuple[Pane, ...]  # ahead of the watermark, or in gaps that it jumped over: published only with the cursor
    cursor: Cursor


class PartitionPanes:
    """One worker's fold over one input partition.

    To lose and double nothing across crashes and rebalances, publish (`snapshot`) before committing offsets, and take
    over with the partition's last published cursor and its open and held panes (`restore`), consuming from the
    committed offset.
    """

    def __init__(self, bins: FrozenBins, partition: int, grace_ms: int) -> None:
        self._bins = bins
        self._grace_ms = grace_ms
        self.cursor = Cursor(partition=partition)
        self._panes: dict[int, Pane] = {}
        self._closed: list[Pane] = []  # not published yet

    @classmethod
    def restore(cls, bins: FrozenBins, cursor: Cursor, panes: Iterable[Pane], grace_ms: int) -> "PartitionPanes":
        """Go on where another left off.

        panes: those open or held at the cursor; panes of another layout are left out. A cursor that has a watermark and
        no state of it was written before there was one.
        """
        if cursor.state.time_ms != cursor.watermark_ms:
            cursor = replace(cursor, state=of_old_cursor(cursor.watermark_ms, grace_ms))
        found = cls(bins, cursor.partition, grace_ms)
        found.cursor = cursor
        found._panes = {p.start_ms: p for p in panes if p.layout == bins.digest}
        return found

    def observe(self, codes: Indices, event_times_ms: Ints, offsets: Ints) -> None:
        """Count rows in offset order; repeats are passed over.

        codes: shape (n_rows, n_features); event_times_ms, offsets: shape (n_rows,). A row without an event time (NEVER)
        is counted at the watermark; before there is one, it is not counted.
        """
        fresh = offsets > self.cursor.last_offset
        codes, times, offsets = codes[fresh], event_times_ms[fresh], offsets[fresh]
        while len(offsets):
            step, resets = advance(self.cursor.state, times, self._grace_ms), self.cursor.resets
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
                self.cursor = replace(self.cursor, state=step.state.bounded())
            codes, times, offsets = codes[step.n :], times[step.n :], offsets[step.n :]

    def snapshot(self) -> PartitionCounts:
        """Everything as it is; what has closed is then forgotten."""
        self._close()
        closed, self._closed = self._closed, []
        state = self.cursor.state
        panes = [self._panes[start] for start in sorted(self._panes)]
        open_ = tuple(p for p in panes if state.since_ms <= p.start_ms <= state.time_ms)
        held = tuple(p for p in panes if not state.since_ms <= p.start_ms <= state.time_ms)
        return PartitionCounts(closed=tuple(closed), open=open_, held=held, cursor=self.cursor)

    def _close(self) -> None:
        state, grace_ms = self.cursor.state, self._grace_ms
        closed = [start for start in sorted(self._panes) if state.is_closed(start, grace_ms)]
        self._closed += [self._panes.pop(start) for start in closed]

    def _kept(self, step: Advance) -> Flags:
        """Which rows are counted: those neither late nor without any time, nor dropped for being too many ahead."""
        kept: Flags = ~step.late & (step.times_ms != NEVER)
        starts = step.times_ms // MINUTE_MS * MINUTE_MS
        ahead = np.flatnonzero(kept & (starts >= step.ahead_from_ms))
        state, grace_ms = self.cursor.state, self._grace_ms
        known = {s for s in self._panes if s >= state.ahead_from_ms(grace_ms) and not state.is_closed(s, grace_ms)}
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
            # After the input was cut short offsets begin lower again: the last one must not fall.
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
