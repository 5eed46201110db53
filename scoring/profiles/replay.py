"""Replay: the profile features of all transactions of a topic, computed again by the reducer of the worker.

Each partition is folded in offset order. Then tiles and labels are read in order of event time, when every partition
has closed its tiles: what a worker sees while partitions keep pace.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from scoring.arrays import Flags, Indices, Ints, Matrix
from scoring.input.cleaning import CleanedBatch
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_inputs import ProfileInputs, join_inputs, profile_inputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.label_store import LabelInputs
from scoring.profiles.shared.open_tiles import ClosedTiles
from scoring.profiles.shared.shared_profiles import SharedProfiles
from scoring.profiles.windows import NO_TIME_MS

ROWS_AT_ONCE = 20_000
Progress = Callable[[int, int], None]  # rows done, and of how many


class ReplayedRows(NamedTuple):
    """The features of n transactions, sorted by partition and offset."""

    partitions: Ints  # shape (n,)
    offsets: Ints
    values: Matrix  # shape (n, n_features), in the plan's order; NaN where missing
    complete: Flags  # shape (n,): whether everything that the values are computed from is known

    def find(self, partitions: Ints, offsets: Ints) -> Indices:
        """Rows of transactions, all of which are among the replayed ones."""
        found = np.empty(len(offsets), np.intp)
        for partition in np.unique(partitions).tolist():
            own, wanted = np.flatnonzero(self.partitions == partition), np.flatnonzero(partitions == partition)
            found[wanted] = own[np.searchsorted(self.offsets[own], offsets[wanted])]
        return found


class Transactions:
    """Collects what the reducer reads of the transactions of a topic, in any interleaving of partitions."""

    def __init__(self, plan: ProfilePlan) -> None:
        self.plan = plan
        self._inputs: list[ProfileInputs] = []
        self._partitions: list[Ints] = []
        self._offsets: list[Ints] = []
        self._first_offsets: dict[int, int] = {}

    def update(self, cleaned: CleanedBatch, partitions: Sequence[int], offsets: Sequence[int]) -> None:
        """Add a batch. partitions, offsets: of all n records of the batch, accepted or not."""
        own, at = np.asarray(partitions, np.int64), np.asarray(offsets, np.int64)
        for partition, offset in zip(own.tolist(), at.tolist(), strict=True):
            self._first_offsets[partition] = min(offset, self._first_offsets.get(partition, offset))
        if len(cleaned.rows):
            self._inputs.append(profile_inputs(self.plan, cleaned))
            self._partitions.append(own[cleaned.rows])
            self._offsets.append(at[cleaned.rows])

    def sorted(self) -> tuple[ProfileInputs, Ints, Ints]:
        """Inputs, partitions and offsets of all accepted transactions, by partition and offset."""
        partitions, offsets = np.concatenate(self._partitions), np.concatenate(self._offsets)
        order = np.lexsort((offsets, partitions))
        return join_inputs(self._inputs).at(order), partitions[order], offsets[order]

    @property
    def truncated(self) -> frozenset[int]:
        """Partitions whose first records are not there any more."""
        return frozenset(p for p, offset in self._first_offsets.items() if offset > 0)

    def __len__(self) -> int:
        return sum(map(len, self._offsets))


def replay_profiles(
    transactions: Transactions, labels: LabelInputs | None = None, progress: Progress = lambda done, of: None
) -> ReplayedRows:
    """The profile features of all transactions.

    labels: in the order of their log; None for none. A transaction is complete if all partitions have closed
    the tiles that it needs, and the log goes back by the longest window.
    """
    plan = transactions.plan
    own, other = plan.columns_of("key"), plan.columns_of("tiles", "labels")
    if not len(transactions):
        nothing = np.empty(0, np.int64)
        return ReplayedRows(nothing, nothing, np.empty((0, len(plan.features)), np.float32), np.empty(0, np.bool_))
    inputs, partitions, offsets = transactions.sorted()
    n = len(offsets)
    values, complete = np.full((n, len(plan.features)), np.nan, np.float32), np.ones(n, np.bool_)
    steps = n if not len(other) else 2 * n
    closed: dict[tuple[int, int], deque[ClosedTiles]] = {}  # by partition and profile
    done = 0
    for partition in np.unique(partitions).tolist():
        fold = PartitionProfiles(plan)
        for rows in _chunks(np.flatnonzero(partitions == partition)):
            update = fold.update(inputs.at(rows), int(offsets[rows[-1]]) + 1)
            values[np.ix_(rows, own)] = update.values
            for tiles in update.closed:
                closed.setdefault((partition, tiles.profile), deque()).append(tiles)
            done += len(rows)
            progress(done * n // steps, n)
    if len(other):
        shared = SharedProfiles(plan)
        everywhere = np.unique(partitions).tolist()
        if labels is not None:
            shared.add_labels(labels)  # a label counts from its report on, whenever it is added
        for rows in _chunks(np.argsort(inputs.event_time_ms, kind="stable")):
            until_ms = int(inputs.event_time_ms[rows[-1]])
            for (partition, profile), waiting in closed.items():
                while waiting and shared.closed_until(profile, partition) < until_ms:
                    shared.add_tiles(partition, waiting.popleft())
            found, complete[rows] = shared.values(inputs.at(rows), everywhere)
            values[np.ix_(rows, other)] = found
            done += len(rows)
            progress(done * n // steps, n)
    complete &= inputs.event_time_ms >= _known_from_ms(plan, inputs.event_time_ms, partitions, transactions.truncated)
    return ReplayedRows(partitions, offsets, values, complete)


def _chunks(rows: Indices) -> Iterator[Indices]:
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[begin : begin + ROWS_AT_ONCE]


def _known_from_ms(plan: ProfilePlan, event_time_ms: Ints, partitions: Ints, truncated: frozenset[int]) -> int:
    """Event time from which every window lies in the log."""
    horizon_ms = max(p.horizon_ms + p.lag_ms + p.label_delay_ms for p in plan.profiles)
    firsts = [int(event_time_ms[partitions == p].min()) for p in truncated if (partitions == p).any()]
    return max(firsts) + horizon_ms if firsts else NO_TIME_MS
