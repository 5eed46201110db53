"""Payloads for the topic from the rows of a file: a worker reads them as a file's reader reads the rows."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn
from schemas.errors import TrainingError
from training.data.chunk import RawColumns, refuse_ragged_rows
from training.data.column_presence import ColumnPresence
from training.data.file_reader import CHUNK_ROWS, file_format, read_chunks
from training.data.json_lines import json_chunks, json_lines


def file_payloads(path: Path, dataset: Dataset) -> Iterator[bytes]:
    """The rows of a CSV or Parquet file as JSON objects, or the lines of a file of JSON lines as they are.

    Raises TrainingError when the file cannot be read or is not the declared data set, or a row of a CSV file has more
    or fewer fields than the header.
    """
    if file_format(path) == "json lines":
        try:
            yield from json_lines(path)
        except OSError as error:
            raise TrainingError(f"{path}: {error.strerror or error}") from None
        return
    for chunk in read_chunks(path, dataset):
        refuse_ragged_rows(path, dataset, chunk)
        yield from row_payloads(chunk.columns)


def check_file(path: Path, dataset: Dataset, limit: int | None = None) -> tuple[MissingColumn, ...]:
    """Check a file before any of its rows is sent; returns the declared columns that it lacks.

    limit: number of rows to check, rounded up to whole chunks; None for all. A file of JSON lines may hold invalid
    lines: they become dead letters.
    Raises TrainingError as `file_payloads` does.
    """
    form, size = file_format(path), min(limit or CHUNK_ROWS, CHUNK_ROWS)
    presence, rows = ColumnPresence(dataset), 0
    for chunk in json_chunks(path, dataset, size) if form == "json lines" else read_chunks(path, dataset, size):
        presence.update(chunk)
        if form == "csv":
            refuse_ragged_rows(path, dataset, chunk)
        rows += chunk.n
        if (limit and rows >= limit) or (form != "csv" and presence.is_complete):
            break
    return presence.missing()


def row_payloads(columns: RawColumns) -> Iterator[bytes]:
    """The rows of a chunk of CSV or Parquet as JSON objects."""
    encode = msgspec.json.Encoder(decimal_format="number").encode
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        yield encode(dict(zip(names, values, strict=True)))
