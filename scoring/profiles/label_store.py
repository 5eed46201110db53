"""Labels by entity. Interim: inputs only."""

from typing import NamedTuple

from scoring.arrays import Flags, Hashes, Ints


class LabelInputs(NamedTuple):
    """One element per label."""

    entities: dict[str, Hashes]
    event_time_ms: Ints
    reported_at_ms: Ints
    fraud: Flags
    ids: Hashes

    def at(self, rows: slice) -> "LabelInputs":
        """The labels restricted to some rows."""
        return LabelInputs(
            {name: hashes[rows] for name, hashes in self.entities.items()},
            self.event_time_ms[rows],
            self.reported_at_ms[rows],
            self.fraud[rows],
            self.ids[rows],
        )
