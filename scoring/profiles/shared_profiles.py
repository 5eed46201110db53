"""What is shared over partitions. Interim: nothing yet."""

from collections.abc import Sequence

import numpy as np

from scoring.arrays import Flags, Matrix
from scoring.profiles.label_store import LabelInputs
from scoring.profiles.open_tiles import ClosedTiles
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan


class SharedProfiles:
    """Interim."""

    def __init__(self, plan: ProfilePlan) -> None:
        if any(p.kind != "key" for p in plan.profiles):
            raise NotImplementedError

    def add_tiles(self, partition: int, tiles: ClosedTiles) -> None:
        """Interim."""

    def add_labels(self, labels: LabelInputs) -> None:
        """Interim."""

    def values(self, inputs: ProfileInputs, partitions: Sequence[int]) -> tuple[Matrix, Flags]:
        """Interim."""
        return np.empty((len(inputs.ids), 0), np.float32), np.ones(len(inputs.ids), np.bool_)
