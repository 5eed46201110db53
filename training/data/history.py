"""Labelled history, cleaned by the very code that cleans the stream: a CSV or Parquet file, or what a topic brought."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Columns, Floats, Indices, Ints
from scoring.input.cleaning import CleanedBatch, clean_columns
from training.data.file_reader import RawColumns, read_chunks, require_columns

MIN_ROWS = 200
MAX_REJECTED_SHARE = 0.5


class History(NamedTuple):
    """The rows that can teach: accepted and labelled, in the order they came in."""

    source: str  # the file's name, or the topic's
    sha256: str  # of the file's bytes; of a topic's transactions and their labels
    rows: int  # that came in
    rejected: dict[str, int]  # rejection code -> rows
    unlabelled: int  # or labelled too lately for the label to be final
    columns: Columns  # cleaned, each of shape (n,)
    event_time_ms: Ints  # (n,)
    fraud: Floats  # (n,), 0 or 1
    from_ms: int | None = None  # event times that a topic was asked for, the first included, the last not
    until_ms: int | None = None

    def columns_at(self, rows: Indices) -> dict[str, Array]:
        """The columns of these rows only."""
        return {name: values[rows] for name, values in self.columns.items()}


def read_history(path: Path, dataset: Dataset, label_delay_ms: int = 0) -> History:
    """Read, clean and keep what is labelled.

    label_delay_ms: labels of younger rows than this, seen from the newest row, are not final and are not used.
    Raises TrainingError, in one line, when the file is not the declared data set or too little of it is left to learn
    from.
    """
    if dataset.label is None:
        raise TrainingError(f"the data set {dataset.name!r} declares no label: nothing can be learned from it")
    raw = read_columns(path, dataset)
    require_columns(path, dataset, raw)
    _require_label(path, dataset, raw)
    cleaned = clean_columns(dataset, raw)
    return labelled(path.name, sha256_of(path), dataset, cleaned, label_delay_ms)


def read_columns(path: Path, dataset: Dataset) -> RawColumns:
    """The file's columns as they stand in it, uncleaned: CSV fields as text, Parquet values as JSON would have them.

    Raises TrainingError when the file cannot be read as either, or has a row that is not as long as its header.
    """
    columns: RawColumns = {}
    for chunk in read_chunks(path, dataset):
        if chunk.ragged:
            _, line, fields = chunk.ragged[0]
            raise TrainingError(
                f"{path}: not a CSV file as {dataset.name!r} declares it, separated by {dataset.csv.delimiter!r}: "
                f"line {line} has {len(fields)} fields, the header has {len(chunk.columns)}"
            )
        for name, values in chunk.columns.items():
            columns.setdefault(name, []).extend(values)
    return columns


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_label(path: Path, dataset: Dataset, raw: RawColumns) -> None:
    if dataset.label not in raw:
        raise TrainingError(f"{path}: no label column {dataset.label!r}; training needs to know what was fraud")


def labelled(source: str, sha256: str, dataset: Dataset, cleaned: CleanedBatch, label_delay_ms: int) -> History:
    """What of cleaned rows can teach; `read_history` says what its arguments mean.

    Raises TrainingError, in one line, when most rows are rejected or too few have a final label.
    """
    if cleaned.n == 0:
        raise TrainingError(f"{source}: holds no rows")
    if len(cleaned.rejections) > MAX_REJECTED_SHARE * cleaned.n:
        (code, field), _ = Counter((r.code, r.field) for r in cleaned.rejections).most_common(1)[0]
        first = next(r for r in cleaned.rejections if (r.code, r.field) == (code, field))
        raise TrainingError(
            f"{source}: not the declared data set {dataset.name!r}: {len(cleaned.rejections)} of {cleaned.n} rows are "
            f"rejected, most for {code} of {field or 'the row'}, first in row {first.row + 1}: {first.value!r} is not "
            f"{first.expected}; name another data set with TAMIZ_DATASET"
        )
    labels = np.full(len(cleaned.rows), np.nan) if cleaned.labels is None else cleaned.labels
    final = cleaned.event_time_ms <= cleaned.event_time_ms.max() - label_delay_ms
    known = np.flatnonzero(~np.isnan(labels) & final)
    if len(known) < MIN_ROWS:
        young = int(np.count_nonzero(~np.isnan(labels) & ~final))
        if young + len(known) >= MIN_ROWS:
            raise TrainingError(
                f"{source}: not enough matured labels: {len(known)} rows are older than the label delay of "
                f"{label_delay_ms / DAY_MS:g} days, {young} are younger; at least {MIN_ROWS} are needed"
            )
        raise TrainingError(f"{source}: {len(known)} labelled rows are too few to learn from; give at least {MIN_ROWS}")
    fraud = labels[known]
    if len(np.unique(fraud)) < 2:
        only = "fraud" if fraud[0] else "legitimate"
        raise TrainingError(f"{source}: all {len(known)} rows are labelled {only}; both classes are needed to learn")
    return History(
        source=source,
        sha256=sha256,
        rows=cleaned.n,
        rejected=dict(Counter(r.code for r in cleaned.rejections)),
        unlabelled=len(labels) - len(known),
        columns={name: values[known] for name, values in cleaned.columns.items()},
        event_time_ms=cleaned.event_time_ms[known],
        fraud=fraud,
    )
