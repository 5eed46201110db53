"""Reads files of transactions in chunks of bounded memory, without cleaning: CSV, Parquet and JSON lines."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import format_missing, missing_columns, required_columns
from schemas.errors import TrainingError
from training.data.chunk import Chunk
from training.data.csv_file import csv_chunks
from training.data.json_lines import JSON_SUFFIXES, json_chunks

PARQUET_MAGIC = b"PAR1"
CHUNK_ROWS = 10_000

FileFormat = Literal["csv", "parquet", "json lines"]


def file_format(path: Path) -> FileFormat:
    """The format of a file: Parquet by its first bytes, JSON lines by its name, else CSV.

    Raises TrainingError when the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC:
                return "parquet"
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror or error}") from None
    return "json lines" if path.suffix.lower() in JSON_SUFFIXES else "csv"


def read_chunks(path: Path, dataset: Dataset, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Yield the file in chunks of at most `size` rows. A file without rows yields one empty chunk.

    Raises TrainingError when the file cannot be read; for a damaged file, after the chunks before the damage. Also
    when two columns of a CSV or Parquet file have one name, or a column that every row needs is missing.
    """
    form = file_format(path)
    try:
        if form == "json lines":
            names: Sequence[str] = ()
            for chunk in json_chunks(path, dataset, size):
                names = chunk.names
                yield chunk
            if names:  # only now it is known that no row has a column
                require_columns(path, dataset, names)
            return
        if form == "csv":
            chunks = csv_chunks(path, dataset, size)
        else:
            from training.data.parquet_file import parquet_chunks  # pyarrow is slow to import

            chunks = parquet_chunks(path, dataset, size)
        for i, chunk in enumerate(chunks):
            if not i:
                require_columns(path, dataset, chunk.names)
            yield chunk
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror or error}") from None


def require_columns(path: Path, dataset: Dataset, names: Sequence[str]) -> None:
    """Check that a file has the columns that every row needs: key, event time and required fields.

    Raises TrainingError when one is missing.
    """
    needed = required_columns(dataset)
    if missing := [column for column in missing_columns(dataset, names) if column.name in needed]:
        found = ", ".join(list(names)[:20]) or "none"
        raise TrainingError(
            f"{path}: not the declared data set {dataset.name!r}: {format_missing(missing)}; found {found:.300}; "
            "name the right file, correct the name, or set TAMIZ_DATASET to its declaration"
        )
