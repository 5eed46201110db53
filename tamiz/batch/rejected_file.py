"""The file of rejected rows that `tamiz score` writes: each row with its own fields and why it was rejected.

Rows of a CSV file are written as CSV, rows of Parquet and JSON lines as JSON lines, so that values keep their types. A
corrected file can be scored like any other file.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from schemas.dataset.declaration import Dataset
from schemas.files.atomic_write import atomic_write
from schemas.files.rejected_rows import COLUMNS, rejection_cells
from schemas.records import Rejection
from schemas.security.sanitizer import csv_cell, printable
from tamiz.batch.file_payloads import row_payloads
from training.data.chunk import Chunk
from training.data.file_reader import FileFormat


class RejectedRows(Protocol):
    """Writes the rejected rows of one chunk after another."""

    def __call__(self, chunk: Chunk, rejections: list[Rejection]) -> None:
        """Write the rejections of a chunk, by row number of the file."""


def rejected_path(output: Path, form: FileFormat) -> Path:
    """Path of the rejected rows, next to the decisions."""
    return output.with_suffix(".rejected.csv" if form == "csv" else ".rejected.jsonl")


@contextmanager
def rejected_rows(path: Path, form: FileFormat, dataset: Dataset) -> Iterator[RejectedRows]:
    """A function that writes rejected rows to a file, which appears when the context ends without an error."""
    with atomic_write(path) as scratch:
        if form != "csv":
            with scratch.open("wb") as lines:
                yield lambda chunk, rejections: lines.writelines(_json_lines(dataset, chunk, rejections))
            return
        # Characters that the encoding lacks are escaped: a reason can contain any character.
        with scratch.open("w", encoding=dataset.csv.encoding, errors="backslashreplace", newline="") as file:
            # With this line end, a field that holds a carriage return is quoted, too.
            writer = csv.writer(file, delimiter=dataset.csv.delimiter, lineterminator="\r\n")
            header_is_written = False

            def write(chunk: Chunk, rejections: list[Rejection]) -> None:
                nonlocal header_is_written
                if not header_is_written:
                    writer.writerow([*COLUMNS, *map(csv_cell, chunk.names)])
                    header_is_written = True
                writer.writerows(_csv_rows(chunk, rejections))

            yield write


def _csv_rows(chunk: Chunk, rejections: list[Rejection]) -> Iterator[list[Any]]:
    of_row = {row: i for i, row in enumerate(chunk.rows)}
    unreadable = {u.row: u for u in chunk.unreadable}
    for r in rejections:
        i = of_row.get(r.row)
        own = unreadable[r.row].fields if i is None else [chunk.columns[name][i] for name in chunk.names]
        why = rejection_cells(r, chunk.line_of(r.row)).values()
        yield [*(csv_cell(printable(cell)) if isinstance(cell, str) else cell for cell in why), *map(csv_cell, own)]


def _json_lines(dataset: Dataset, chunk: Chunk, rejections: list[Rejection]) -> Iterator[bytes]:
    of_row = {row: i for i, row in enumerate(chunk.rows)}
    for r in rejections:
        i = of_row.get(r.row)
        why = rejection_cells(r, chunk.line_of(r.row))
        own: dict[str, Any] = {}
        if i is not None:
            # `json` keeps integers of any size.
            columns = {name: values[i : i + 1] for name, values in chunk.columns.items()}
            own = json.loads(chunk.payloads[i] if chunk.payloads else next(row_payloads(dataset, columns)))
        yield json.dumps(why | {k: v for k, v in own.items() if k not in COLUMNS}).encode() + b"\n"
