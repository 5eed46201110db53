"""Converts the rows of a file to payloads, which a worker reads in the same way as the file reader reads the rows."""

import math
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Any

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn
from schemas.errors import TrainingError
from scoring.input.value_parsing import MAX_TEXT_LENGTH
from training.data.chunk import RawColumns, refuse_ragged_rows
from training.data.column_presence import ColumnPresence
from training.data.file_reader import CHUNK_ROWS, file_format, read_chunks
from training.data.json_lines import json_chunks, json_lines


def file_payloads(path: Path, dataset: Dataset) -> Iterator[bytes]:
    """Yield the rows of a CSV or Parquet file as JSON objects, or the lines of a JSON lines file unchanged.

    Raises TrainingError if the file cannot be read or is not the declared data set, or if a row of a CSV file has more
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
        yield from row_payloads(dataset, chunk.columns)


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
        if form == "parquet":
            _refuse_dates_of_iso(path, dataset, chunk.columns)
        rows += chunk.n
        if (limit and rows >= limit) or (form != "csv" and presence.is_complete):
            break
    return presence.missing()


def _refuse_dates_of_iso(path: Path, dataset: Dataset, columns: RawColumns) -> None:
    """Refuse typed dates where a declared format, such as `%Y-%d-%m`, reads their text in a payload as other dates."""
    if dataset.time_format.reads_iso:
        return
    for name in dataset.event_time.parts:
        if any(isinstance(value, date) for value in columns.get(name, ())):
            raise TrainingError(
                f"{path}: the column {name!r} holds dates, which a payload states as {date(2020, 1, 25)}, but the "
                f"formats of {dataset.name!r} read such texts otherwise; write the column as text"
            )


def row_payloads(dataset: Dataset, columns: RawColumns) -> Iterator[bytes]:
    """The rows of a chunk of CSV or Parquet as JSON objects."""
    numeric = _numeric_names(dataset)
    converted = [_json_values(values, name, numeric) for name, values in columns.items()]
    encode = msgspec.json.Encoder(decimal_format="number").encode
    names = list(columns)
    for values in zip(*converted, strict=True):
        yield encode(dict(zip(names, values, strict=True)))


def _numeric_names(dataset: Dataset) -> frozenset[tuple[str, ...]]:
    """The fields, and the entries of mappings, that are read as numbers."""
    fields = {(f.name,) for f in dataset.fields if f.kind == "number"}
    entries = {(f.name, entry.key) for f in dataset.fields for entry in f.entries if entry.kind == "number"}
    hour = {(dataset.event_time.hour,)} if dataset.event_time.hour else set()
    return frozenset(fields | entries | hour)


def _json_values(values: Sequence[Any], name: str, numeric: frozenset[tuple[str, ...]]) -> Sequence[Any]:
    if set(map(type, values)) <= {str, int, bool, NoneType}:
        return values
    return [_json_value(value, (name,), numeric) for value in values]


def _json_value(value: Any, place: tuple[str, ...], numeric: frozenset[tuple[str, ...]]) -> Any:
    """A value of JSON that cleaning reads as it reads this Python object in this place."""
    match value:
        case float():
            return None if math.isnan(value) else value if math.isfinite(value) else repr(value)
        case Decimal():
            if value.is_nan():
                return None
            return value if place in numeric and value.is_finite() else format(value, "f")
        case date():  # includes datetime
            return value.isoformat()
        case bytes():
            return _text_of_bytes(value)
        case dict():
            return {key: _json_value(inner, (*place, key), numeric) for key, inner in value.items()}
        case list() | tuple():
            return [_json_value(inner, (), numeric) for inner in value]
    return value


def _text_of_bytes(value: bytes) -> Any:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        # A list is rejected as such bytes are; a text, if it is longer than any text may be.
        return [] if len(value) <= 4 * MAX_TEXT_LENGTH else value.decode("utf-8", "replace")
