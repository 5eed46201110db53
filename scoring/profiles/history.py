"""Profiles of a file: the reducer of the worker, over rows in event-time order."""

from collections.abc import Callable

import numpy as np

from scoring.arrays import Matrix
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_inputs import HistoryLabels, ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.label_store import LabelInputs
from scoring.profiles.shared.shared_profiles import SharedProfiles

ROWS_AT_ONCE = 20_000

FoldProgress = Callable[[int, int], None]  # rows done, and of how many


def fold_inputs(
    plan: ProfilePlan, inputs: ProfileInputs, labels: HistoryLabels, progress: FoldProgress = lambda done, of: None
) -> Matrix:
    """Values of the profile features, shape (n, n_features), in the order of the inputs.

    Rows are folded in order of event time, ties in order of the rows. progress: rows done, and of how many.
    """
    partition, shared = PartitionProfiles(plan), SharedProfiles(plan)
    own, other = plan.columns_of("key"), plan.columns_of("tiles", "labels")
    order = np.argsort(inputs.event_time_ms, kind="stable")
    pending = _label_inputs(inputs, labels)
    values = np.empty((len(order), len(plan.features)), np.float32)
    for begin in range(0, len(order), ROWS_AT_ONCE):
        rows = order[begin : begin + ROWS_AT_ONCE]
        batch = inputs.at(rows)
        update = partition.update(batch, begin + len(rows))
        values[np.ix_(rows, own)] = update.values
        for tiles in update.closed:
            shared.add_tiles(0, tiles)
        reported = int(np.searchsorted(pending.reported_at_ms, batch.event_time_ms[-1], side="right"))
        if reported:
            shared.add_labels(pending.at(slice(0, reported)))
            pending = pending.at(slice(reported, None))
        if len(other):
            values[np.ix_(rows, other)], _ = shared.values(batch, (0,))
        progress(begin + len(rows), len(order))
    return values


def _label_inputs(inputs: ProfileInputs, labels: HistoryLabels) -> LabelInputs:
    """The labels in order of their report."""
    order = np.argsort(labels.reported_at_ms, kind="stable")
    rows = labels.rows[order]
    ids = inputs.ids[rows]
    # Rows without an id of their own differ by their position.
    ids = np.where(ids == 0, rows.astype(np.uint64) + np.uint64(1), ids)
    return LabelInputs(
        entities={name: hashes[rows] for name, hashes in inputs.entities.items()},
        event_time_ms=inputs.event_time_ms[rows],
        reported_at_ms=labels.reported_at_ms[order],
        fraud=labels.fraud[order],
        ids=ids,
    )
