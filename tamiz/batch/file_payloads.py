"""Payloads for the topic from the rows of a file: a worker reads them as a file's reader reads the rows."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from training.data.chunk import Chunk, RawColumns
from training.data.file_reader import file_format, read_chunks
from training.data.json_lines import json_lines


def file_payloads(path: Path, dataset: Dataset) -> Iterator[bytes]:
    """The rows of a CSV or Parquet file as JSON objects, or the lines of a file of JSON lines as they are.

    Raises TrainingError when the file cannot be read or is not the declared data set, or at a row of a CSV file with
    more or fewer fields than the header.
    """
    if file_format(path) == "json lines":
        try:
            yield from json_lines(path)
        except OSError as error:
            raise TrainingError(f"{path}: {error.strerror or error}") from None
        return
    for chunk in read_chunks(path, dataset):
        require_rows(path, chunk)
        yield from row_payloads(chunk.columns)


def require_rows(path: Path, chunk: Chunk) -> None:
    """Check that each row of a CSV file has as many fields as the header.

    Raises TrainingError with the line of the first row that has not.
    """
    for _, line, fault, _ in chunk.unreadable:
        if fault.code == "ragged-row":
            raise TrainingError(f"{path}: line {line} has {fault.value}, expected {fault.expected}; correct the row")


def row_payloads(columns: RawColumns) -> Iterator[bytes]:
    """The rows of a chunk of CSV or Parquet as JSON objects."""
    encode = msgspec.json.Encoder(decimal_format="number").encode
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        yield encode(dict(zip(names, values, strict=True)))
