"""Labelled history: a CSV or Parquet file, cleaned by the very code that cleans the stream."""

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import parquet

from schemas.cleaning import Cleaned, clean_columns
from schemas.dataset import Dataset
from schemas.errors import TrainingError

MIN_ROWS = 200
MOST_REJECTED = 0.5
PARQUET_MAGIC = b"PAR1"

RawColumns = dict[str, list[Any]]


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
    _require_columns(path, dataset, raw)
    cleaned = clean_columns(dataset, raw)
    return _labelled(path, dataset, cleaned)


def read_columns(path: Path, dataset: Dataset) -> RawColumns:
    """The file's columns as they stand in it, uncleaned: CSV fields as text, Parquet values as JSON would have them.

    Raises TrainingError when the file cannot be read as either.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
        return _read_parquet(path) if is_parquet else _read_csv(path, dataset)
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror or error}") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_csv(path: Path, dataset: Dataset) -> RawColumns:
    form = dataset.csv
    try:
        with path.open(encoding=form.encoding, newline="") as file:
            lines = csv.reader(file, delimiter=form.delimiter, strict=True)
            header = next(lines, [])
            rows = []
            for row in lines:
                if len(row) == len(header):
                    rows.append(row)
                elif row:  # a blank line is nobody's transaction
                    raise csv.Error(f"line {lines.line_num} has {len(row)} fields, the header has {len(header)}")
    except (csv.Error, UnicodeError) as error:
        raise TrainingError(
            f"{path}: not a CSV file as {dataset.name!r} declares it, separated by {form.delimiter!r} in "
            f"{form.encoding}: {error}"
        ) from None
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _read_parquet(path: Path) -> RawColumns:
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise TrainingError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    return {name: [_json_value(v) for v in table.column(name).to_pylist()] for name in table.column_names}


def _json_value(value: Any) -> Any:
    """What the same value would be in a payload."""
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _require_columns(path: Path, dataset: Dataset, raw: RawColumns) -> None:
    needed = [dataset.key, dataset.event_time.date, *(f.name for f in dataset.fields if f.required)]
    if absent := [name for name in needed if name not in raw]:
        found = ", ".join(list(raw)[:20]) or "none"
        raise TrainingError(
            f"{path}: not the declared data set {dataset.name!r}: no column {', '.join(absent)} among {found:.300}; "
            "name the right file, or its declaration with TAMIZ_DATASET"
        )
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
