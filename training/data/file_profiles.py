"""Profile columns of the rows of a file, after those of a history file: the worker's fold, in event-time order.

Only what the fold reads is held of every row, so a file of millions of rows is folded in memory; texts are not.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from scoring.arrays import Floats, Ints, Matrix
from scoring.input.cleaning import CleanedBatch
from scoring.profiles.feature_log import feature_columns
from scoring.profiles.profile_inputs import ProfileInputs, join_inputs, profile_inputs
from scoring.profiles.profile_plan import ProfilePlan
from training.data.chunk import clean_chunk, column_labels, known_labels
from training.data.file_reader import read_chunks
from training.data.label_file import LabelCounts, LabelFile, read_labels, reported_labels

FileProgress = Callable[[str, float], None]  # step, and the share of it that is done


class FileInputs(NamedTuple):
    """What the fold reads of a file's accepted rows."""

    inputs: ProfileInputs
    labels: Floats  # of the label column, NaN where unknown
    rows: Ints  # row numbers, ascending

    @classmethod
    def of_batch(cls, plan: ProfilePlan, cleaned: CleanedBatch) -> Self:
        """Of cleaned rows, with their labels if these were read."""
        return cls(profile_inputs(plan, cleaned), known_labels(cleaned), cleaned.rows)


class ProfileColumns(NamedTuple):
    """The profile values of a file's accepted rows."""

    names: tuple[str, ...]  # of the features; none for a data set without profiles
    rows: Ints  # shape (n,): row numbers, ascending
    values: Matrix  # shape (n, n_features)

    def add_to(self, cleaned: CleanedBatch) -> CleanedBatch:
        """Some rows of the file, with their profile columns."""
        if not self.names:
            return cleaned
        values = self.values[np.searchsorted(self.rows, cleaned.rows)]
        return cleaned._replace(columns={**cleaned.columns, **feature_columns(self.names, values)})


class ProfileFiles(NamedTuple):
    """Files from which profiles are computed, in addition to the file whose rows get the columns."""

    history: Path | None = None  # earlier transactions
    labels: Path | None = None  # late labels of transactions of both

    def columns_of_file(
        self, path: Path, dataset: Dataset, progress: FileProgress = lambda step, share: None
    ) -> tuple[ProfileColumns, LabelCounts | None]:
        """Profile columns of the rows of a file that are accepted without reading labels, and what became of `labels`.

        Raises TrainingError when a file cannot be read or is not the declared data set, or a file is given although the
        data set declares no profiles.
        """
        if not dataset.profiles:
            self._refuse_unused(dataset, history=self.history, labels=self.labels)
            return ProfileColumns((), np.empty(0, np.int64), np.empty((0, 0), np.float32)), None
        own = _read_inputs(path, dataset, lambda share: progress("reading for profiles", share))
        late = None if self.labels is None else read_labels(self.labels, dataset)
        return self._fold(own, dataset, late, progress)

    def columns_of_rows(
        self,
        cleaned: CleanedBatch,
        dataset: Dataset,
        late: LabelFile | None,
        progress: FileProgress = lambda step, share: None,
    ) -> CleanedBatch:
        """Rows that are in memory, with their profile columns. late: what was read of `labels`.

        Raises TrainingError as `columns_of_file` does; labels may be given for other reasons than profiles.
        """
        if not dataset.profiles:
            self._refuse_unused(dataset, history=self.history)
            return cleaned
        columns, _ = self._fold(FileInputs.of_batch(ProfilePlan.of(dataset), cleaned), dataset, late, progress)
        return columns.add_to(cleaned)

    @staticmethod
    def _refuse_unused(dataset: Dataset, **files: Path | None) -> None:
        for option, path in files.items():
            if path is not None:
                raise TrainingError(
                    f"--{option} {path}: the data set {dataset.name!r} declares no profiles, so this file is of no "
                    "use; leave it out, or declare [[profiles]]"
                )

    def _fold(
        self, own: FileInputs, dataset: Dataset, late: LabelFile | None, progress: FileProgress
    ) -> tuple[ProfileColumns, LabelCounts | None]:
        from scoring.profiles.history import fold_inputs  # Numba is slow to import

        plan = ProfilePlan.of(dataset)
        parts = [own]
        if self.history is not None:
            read = _read_inputs(self.history, dataset, lambda share: progress("reading the history", share))
            parts.insert(0, read)
        inputs = join_inputs([part.inputs for part in parts])
        known = np.concatenate([part.labels for part in parts])
        labels, counts = reported_labels(late, inputs.ids, known, inputs.event_time_ms)
        values = fold_inputs(plan, inputs, labels, lambda done, of: progress("computing profiles", done / of))
        return ProfileColumns(plan.names, own.rows, values[len(values) - len(own.rows) :]), counts


def _read_inputs(path: Path, dataset: Dataset, progress: Callable[[float], None]) -> FileInputs:
    plan = ProfilePlan.of(dataset)
    inputs: list[ProfileInputs] = []
    labels: list[Floats] = []
    rows: list[Ints] = []
    for chunk in read_chunks(path, dataset):
        cleaned = clean_chunk(dataset, chunk)
        inputs.append(profile_inputs(plan, cleaned))
        labels.append(column_labels(dataset, chunk, cleaned))
        rows.append(cleaned.rows)
        progress(chunk.progress)
    return FileInputs(join_inputs(inputs), np.concatenate(labels), np.concatenate(rows))
