"""Reads CSV files. What differs from the declaration is refused with the line of the file."""

import codecs
import csv
from collections import Counter
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import islice
from pathlib import Path

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from schemas.files.rejected_rows import COLUMNS, holds_rejected_rows, own_fields
from scoring.input.value_parsing import Fault
from training.data.chunk import Chunk, UnreadableRow

DELIMITERS = (";", ",", "\t", "|")  # those that are usual
# Longest first: UTF-32's mark begins with that of UTF-16.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def byte_order_mark(start: bytes) -> tuple[bytes, str | None]:
    """The byte order mark with which a file begins, and its encoding; empty and None without a mark.

    start: at least the first four bytes of the file.
    """
    return next(((mark, name) for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), (b"", None))


def csv_chunks(path: Path, dataset: Dataset, size: int) -> Iterator[Chunk]:
    """Yield the file in chunks of at most `size` rows. Columns without a name are left out.

    Raises TrainingError when the file is not as the data set declares it, or two columns have one name.
    """
    length = max(1, path.stat().st_size)
    encoding = _encoding(path, dataset)
    with path.open("rb") as raw, TextIOWrapper(raw, encoding=encoding, newline="") as file:
        records = _records(path, dataset, file)
        _, header = next(records, (1, []))
        if guarded := holds_rejected_rows(header):
            header = own_fields(header)
        _check_header(path, dataset, header)
        named = [i for i, name in enumerate(header) if name and not (guarded and name in COLUMNS)]
        names = tuple(header[i] for i in named)
        row, taken = 0, size
        while taken == size or not row:
            rows: list[int] = []
            lines: list[int] = []
            found: list[list[str]] = []
            unreadable: list[UnreadableRow] = []
            taken = 0
            for line, fields in islice(records, size):
                taken += 1
                if not fields:  # a blank line
                    continue
                if guarded:
                    fields = own_fields(fields)
                if len(fields) == len(header):
                    rows.append(row)
                    lines.append(line)
                    found.append(fields)
                else:
                    fault = Fault("ragged-row", f"{len(fields)} fields", f"{len(header)}, as in the header")
                    unreadable.append(UnreadableRow(row, line, fault, fields))
                row += 1
            by_column = list(zip(*found, strict=True)) if found else [()] * len(header)
            columns = {header[i]: list(by_column[i]) for i in named}
            yield Chunk(rows, lines, columns, unreadable, names, None, min(1.0, raw.tell() / length))
            if not taken:
                return


def _records(path: Path, dataset: Dataset, file: TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    """The records of the file, each with the line on which it begins: a quoted field may hold line breaks."""
    reader = csv.reader(file, delimiter=dataset.csv.delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        why = str(error)
        if "field limit" in why:
            raise TrainingError(
                f"{path}: line {line}: a field has more than {csv.field_size_limit()} characters; shorten it, or close "
                "its quotation mark"
            ) from None
        if "unexpected end" in why:
            why = "a quotation mark opens in this row and never closes; close it, or double it within a quoted field"
        raise TrainingError(f"{_not_as_declared(path, dataset)}: line {line}: {why}") from None
    except UnicodeError as error:
        where = _undecodable_line(path, file.encoding)
        raise TrainingError(
            f"{_not_as_declared(path, dataset)}: {where}{error}; correct the file, or encoding under [csv]"
        ) from None


def _not_as_declared(path: Path, dataset: Dataset) -> str:
    form = dataset.csv
    return f"{path}: not a CSV file as {dataset.name!r} declares it, separated by {form.delimiter!r} in {form.encoding}"


def _encoding(path: Path, dataset: Dataset) -> str:
    """The encoding to read with: the declared one, with a byte order mark read as such."""
    declared = codecs.lookup(dataset.csv.encoding).name.removesuffix("-sig")
    with path.open("rb") as file:
        start = file.read(4)
    _, marked = byte_order_mark(start)
    if marked is None:
        return declared
    if not declared.startswith(marked):
        raise TrainingError(
            f"{_not_as_declared(path, dataset)}: the file begins with the byte order mark of {marked}; set encoding = "
            f'"{marked}" under [csv], or save the file in {dataset.csv.encoding}'
        )
    return "utf-8-sig" if marked == "utf-8" else marked


def _undecodable_line(path: Path, encoding: str) -> str:
    if encoding.startswith(("utf-16", "utf-32")):  # their lines do not end with one byte
        return ""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode(encoding)
            except UnicodeError:
                return f"line {number}: "
    return ""


def _check_header(path: Path, dataset: Dataset, header: list[str]) -> None:
    check_names(path, header)
    if len(header) == 1 and header[0] not in dataset.field_names:
        declared = {
            mark: len(set(_split(header[0], mark)) & set(dataset.field_names))
            for mark in DELIMITERS
            if mark != dataset.csv.delimiter and mark in header[0]
        }
        if declared:
            likely = max(declared, key=lambda mark: (declared[mark], header[0].count(mark)))
            raise TrainingError(
                f"{_not_as_declared(path, dataset)}: the header is one column, {header[0]:.60}; the delimiter seems to "
                f"be {likely!r}: set it under [csv], or set TAMIZ_DATASET to the data set of this file"
            )


def check_names(path: Path, names: list[str]) -> None:
    """Check that each column has a name of its own; columns without a name are ignored.

    Raises TrainingError when two columns have one name.
    """
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        listed = ", ".join(map(repr, twice[:5]))
        raise TrainingError(f"{path}: more than one column is named {listed}; rename or remove all but one of them")


def _split(header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter))
    except csv.Error:
        return []
