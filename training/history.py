"""Labelled history: a CSV or Parquet file, cleaned by the very code that cleans the stream."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.cleaning import Cleaned, clean_columns
from schemas.dataset import Dataset
from schemas.errors import TrainingError
from training.tables import RawColumns, read_chunks, require_columns

MIN_ROWS = 200
MOST_REJECTED = 0.5


class History(NamedTuple):
    """The rows of a file that can teach: accepted and labelled, in the file's order."""

    path: Path
    sha256: str  # of the file's bytes
    rows: int  # in the file
    rejected: dict[str, int]  # rejection code -> rows
    unlabelled: int
    columns: Mapping[str, npt.NDArray[Any]]  # cleaned, each of shape (n,)
    event_time_ms: npt.NDArray[np.int64]  # (n,)
    fraud: npt.NDArray[np.float64]  # (n,), 0 or 1

    def columns_at(self, rows: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
        """The columns of these rows only."""
        return {name: values[rows] for name, values in self.columns.items()}


def read_history(path: Path, dataset: Dataset) -> History:
    """Read, clean and keep what is labelled.

    Raises TrainingError, in one line, when the file is not the declared data set or too little of it is left to learn
    from.
    """
    if dataset.label is None:
        raise TrainingError(f"the data set {dataset.name!r} declares no label: nothing can be learned from it")
    raw = read_columns(path, dataset)
    require_columns(path, dataset, raw)
    _require_label(path, dataset, raw)
    cleaned = clean_columns(dataset, raw)
    return _labelled(path, dataset, cleaned)


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


def _labelled(path: Path, dataset: Dataset, cleaned: Cleaned) -> History:
    if cleaned.n == 0:
        raise TrainingError(f"{path}: holds no rows")
    if len(cleaned.rejections) > MOST_REJECTED * cleaned.n:
        (code, field), _ = Counter((r.code, r.field) for r in cleaned.rejections).most_common(1)[0]
        first = next(r for r in cleaned.rejections if (r.code, r.field) == (code, field))
        raise TrainingError(
            f"{path}: not the declared data set {dataset.name!r}: {len(cleaned.rejections)} of {cleaned.n} rows are "
            f"rejected, most for {code} of {field or 'the row'}, first in row {first.row + 1}: {first.value!r} is not "
            f"{first.wanted}; name another data set with TAMIZ_DATASET"
        )
    labels = np.full(len(cleaned.rows), np.nan) if cleaned.labels is None else cleaned.labels
    known = np.flatnonzero(~np.isnan(labels))
    if len(known) < MIN_ROWS:
        raise TrainingError(f"{path}: {len(known)} labelled rows are too few to learn from; give at least {MIN_ROWS}")
    fraud = labels[known]
    if len(np.unique(fraud)) < 2:
        only = "fraud" if fraud[0] else "legitimate"
        raise TrainingError(f"{path}: all {len(known)} rows are labelled {only}; both classes are needed to learn")
    return History(
        path=path,
        sha256=sha256_of(path),
        rows=cleaned.n,
        rejected=dict(Counter(r.code for r in cleaned.rejections)),
        unlabelled=len(labels) - len(known),
        columns={name: values[known] for name, values in cleaned.columns.items()},
        event_time_ms=cleaned.event_time_ms[known],
        fraud=fraud,
    )
