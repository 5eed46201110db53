"""A file of late labels: which transactions were fraud, and when that was reported."""

import hashlib
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import Declaration, EventTimeForm, Field
from schemas.errors import TrainingError
from scoring.arrays import Floats, Hashes, Ints
from scoring.input.cleaning import CleanedBatch
from scoring.profiles.profile_inputs import HistoryLabels, hashes
from training.data.chunk import RejectionReasons, clean_chunk, known_labels
from training.data.file_reader import read_chunks

ID, FRAUD, REPORTED_AT = "transaction_id", "fraud", "reported_at"  # columns
MAX_REJECTED_SHARE = 0.5


class LabelFile(NamedTuple):
    """The labels of a file, in its order."""

    source: str  # name of the file
    sha256: str
    ids: Hashes  # of the transactions
    fraud: Floats  # 0 or 1
    reported_at_ms: Ints
    rejected: int  # rows without id, label or time, or with one that cannot be read
    commonest_rejection: str | None

    def counts(self, ids: Hashes) -> "LabelCounts":
        """What became of the labels. ids: of the known transactions."""
        return LabelCounts(
            file=self.source,
            labels=len(self.ids),
            unknown=int(np.count_nonzero(~np.isin(self.ids, ids))),
            rejected=self.rejected,
            commonest_rejection=self.commonest_rejection,
        )


class LabelCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the labels of a file."""

    file: str
    labels: int
    unknown: int  # of transactions that the history does not have
    rejected: int
    commonest_rejection: str | None

    @property
    def summary(self) -> str:
        """One line for people."""
        rejected = f"; {self.rejected:,} rejected, {self.commonest_rejection}" if self.rejected else ""
        return f"{self.labels:,} in {self.file}, {self.unknown:,} of them for unknown transactions{rejected}"


def read_labels(path: Path, dataset: Dataset) -> LabelFile:
    """Read a file of labels: CSV, Parquet or JSON lines, with the label's spellings and time formats of the data set.

    Its columns are `transaction_id`, `fraud` and `reported_at`; the first two may have the data set's names.
    Raises TrainingError when the data set declares no transaction id, the file cannot be read, lacks a column, or most
    of its rows cannot be read.
    """
    if dataset.transaction_id is None:
        raise TrainingError(
            f"{path}: labels name their transactions, but the data set {dataset.name!r} declares no transaction_id; "
            "declare the field that holds it"
        )
    form = _form(path, dataset)
    ids: list[str] = []
    fraud, reported_at_ms = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
    reasons = RejectionReasons()
    rows = 0
    for chunk in read_chunks(path, form):
        cleaned = clean_chunk(form, chunk, read_labels=True)
        reasons.update(cleaned.rejections, chunk)
        rows += cleaned.n
        labels = known_labels(cleaned)
        kept = [i for i, own_id in enumerate(cleaned.transaction_ids) if own_id is not None and labels[i] == labels[i]]
        ids += [own_id for i in kept if (own_id := cleaned.transaction_ids[i]) is not None]
        fraud.append(labels[kept])
        reported_at_ms.append(cleaned.event_time_ms[kept])
    rejected = rows - len(ids)
    commonest = reasons.commonest or (f"without {ID} or {FRAUD}" if rejected else None)
    if rejected > MAX_REJECTED_SHARE * rows:
        raise TrainingError(
            f"{path}: no labels of the data set {dataset.name!r}: {rejected} of {rows} rows are rejected, {commonest}; "
            "correct them, or name the right file"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return LabelFile(
        source=path.name,
        sha256=sha256,
        ids=hashes(ids),
        fraud=np.concatenate(fraud),
        reported_at_ms=np.concatenate(reported_at_ms),
        rejected=rejected,
        commonest_rejection=commonest,
    )


def with_late_labels(cleaned: CleanedBatch, late: LabelFile | None) -> tuple[CleanedBatch, LabelCounts | None]:
    """Cleaned rows with final labels, and what became of the labels. late: None for the labels of the column."""
    if late is None:
        return cleaned, None
    ids = hashes(cleaned.transaction_ids)
    return cleaned._replace(labels=final_labels(late, ids, known_labels(cleaned))), late.counts(ids)


def final_labels(late: LabelFile, ids: Hashes, own: Floats) -> Floats:
    """The last reported label of each row's transaction; where the file has none, the row's own. Shape (n,).

    ids: hashes of the rows' transaction ids. own: labels of the label column, NaN where unknown.
    """
    order = np.argsort(late.reported_at_ms, kind="stable")[::-1]  # of labels reported at once, the last row first
    known, newest = np.unique(late.ids[order], return_index=True)
    if not len(known):
        return own
    places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[places] == ids, late.fraud[order][newest][places], own)


def reported_labels(
    late: LabelFile | None, ids: Hashes, own: Floats, event_time_ms: Ints
) -> tuple[HistoryLabels, LabelCounts | None]:
    """All labels of the rows with their reports: those of the file, and those of the label column where it has none.

    A label of the file belongs to the first row, by event time, of its transaction.
    """
    if late is None:
        return HistoryLabels.of_column(own, event_time_ms), None
    order = np.argsort(event_time_ms, kind="stable")
    known, first = np.unique(ids[order], return_index=True)
    places = np.minimum(np.searchsorted(known, late.ids), max(0, len(known) - 1))
    found = np.flatnonzero(known[places] == late.ids) if len(known) else np.empty(0, np.intp)
    column = HistoryLabels.of_column(np.where(np.isin(ids, late.ids), np.nan, own), event_time_ms)
    labels = HistoryLabels(
        rows=np.concatenate([column.rows, order[first][places[found]]]),
        fraud=np.concatenate([column.fraud, late.fraud[found] == 1]),
        reported_at_ms=np.concatenate([column.reported_at_ms, late.reported_at_ms[found]]),
    )
    return labels, late.counts(ids)


def _form(path: Path, dataset: Dataset) -> Dataset:
    """The file of labels as a data set whose event time is the report."""
    names = {ID: dataset.transaction_id, FRAUD: dataset.label, REPORTED_AT: None}
    candidates = dict.fromkeys(name for pair in names.items() for name in pair if name)
    declaration = dataset.declaration
    any_columns = Declaration(
        name=dataset.name,
        key="",
        features=(),
        csv=declaration.csv,
        event_time=EventTimeForm(date=(), formats=()),
        fields=tuple(Field(name=name, kind="category") for name in candidates),
    )
    found = next(islice(read_chunks(path, Dataset(any_columns)), 1)).names
    columns = {column: own if own in found else column for column, own in names.items()}
    if missing := [column for column, name in columns.items() if name not in found]:
        expected = ", ".join(column if own in (None, column) else f"{column} or {own}" for column, own in names.items())
        raise TrainingError(
            f"{path}: no column {', '.join(missing)}; a file of labels has the columns {expected}; found "
            f"{', '.join(found[:20]) or 'none'}"
        )
    return Dataset(
        msgspec.structs.replace(
            declaration,
            key="",
            transaction_id=columns[ID],
            label=columns[FRAUD],
            amount=None,
            features=(),
            event_time=msgspec.structs.replace(declaration.event_time, date=REPORTED_AT, hour=None),
            fields=(),
            profiles=(),
        )
    )
