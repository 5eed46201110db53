"""The profiles of one input partition: a fold over its accepted transactions in offset order."""

from typing import NamedTuple, Self

import numpy as np

from scoring.arrays import Array, Matrix
from scoring.profiles.keys import key_state
from scoring.profiles.keys.key_profiles import KeyProfiles
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.open_tiles import ClosedTiles, OpenTiles


class ProfileCounts(NamedTuple):
    """Size of a partition's state, and what happened to its transactions since the start of its log."""

    keys: int
    n_bytes: int
    late: int  # transactions too late to be remembered for their key
    late_for_tiles: int  # transactions whose tile was closed
    repeated: int  # transactions with the id of an earlier one of their key
    saturated: int  # numbers beyond +-2^32, limited in the sums of the key and of tiles
    merged: int  # transactions of busy keys that count by tile


class PartitionUpdate(NamedTuple):
    """What folding transactions gives."""

    values: Matrix  # shape (n, n_features of kind key)
    closed: list[ClosedTiles]


class PartitionProfiles:
    """State of one input partition: exact profiles of its keys, and open tiles of other entities."""

    def __init__(self, plan: ProfilePlan) -> None:
        self.next_offset = 0  # everything below is folded
        self._plan = plan
        self._keys = KeyProfiles(plan)
        self._tiles = OpenTiles(plan)

    @property
    def counts(self) -> ProfileCounts:
        """Size of the state, and counts since the start of the log."""
        totals = self._keys.totals
        return ProfileCounts(
            keys=int(totals[key_state.KEYS]),
            n_bytes=self._keys.n_bytes + self._tiles.n_bytes,
            late=int(totals[key_state.LATE]),
            late_for_tiles=self._tiles.late,
            repeated=int(totals[key_state.REPEATED]),
            saturated=int(totals[key_state.SATURATED]) + self._tiles.saturated,
            merged=int(totals[key_state.MERGED]),
        )

    def update(self, inputs: ProfileInputs, next_offset: int) -> PartitionUpdate:
        """Fold accepted transactions, in offset order. next_offset: after the last record, accepted or not."""
        key = self._plan.key
        keys = np.zeros(len(inputs.ids), np.uint64) if key is None else inputs.entities[key]
        values, is_new = self._keys.update(inputs, keys)
        closed = self._tiles.update(inputs, is_new)
        self.next_offset = next_offset
        return PartitionUpdate(values, closed)

    def begin_copy(self) -> "PartitionCopy":
        """Begin a copy; see `PartitionCopy`. There is one at a time."""
        return PartitionCopy(self)

    def to_arrays(self) -> dict[str, Array]:
        """The state as arrays, for a snapshot."""
        parts = {"keys": self._keys.to_arrays(), "tiles": self._tiles.to_arrays()}
        arrays = {f"{part}.{name}": array for part, found in parts.items() for name, array in found.items()}
        return {"next_offset": np.array([self.next_offset]), **arrays}

    @classmethod
    def from_arrays(cls, plan: ProfilePlan, arrays: dict[str, Array]) -> Self:
        """Restore the result of `to_arrays`. Raises ValueError if it does not fit the plan."""
        made = cls(plan)
        try:
            made.next_offset = int(arrays["next_offset"][0])
            made._keys = KeyProfiles.from_arrays(plan, _part(arrays, "keys"))
            made._tiles = OpenTiles.from_arrays(plan, _part(arrays, "tiles"))
        except (LookupError, TypeError, OverflowError) as error:
            raise ValueError(f"the arrays do not fit the plan: {error!r}") from None
        return made


class PartitionCopy:
    """A copy of the state, for `to_arrays` only, that is made while transactions are folded (`KeyCopy`)."""

    def __init__(self, source: PartitionProfiles) -> None:
        self._source = source
        self._keys = source._keys.begin_copy()

    def is_of(self, profiles: PartitionProfiles | None) -> bool:
        """Whether it copies this state."""
        return self._source is profiles

    def copy_events(self) -> None:
        """The long step, for another thread than the one that folds."""
        self._keys.copy_events()

    def finish(self) -> PartitionProfiles:
        """The short step, in the thread that folds. The result cannot be updated."""
        source = self._source
        made = PartitionProfiles(source._plan)
        made.next_offset = source.next_offset
        made._keys = self._keys.finish()
        made._tiles = OpenTiles.from_arrays(source._plan, source._tiles.to_arrays())
        return made


def _part(arrays: dict[str, Array], part: str) -> dict[str, Array]:
    return {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{part}.")}
