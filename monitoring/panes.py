"""Counting in the worker: one fold per input partition, by minutes of event time.

What is published are whole panes with the offsets they cover, never increments: whoever reads them overwrites by
(minute, partition), and a replay cannot count twice. Late is what comes after its minute closed in its own partition;
it is counted as late and nowhere else. As a partition has one order, all of this comes out the same after any restart
or rebalance.

No clock: time is the events' own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

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


class PartitionPanes:
    """One worker's fold over one input partition.

    To lose and double nothing across crashes and rebalances, publish (`snapshot`) before committing offsets, and take
    over with the newest snapshots of the partition (`restore`), consuming from the committed offset.
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
        """Count rows in offset order; repeats are passed over.

        codes: shape (n_rows, n_features); event_times_ms, offsets: shape (n_rows,).
        """
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
