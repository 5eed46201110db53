"""The profiles that a worker holds: a fold for each of its partitions, and what is shared over all partitions.

A batch can be decided twice: record by record after an error, or again after a rebalance. Its transactions are folded
once; the values of batches that are not yet committed are kept, and a transaction that comes again gets the same.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset
from scoring.arrays import Flags, Indices, Ints, Matrix
from scoring.input.cleaning import CleanedBatch
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_inputs import profile_inputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.open_tiles import ClosedTiles
from scoring.profiles.shared.shared_profiles import SharedProfiles


class ProfileBatch(NamedTuple):
    """Profile features of the m accepted transactions of a batch."""

    values: Matrix  # shape (m, n_features), in the plan's order; NaN where missing
    complete: Flags  # shape (m,): whether every partition had closed the tiles that the values are computed from
    closed: dict[int, list[ClosedTiles]]  # by partition: to be published with the batch


class ProfileOrderError(Exception):
    """A transaction's offset is below what is folded, and its values are no longer kept."""


class _Values(NamedTuple):
    """Values of consecutive transactions of a partition that are not yet committed."""

    offsets: Ints
    values: Matrix
    complete: Flags
    last_offset: int  # of the batch's records, accepted or not
    closed: list[ClosedTiles]


class _Added(NamedTuple):
    rows: Indices  # of the batch, folded now
    last_offset: int
    closed: list[ClosedTiles]


class ProfileFold:
    """Profiles of the partitions of one worker."""

    def __init__(
        self, dataset: Dataset, partitions: Sequence[int], lock: AbstractContextManager[Any] | None = None
    ) -> None:
        """partitions: all partitions of the input topic. lock: of the shared profiles, if other threads add to them."""
        self.plan = ProfilePlan.of(dataset)
        self.shared = SharedProfiles(self.plan, lock)
        self._all = tuple(partitions)
        self._partitions: dict[int, PartitionProfiles] = {}
        self._uncommitted: dict[int, list[_Values]] = {}
        self._own, self._other = self.plan.columns_of("key"), self.plan.columns_of("tiles", "labels")

    @property
    def partitions(self) -> Mapping[int, PartitionProfiles]:
        """The folds, by partition."""
        return self._partitions

    def assign(self, partition: int, profiles: PartitionProfiles) -> None:
        """Take a partition, with its restored state."""
        self._partitions[partition], self._uncommitted[partition] = profiles, []

    def revoke(self, partition: int) -> PartitionProfiles | None:
        """Give a partition up; returns its state."""
        self._uncommitted.pop(partition, None)
        return self._partitions.pop(partition, None)

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Forget the values of transactions below the committed offsets, by partition."""
        for partition, offset in next_offsets.items():
            kept = self._uncommitted.get(partition, [])
            self._uncommitted[partition] = [v for v in kept if v.last_offset >= offset]

    def features(self, cleaned: CleanedBatch, partitions: Indices, offsets: Ints) -> ProfileBatch:
        """Fold a batch and return its features.

        partitions, offsets: shape (n,), of all records of the batch, accepted or not; each partition's in offset order.
        Raises ProfileOrderError if the state is ahead of a transaction; the partition must then be restored.
        """
        inputs = profile_inputs(self.plan, cleaned)
        own, at = partitions[cleaned.rows], offsets[cleaned.rows]
        values = np.full((len(at), len(self.plan.features)), np.nan, np.float32)
        complete = np.ones(len(at), np.bool_)
        closed: dict[int, list[ClosedTiles]] = {}
        added: dict[int, _Added] = {}
        for partition in np.unique(partitions).tolist():
            fold, rows = self._partitions[partition], np.flatnonzero(own == partition)
            mine = offsets[partitions == partition]
            closed[partition] = self._recall(partition, rows[at[rows] < fold.next_offset], at, values, complete, mine)
            if mine[-1] >= fold.next_offset:
                rows = rows[at[rows] >= fold.next_offset]
                update = fold.update(inputs.at(rows), int(mine[-1]) + 1)
                values[np.ix_(rows, self._own)] = update.values
                closed[partition] += update.closed
                added[partition] = _Added(rows, int(mine[-1]), update.closed)
                for tiles in update.closed:
                    self.shared.add_tiles(partition, tiles)
        # After all partitions: a transaction of one needs the tiles that the others close in this batch.
        rows = np.concatenate([np.empty(0, np.intp), *(part.rows for part in added.values())])
        if len(self._other) and len(rows):
            found, complete[rows] = self.shared.values(inputs.at(rows), self._all)
            values[np.ix_(rows, self._other)] = found
        for partition, (rows, last_offset, tiles_closed) in added.items():
            self._uncommitted[partition].append(
                _Values(at[rows], values[rows], complete[rows], last_offset, tiles_closed)
            )
        return ProfileBatch(values, complete, closed)

    def _recall(
        self, partition: int, rows: Indices, at: Ints, values: Matrix, complete: Flags, offsets: Ints
    ) -> list[ClosedTiles]:
        """Fill in the values of transactions that are already folded; returns the tiles that they closed.

        rows: of the transactions. at: offset of every row of the batch. offsets: of the partition's records.
        """
        kept = self._uncommitted[partition]
        if len(rows):
            known = np.concatenate([np.empty(0, np.int64), *(v.offsets for v in kept)])
            places = np.searchsorted(known, at[rows])
            if not len(known) or np.any(known[np.minimum(places, len(known) - 1)] != at[rows]):
                raise ProfileOrderError(
                    f"partition {partition}: profiles are folded up to offset {self._partitions[partition].next_offset}"
                    f", and the values of offset {int(at[rows][0])} are no longer kept"
                )
            values[rows] = np.concatenate([v.values for v in kept])[places]
            complete[rows] = np.concatenate([v.complete for v in kept])[places]
        return [tiles for v in kept if offsets[0] <= v.last_offset <= offsets[-1] for tiles in v.closed]
