"""Files of transactions, CSV or Parquet, read in chunks: as they stand, uncleaned, in memory that does not grow."""

import csv
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import parquet

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from schemas.files.rejected_rows import holds_rejected_rows, own_fields

PARQUET_MAGIC = b"PAR1"
CHUNK_ROWS = 10_000

RawColumns = dict[str, list[Any]]


class Ragged(NamedTuple):
    """A line of a CSV file that has more or fewer fields than the header."""

    row: int  # its place in the file, from 0, headers and blank lines not counted
    line: int  # where an editor shows it, from 1
    fields: list[str]


class Chunk(NamedTuple):
    """Some rows of a file, in its order."""

    rows: list[int]  # their places in the file, from 0
    columns: RawColumns  # each as long as `rows`; CSV fields as text, Parquet values as JSON would have them
    ragged: list[Ragged]
    read: float  # share of the file that is read by now, in [0, 1]


def read_chunks(path: Path, dataset: Dataset, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """The file, at most `size` rows at once; a file of no rows gives one empty chunk, which has its columns.

    Raises TrainingError when the file cannot be read as either kind, at the latest when it comes to where it cannot.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
        yield from _parquet_chunks(path, size) if is_parquet else _csv_chunks(path, dataset, size)
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror or error}") from None


def require_columns(path: Path, dataset: Dataset, found: RawColumns) -> None:
    """Refuse a file that is not the declared data set.

    Raises TrainingError when a column is absent that no row can do without.
    """
    needed = [dataset.key, dataset.event_time.date, *(f.name for f in dataset.fields if f.required)]
    if absent := [name for name in needed if name not in found]:
        names = ", ".join(list(found)[:20]) or "none"
        raise TrainingError(
            f"{path}: not the declared data set {dataset.name!r}: no column {', '.join(absent)} among {names:.300}; "
            "name the right file, or its declaration with TAMIZ_DATASET"
        )


def _csv_chunks(path: Path, dataset: Dataset, size: int) -> Iterator[Chunk]:
    form = dataset.csv
    length = max(1, path.stat().st_size)
    try:
        with path.open("rb") as raw, TextIOWrapper(raw, encoding=form.encoding, newline="") as file:
            lines = csv.reader(file, delimiter=form.delimiter, strict=True)
            header = next(lines, [])
            if guarded := holds_rejected_rows(header):
                header = own_fields(header)
            row, taken = 0, size
            while taken == size or not row:
                rows: list[int] = []
                fields: list[list[str]] = []
                ragged: list[Ragged] = []
                taken = 0
                for found in islice(lines, size):
                    taken += 1
                    if not found:  # a blank line is nobody's transaction
                        continue
                    if guarded:
                        found = own_fields(found)
                    if len(found) == len(header):
                        rows.append(row)
                        fields.append(found)
                    else:
                        ragged.append(Ragged(row, lines.line_num, found))
                    row += 1
                by_column = map(list, zip(*fields, strict=True)) if fields else ([] for _ in header)
                columns = dict(zip(header, by_column, strict=True))
                yield Chunk(rows, columns, ragged, min(1.0, raw.tell() / length))
                if not taken:
                    return
    except (csv.Error, UnicodeError) as error:
        if "field limit" in str(error):
            raise TrainingError(
                f"{path}: line {lines.line_num}: a field has more than {csv.field_size_limit()} characters; shorten "
                "it, or close the quotation mark that it begins with"
            ) from None
        raise TrainingError(
            f"{path}: not a CSV file as {dataset.name!r} declares it, separated by {form.delimiter!r} in "
            f"{form.encoding}: {error}"
        ) from None


def _parquet_chunks(path: Path, size: int) -> Iterator[Chunk]:
    try:
        with parquet.ParquetFile(path) as file:
            total, row = file.metadata.num_rows, 0
            for batch in file.iter_batches(batch_size=size):
                columns = {
                    name: [_json_value(value) for value in column.to_pylist()]
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
                yield Chunk(list(range(row, row + batch.num_rows)), columns, [], (row + batch.num_rows) / total)
                row += batch.num_rows
            if not total:
                yield Chunk([], {name: [] for name in file.schema_arrow.names}, [], 1.0)
    except pyarrow.ArrowException as error:
        raise TrainingError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None


def _json_value(value: Any) -> Any:
    """What the same value would be in a payload."""
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
