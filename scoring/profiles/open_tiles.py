"""Open tiles of one input partition. Interim: no tiles yet."""

from typing import NamedTuple

from scoring.arrays import Array, Flags, Hashes, Ints
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan


class ClosedTiles(NamedTuple):
    """Closed tiles of one `tiles` profile of one partition."""

    profile: int
    until_ms: int
    entities: Hashes
    times_ms: Ints


class OpenTiles:
    """Interim."""

    late = 0
    n_bytes = 0

    def __init__(self, plan: ProfilePlan) -> None:
        if any(p.kind == "tiles" for p in plan.profiles):
            raise NotImplementedError

    def update(self, inputs: ProfileInputs, accepted: Flags) -> list[ClosedTiles]:
        """Interim."""
        return []

    def to_arrays(self) -> dict[str, Array]:
        """Interim."""
        return {}

    @classmethod
    def from_arrays(cls, plan: ProfilePlan, arrays: dict[str, Array]) -> "OpenTiles":
        """Interim."""
        return cls(plan)
