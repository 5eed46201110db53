"""Consecutive rows of a file, as its reader yields them, and their cleaning."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from schemas.records import Rejection
from scoring.arrays import Floats, Indices, Objects
from scoring.input.boolean_parsing import parse_booleans
from scoring.input.cleaning import CleanedBatch, clean_columns
from scoring.input.value_parsing import Fault, format_value

RawColumns = dict[str, list[Any]]


class UnreadableRow(NamedTuple):
    """A row without columns: a CSV row of another length than the header, or a JSON line that is no object."""

    row: int  # row number from 0, without header and blank lines of a CSV file
    line: int  # line number from 1, as an editor shows it
    fault: Fault
    fields: list[str]  # of a CSV row


class Chunk(NamedTuple):
    """Consecutive rows of a file."""

    rows: list[int]  # row numbers from 0
    lines: list[int] | None  # line on which each row begins, from 1; None for Parquet
    columns: RawColumns  # each as long as `rows`: texts of a CSV file, Python objects of Parquet, values of JSON lines
    unreadable: list[UnreadableRow]  # not in `rows`
    names: tuple[str, ...]  # of the columns; of JSON lines: those seen so far, until all declared ones are seen
    payloads: list[bytes] | None  # the lines of a file of JSON lines, one for each of `rows`
    progress: float  # share of the file that has been read, in [0, 1]

    @property
    def n(self) -> int:
        """The number of rows, readable or not."""
        return len(self.rows) + len(self.unreadable)

    def line_of(self, row: int) -> int | None:
        """The line on which a row of the chunk begins; None for Parquet."""
        if self.lines is None:
            return None
        i = bisect_left(self.rows, row)
        if i < len(self.rows) and self.rows[i] == row:
            return self.lines[i]
        return next(unreadable.line for unreadable in self.unreadable if unreadable.row == row)


def clean_chunk(dataset: Dataset, chunk: Chunk, *, read_labels: bool = False) -> CleanedBatch:
    """Clean a chunk. Unreadable rows are rejected; `rows` and rejections have the row numbers of the file.

    read_labels: as for `scoring.input.cleaning.clean_payloads`.
    """
    cleaned = clean_columns(dataset, chunk.columns, read_labels=read_labels)
    rejections = [msgspec.structs.replace(r, row=chunk.rows[r.row]) for r in cleaned.rejections]
    rejections += [_rejection(unreadable) for unreadable in chunk.unreadable]
    return cleaned._replace(
        n=chunk.n,
        rows=np.asarray(chunk.rows, dtype=np.int64)[cleaned.rows],
        rejections=sorted(rejections, key=lambda r: r.row) if chunk.unreadable else rejections,
    )


def column_labels(dataset: Dataset, chunk: Chunk, cleaned: CleanedBatch) -> Floats:
    """Labels of the accepted rows of a chunk that was cleaned without labels, shape (m,); NaN if unknown or unreadable.

    A row with an unreadable label is thus scored, and only its label is left out.
    """
    values = chunk.columns.get(dataset.label or "")
    if values is None:
        return np.full(len(cleaned.rows), np.nan)
    places = np.searchsorted(chunk.rows, cleaned.rows).tolist()
    labels, _ = parse_booleans([values[i] for i in places], frozenset(dataset.missing), dataset.label_values)
    return labels


def join_batches(batches: Sequence[CleanedBatch]) -> CleanedBatch:
    """Consecutive cleaned batches as one; `rows` and rejections keep their row numbers. batches: at least one."""
    first = batches[0]
    if len(batches) == 1:
        return first
    return CleanedBatch(
        n=sum(batch.n for batch in batches),
        rows=np.concatenate([batch.rows for batch in batches]),
        columns={name: np.concatenate([batch.columns[name] for batch in batches]) for name in first.columns},
        event_time_ms=np.concatenate([batch.event_time_ms for batch in batches]),
        keys=[key for batch in batches for key in batch.keys],
        transaction_ids=[own_id for batch in batches for own_id in batch.transaction_ids],
        labels=np.concatenate([known_labels(batch) for batch in batches]),
        rejections=[rejection for batch in batches for rejection in batch.rejections],
    )


def rows_at(cleaned: CleanedBatch, rows: Indices) -> CleanedBatch:
    """The batch restricted to some of its accepted rows, by position; `n` and `rejections` stay."""
    return cleaned._replace(
        rows=cleaned.rows[rows],
        columns={name: values[rows] for name, values in cleaned.columns.items()},
        event_time_ms=cleaned.event_time_ms[rows],
        keys=[cleaned.keys[i] for i in rows.tolist()] if cleaned.keys else [],
        transaction_ids=[cleaned.transaction_ids[i] for i in rows.tolist()],
        labels=known_labels(cleaned)[rows],
    )


def key_array(cleaned: CleanedBatch) -> Objects:
    """Keys of the accepted rows, shape (m,); (0,) for a data set without a key."""
    return np.array(cleaned.keys, dtype=object)


def known_labels(cleaned: CleanedBatch) -> Floats:
    """Labels of the accepted rows, shape (m,); NaN where unknown."""
    return np.full(len(cleaned.rows), np.nan) if cleaned.labels is None else cleaned.labels


def refuse_ragged_rows(path: Path, dataset: Dataset, chunk: Chunk) -> None:
    """Check that each row of a CSV file has as many fields as the header.

    Raises TrainingError with the line of the first row that has not.
    """
    for _, line, fault, _ in chunk.unreadable:
        if fault.code == "ragged-row":
            raise TrainingError(
                f"{path}: not a CSV file as {dataset.name!r} declares it, separated by {dataset.csv.delimiter!r}: "
                f"line {line} has {fault.value}, expected {fault.expected}"
            )


class RejectionReasons:
    """Reasons of rejections, counted: a fold over the chunks of a file."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str | None]] = Counter()
        self._first: dict[tuple[str, str | None], tuple[Rejection, int | None]] = {}

    def update(self, rejections: Sequence[Rejection], chunk: Chunk | None = None) -> None:
        """Add the next rejections. chunk: the rows that they are about, if these come from a file."""
        for r in rejections:
            self._counts[r.code, r.field] += 1
            if (r.code, r.field) not in self._first:
                self._first[r.code, r.field] = r, None if chunk is None else chunk.line_of(r.row)

    @property
    def codes(self) -> dict[str, int]:
        """Number of rejections by code."""
        codes: Counter[str] = Counter()
        for (code, _), count in self._counts.items():
            codes[code] += count
        return dict(codes)

    @property
    def commonest(self) -> str | None:
        """The most frequent reason with its first value, for a message; None if nothing was rejected."""
        if not self._counts:
            return None
        (code, field), _ = self._counts.most_common(1)[0]
        r, line = self._first[code, field]
        at = f"row {r.row + 1}" if line is None else f"line {line}"
        return f"most for {code} of {field or 'the row'}, first in {at}: {r.value!r} is not {r.expected}"


def _rejection(unreadable: UnreadableRow) -> Rejection:
    fault = unreadable.fault
    value = format_value(fault.value)
    return Rejection(row=unreadable.row, code=fault.code, field=None, value=value, expected=fault.expected)
