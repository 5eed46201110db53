"""Values of profile features for training: from the feature log, else from a replay of the topic. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from scoring.arrays import Ints, Matrix
from scoring.profiles.feature_log import FeatureLog

if TYPE_CHECKING:  # Numba is loaded only where a data set declares profiles
    from scoring.profiles.replay import Progress, Transactions
    from scoring.profiles.shared.label_store import LabelInputs


class ProfileSources(msgspec.Struct, frozen=True, kw_only=True):
    """Where the profile features of the rows of a topic come from."""

    logged: int  # rows with the values that the worker used
    replayed: int  # rows without a record of the declared profiles: computed again from the topic
    incomplete: int  # rows of either kind whose values lack a part: of a lagging partition, or of an expired past

    @property
    def summary(self) -> str:
        """One line for people.

        >>> ProfileSources(logged=1200, replayed=30, incomplete=4).summary
        '1,200 rows from the feature log, 30 replayed; 4 of them incomplete'
        """
        return (
            f"{self.logged:,} rows from the feature log, {self.replayed:,} replayed; {self.incomplete:,} of them "
            "incomplete"
        )


def profile_values(
    log: FeatureLog,
    transactions: "Transactions",
    labels: "LabelInputs | None",
    *,
    partitions: Ints,
    offsets: Ints,
    ids: Sequence[str],
    event_time_ms: Ints,
    progress: "Progress" = lambda done, of: None,
) -> tuple[Matrix, ProfileSources]:
    """The profile features of some rows of a topic, shape (n, n_features).

    transactions: all of the topic. labels: as for `scoring.profiles.replay.replay_profiles`. The other arguments have
    one element per row.
    """
    from scoring.profiles.replay import replay_profiles

    found = log.find(partitions, offsets, ids, event_time_ms)
    missing = np.flatnonzero(~found.found)
    values, complete = found.matrix, found.complete
    if len(missing):
        replayed = replay_profiles(transactions, labels, progress)
        rows = replayed.find(partitions[missing], offsets[missing])
        values[missing], complete[missing] = replayed.values[rows], replayed.complete[rows]
    return values, ProfileSources(
        logged=len(offsets) - len(missing), replayed=len(missing), incomplete=int(np.count_nonzero(~complete))
    )
