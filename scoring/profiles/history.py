"""Profiles of a file: the reducer of the worker, over rows in event-time order."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset
from scoring.arrays import Flags, Floats, Indices, Ints, Matrix
from scoring.input.cleaning import CleanedBatch
from scoring.profiles.label_store import LabelInputs
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_inputs import ProfileInputs, profile_inputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared_profiles import SharedProfiles

ROWS_AT_ONCE = 20_000


class HistoryLabels(NamedTuple):
    """Labels of the accepted rows of a file, as they were reported; a row may have none, or several."""

    rows: Indices  # position of the labelled row among the accepted rows
    fraud: Flags
    reported_at_ms: Ints


class HistoryFold:
    """Profiles over rows that come in event-time order, such as a history and then a file to be scored."""

    def __init__(self, dataset: Dataset) -> None:
        self.plan = ProfilePlan.of(dataset)
        self._partition, self._shared = PartitionProfiles(self.plan), SharedProfiles(self.plan)
        self._own, self._other = self.plan.columns_of("key"), self.plan.columns_of("tiles", "labels")
        self._label_delay_ms = min((p.label_delay_ms for p in self.plan.profiles if p.kind == "labels"), default=0)

    def update(
        self,
        cleaned: CleanedBatch,
        labels: HistoryLabels | None = None,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> dict[str, Floats]:
        """Fold rows, and return their profile columns, each of shape (m,), in the rows' own order.

        Rows are folded in order of event time, ties in order of the rows. labels: None for the labels of the rows, each
        reported when the label delay is over. progress: rows done, and of how many.
        """
        inputs = profile_inputs(self.plan, cleaned)
        order = np.argsort(cleaned.event_time_ms, kind="stable")
        pending = self._label_inputs(inputs, cleaned, labels)
        values = np.empty((len(order), len(self.plan.features)), np.float32)
        for begin in range(0, len(order), ROWS_AT_ONCE):
            rows = order[begin : begin + ROWS_AT_ONCE]
            pending = self._add_labels(pending, int(cleaned.event_time_ms[rows[-1]]))
            self._fold(inputs.at(rows), rows, values)
            progress(begin + len(rows), len(order))
        self._add_labels(pending, 2**62)
        return {name: values[:, j].astype(np.float64) for j, name in enumerate(self.plan.names)}

    def _fold(self, inputs: ProfileInputs, rows: Indices, values: Matrix) -> None:
        update = self._partition.update(inputs, self._partition.next_offset + len(rows))
        values[np.ix_(rows, self._own)] = update.values
        for tiles in update.closed:
            self._shared.add_tiles(0, tiles)
        if len(self._other):
            values[np.ix_(rows, self._other)], _ = self._shared.values(inputs, (0,))

    def _add_labels(self, pending: LabelInputs, until_ms: int) -> LabelInputs:
        """Add the labels that are reported until a time; returns the others."""
        # Labels are sorted by the time of their report.
        end = int(np.searchsorted(pending.reported_at_ms, until_ms, side="right"))
        if end:
            self._shared.add_labels(pending.at(slice(0, end)))
        return pending.at(slice(end, None))

    def _label_inputs(self, inputs: ProfileInputs, cleaned: CleanedBatch, labels: HistoryLabels | None) -> LabelInputs:
        if labels is None:
            known = np.full(len(cleaned.rows), np.nan) if cleaned.labels is None else cleaned.labels
            rows = np.flatnonzero(~np.isnan(known))
            labels = HistoryLabels(rows, known[rows] == 1, cleaned.event_time_ms[rows] + self._label_delay_ms)
        order = np.argsort(labels.reported_at_ms, kind="stable")
        rows = labels.rows[order]
        ids = inputs.ids[rows]
        # Without ids of their own, rows are told apart by their position.
        ids = np.where(ids == 0, rows.astype(np.uint64) + np.uint64(1), ids)
        return LabelInputs(
            entities={name: hashes[rows] for name, hashes in inputs.entities.items()},
            event_time_ms=cleaned.event_time_ms[rows],
            reported_at_ms=labels.reported_at_ms[order],
            fraud=labels.fraud[order],
            ids=ids,
        )


def fold_history(
    dataset: Dataset,
    cleaned: CleanedBatch,
    labels: HistoryLabels | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Floats]:
    """Profile columns of the accepted rows of a file; see `HistoryFold.update`. Empty without profiles."""
    return HistoryFold(dataset).update(cleaned, labels, progress) if dataset.profiles else {}
