"""Buffer of panes whose minute is not closed yet; reports its memory use."""

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.counting.panes import Pane
from scoring.arrays import Ints

PANE_BYTES = 400  # approximate size of a pane without counts


@dataclass(frozen=True, eq=False, kw_only=True)
class _Held:
    codes: npt.NDArray[np.int32]
    counts: Ints
    pane: Pane  # without counts

    @property
    def bytes(self) -> int:
        return self.codes.nbytes + self.counts.nbytes + PANE_BYTES


class PaneBuffer:
    """Panes by minute and partition; a snapshot that covers more of a minute replaces the earlier one."""

    def __init__(self, n_codes: int) -> None:
        self._n_codes = n_codes
        self._held: dict[int, dict[int, _Held]] = {}
        self._starts: list[int] = []  # a heap of the keys above
        self.bytes = 0

    def add(self, pane: Pane) -> None:
        """Add a snapshot, unless the buffer has one that covers as much."""
        panes = self._held.get(pane.start_ms)
        if panes is None:
            panes = self._held[pane.start_ms] = {}
            heapq.heappush(self._starts, pane.start_ms)
        old = panes.get(pane.partition)
        if old is not None and old.pane.last_offset >= pane.last_offset:
            return
        codes = np.flatnonzero(pane.counts).astype(np.int32)
        held = _Held(codes=codes, counts=pane.counts[codes], pane=_with_counts(pane, np.empty(0, dtype=np.int64)))
        self.bytes += held.bytes - (old.bytes if old is not None else 0)
        panes[pane.partition] = held

    @property
    def first_ms(self) -> int | None:
        """Start of the earliest minute; None if empty."""
        while self._starts and self._starts[0] not in self._held:
            heapq.heappop(self._starts)
        return self._starts[0] if self._starts else None

    @property
    def last_ms(self) -> int | None:
        """Start of the latest minute; None if empty."""
        return max(self._held, default=None)

    def pop(self, start_ms: int) -> dict[int, Pane]:
        """Remove a minute and return its panes by partition."""
        panes = self._held.pop(start_ms)
        self.bytes -= sum(h.bytes for h in panes.values())
        return {p: self._restored(h) for p, h in panes.items()}

    def _restored(self, held: _Held) -> Pane:
        counts = np.zeros(self._n_codes, dtype=np.int64)
        counts[held.codes] = held.counts
        return _with_counts(held.pane, counts)


def _with_counts(pane: Pane, counts: Ints) -> Pane:
    return Pane(
        start_ms=pane.start_ms,
        partition=pane.partition,
        counts=counts,
        rows=pane.rows,
        first_offset=pane.first_offset,
        last_offset=pane.last_offset,
        layout=pane.layout,
    )
