"""A bounded sample of a file: its first rows, and rows spread over the rest."""

import csv
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import CsvForm, Declaration, EventTimeForm, Field
from schemas.errors import TrainingError
from training.data.file_reader import file_format, read_chunks
from training.data.json_lines import MAX_LINE_BYTES, json_lines
from training.declaration.dialect import Dialect, detect_dialect

HEAD_ROWS = 10_000
SPREAD_ROWS = 10_000
MAX_READ_ROWS = 1_000_000
MAX_CELLS = 2_000_000  # of a sample; a wide file gets fewer rows
MIN_HEAD_ROWS = 1_000
CHUNK_ROWS = 5_000


class Sample(NamedTuple):
    """Rows of a file, in its order."""

    name: str  # of the file
    dialect: Dialect | None  # of a CSV file
    columns: dict[str, list[Any]]  # n values each
    n: int
    rows_read: int
    is_whole: bool  # the file was read to its end
    unnamed: int  # columns without a name; they are ignored
    unreadable: int  # rows with more or fewer fields than the header, lines that are no JSON object


def read_sample(path: Path, progress: Callable[[float], None] = lambda share: None) -> Sample:
    """Read the first rows of a file and rows at regular distances after them, in constant memory.

    Raises TrainingError when the file cannot be read.
    """
    form = file_format(path)
    dialect = detect_dialect(path) if form == "csv" else None
    names = _json_names(path) if form == "json lines" else ()
    kept = _KeptRows()
    read = unreadable = 0
    is_whole = True
    for chunk in read_chunks(path, provisional_dataset(path.stem, dialect, names), CHUNK_ROWS):
        kept.add(chunk.rows, chunk.columns)
        unreadable += len(chunk.unreadable)
        read += chunk.n
        progress(chunk.progress)
        if read >= MAX_READ_ROWS:
            is_whole = chunk.progress >= 1
            break
    columns = kept.columns()
    if not columns or not kept.n:
        raise TrainingError(f"{path}: no rows under a header; name a file with transactions")
    unnamed = 0 if dialect is None else _unnamed_columns(path, dialect)
    return Sample(path.name, dialect, columns, kept.n, read, is_whole, unnamed, unreadable)


def provisional_dataset(name: str, dialect: Dialect | None, names: tuple[str, ...]) -> Dataset:
    """A data set that only states how its files are read: every column is a text field."""
    form = CsvForm() if dialect is None else CsvForm(delimiter=dialect.delimiter, encoding=dialect.encoding)
    fields = tuple(Field(name=field, kind="category") for field in names if field)
    time = EventTimeForm(date=(), formats=())
    return Dataset(Declaration(name=name, key="", features=(), csv=form, event_time=time, fields=fields))


class _KeptRows:
    """The first rows, and every k-th row after them; k doubles when the sample is full."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Any]] = {}
        self._stride = 1
        self._head = self._spread = 0  # sizes
        self.n = 0

    def add(self, rows: list[int], columns: dict[str, list[Any]]) -> None:
        if not self._head:
            self._parts = {name: [] for name in columns}
            self._head = min(HEAD_ROWS, max(MIN_HEAD_ROWS, MAX_CELLS // (2 * max(1, len(columns)))))
            self._spread = min(SPREAD_ROWS, self._head)
        places = [i for i, row in enumerate(rows) if row < self._head or row % self._stride == 0]
        for name, values in columns.items():
            self._parts[name].extend([values[i] for i in places])
        self.n += len(places)
        while self.n > self._head + self._spread:
            self._stride *= 2
            keep = slice(self._head, None, 2)
            self._parts = {name: values[: self._head] + values[keep] for name, values in self._parts.items()}
            self.n = len(next(iter(self._parts.values()), ()))

    def columns(self) -> dict[str, list[Any]]:
        return self._parts


def _unnamed_columns(path: Path, dialect: Dialect) -> int:
    with path.open(encoding=dialect.encoding, errors="replace", newline="") as file:
        return next(csv.reader(file, delimiter=dialect.delimiter), []).count("")


def _json_names(path: Path) -> tuple[str, ...]:
    names: dict[str, None] = {}
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    for line in islice(json_lines(path, MAX_LINE_BYTES), HEAD_ROWS):
        try:
            names |= dict.fromkeys(decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return tuple(names)
