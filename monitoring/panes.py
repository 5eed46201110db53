"""Counting in the worker: one fold per input partition, by minutes of event time.

What is published are whole panes with the offsets they cover, never increments: whoever reads them overwrites by
(minute, partition), and a replay cannot count twice. Closed minutes go out once; those still open travel with the
cursor, in one record, so that a crash finds them together or not at all. Late is what comes after its minute closed in
its own partition; it is counted as late and nowhere else. As a partition has one order, all of this comes out the same
after any restart or rebalance.

No clock: time is the events' own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from monitoring.bins import Codes, FrozenBins, Ints

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


@dataclass(frozen=True, eq=False, kw_only=True)
class Counted:
    """One partition's counting at an instant, to be published whole: closed minutes first, then the cursor."""

    closed: tuple[Pane, ...]  # since the last one; they grow no more
    open: tuple[Pane, ...]  # with the cursor, all that another worker needs to go on
    cursor: Cursor


class PartitionPanes:
    """One worker's fold over one input partition.

    To lose and double nothing across crashes and rebalances, publish (`snapshot`) before committing offsets, and take
    over with the partition's last published cursor and open panes (`restore`), consuming from the committed offset.
    """

    def __init__(self, bins: FrozenBins, partition: int, grace_ms: int) -> None:
        self._bins = bins
        self._grace_ms = grace_ms
        self.cursor = Cursor(partition=partition)
        self._panes: dict[int, Pane] = {}

    @classmethod
    def restore(cls, bins: FrozenBins, cursor: Cursor, panes: Iterable[Pane], grace_ms: int) -> "PartitionPanes":
        """Go on where another left off. panes: those open at the cursor; panes of another layout are left out."""
        found = cls(bins, cursor.partition, grace_ms)
        found.cursor = cursor
        found._panes = {p.start_ms: p for p in panes if p.layout == bins.digest}
        return found

    def observe(self, codes: Codes, event_times_ms: Ints, offsets: Ints) -> None:
        """Count rows in offset order; repeats are passed over.

        codes: shape (n_rows, n_features); event_times_ms, offsets: shape (n_rows,). A row without an event time (NEVER)
        is counted at the watermark; before there is one, it is not counted.
        """
        fresh = offsets > self.cursor.last_offset
        if not fresh.any():
            return
        codes, times, offsets = codes[fresh], event_times_ms[fresh], offsets[fresh]
        marks = np.maximum.accumulate(np.append(self.cursor.watermark_ms, times))
        times = np.where(times == NEVER, marks[:-1], times)
        starts = times // MINUTE_MS * MINUTE_MS
        late = starts + MINUTE_MS + self._grace_ms <= marks[:-1]
        self.cursor = replace(
            self.cursor,
            last_offset=int(offsets[-1]),
            watermark_ms=int(marks[-1]),
            late=self.cursor.late + int(late.sum()),
        )
        kept = ~late & (times != NEVER)
        minutes, groups = np.unique(starts[kept], return_inverse=True)
        if not len(minutes):
            return
        offsets = offsets[kept]
        histograms = self._bins.count(codes[kept], groups, len(minutes))
        rows = np.bincount(groups)
        for i, start in enumerate(minutes.tolist()):
            mine = offsets[groups == i]
            self._add(start, histograms[i], int(rows[i]), int(mine[0]), int(mine[-1]))

    def snapshot(self) -> Counted:
        """Everything as it stands; what has closed is then forgotten."""
        until = self.cursor.watermark_ms - self._grace_ms
        panes = [self._panes[start] for start in sorted(self._panes)]
        closed = tuple(p for p in panes if p.start_ms + MINUTE_MS <= until)
        open_ = tuple(p for p in panes if p.start_ms + MINUTE_MS > until)
        self._panes = {p.start_ms: p for p in open_}
        return Counted(closed=closed, open=open_, cursor=self.cursor)

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
