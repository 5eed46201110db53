"""Reads CSV and Parquet files of transactions in chunks of bounded memory, without cleaning."""

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


class RaggedRow(NamedTuple):
    """A row of a CSV file that has more or fewer fields than the header."""

    row: int  # row number from 0, without header and blank lines
    line: int  # line number from 1, as an editor shows it
    fields: list[str]


class Chunk(NamedTuple):
    """Consecutive rows of a file."""

    rows: list[int]  # row numbers from 0
    columns: RawColumns  # each as long as `rows`; CSV fields as text, Parquet values as JSON types
    ragged: list[RaggedRow]  # not in `rows`
    progress: float  # share of the file that has been read, in [0, 1]


def read_chunks(path: Path, dataset: Dataset, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Yield the file in chunks of at most `size` rows. A file without rows yields one empty chunk with its columns.

    Raises TrainingError when the file cannot be read as CSV or Parquet; for a damaged file, after the chunks before the
    damage.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
        yield from _parquet_chunks(path, size) if is_parquet else _csv_chunks(path, dataset, size)
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror or error}") from None


def require_columns(path: Path, dataset: Dataset, found: RawColumns) -> None:
    """Check that a file has the columns that every row needs: key, event time and required fields.

    Raises TrainingError when one is missing.
    """
    key = [dataset.key] if dataset.key else []
    needed = [*key, *dataset.event_time.parts, *(f.name for f in dataset.fields if f.required)]
    if missing := [name for name in needed if name not in found]:
        names = ", ".join(list(found)[:20]) or "none"
        raise TrainingError(
            f"{path}: not the declared data set {dataset.name!r}: no column {', '.join(missing)} among {names:.300}; "
            "name the right file, or set TAMIZ_DATASET to its declaration"
        )


def _csv_chunks(path: Path, dataset: Dataset, size: int) -> Iterator[Chunk]:
    csv_format = dataset.csv
    length = max(1, path.stat().st_size)
    try:
        with path.open("rb") as raw, TextIOWrapper(raw, encoding=csv_format.encoding, newline="") as file:
            lines = csv.reader(file, delimiter=csv_format.delimiter, strict=True)
            header = next(lines, [])
            if guarded := holds_rejected_rows(header):
                header = own_fields(header)
            row, taken = 0, size
            while taken == size or not row:
                rows: list[int] = []
                fields: list[list[str]] = []
                ragged: list[RaggedRow] = []
                taken = 0
                for found in islice(lines, size):
                    taken += 1
                    if not found:  # a blank line
                        continue
                    if guarded:
                        found = own_fields(found)
                    if len(found) == len(header):
                        rows.append(row)
                        fields.append(found)
                    else:
                        ragged.append(RaggedRow(row, lines.line_num, found))
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
                "it, or close its quotation mark"
            ) from None
        raise TrainingError(
            f"{path}: not a CSV file as {dataset.name!r} declares it, separated by {csv_format.delimiter!r} in "
            f"{csv_format.encoding}: {error}"
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
    """The value as the JSON type that a payload has."""
    if isinstance(value, date):  # includes datetime
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
