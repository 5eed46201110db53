"""A file of late labels: which transactions were fraud, and when that was reported."""

import hashlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import Declaration, EventTimeForm, Field
from schemas.errors import TrainingError
from scoring.arrays import Floats, Indices, Ints
from training.data.chunk import RejectionReasons, clean_chunk, known_labels
from training.data.file_reader import read_chunks

ID, FRAUD, REPORTED_AT = "transaction_id", "fraud", "reported_at"  # columns
MAX_REJECTED_SHARE = 0.5


class LabelFile(NamedTuple):
    """The labels of a file, in its order."""

    source: str  # name of the file
    sha256: str
    ids: list[str]
    fraud: Floats  # 0 or 1
    reported_at_ms: Ints
    rejected: int  # rows without id, label or time, or with one that cannot be read
    commonest_rejection: str | None


class MatchedLabels(NamedTuple):
    """Labels of the transactions of a file, one element per label, in order of the report."""

    rows: Indices  # position of the transaction; of a repeated id, the first one
    fraud: Floats
    reported_at_ms: Ints


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
        ids=ids,
        fraud=np.concatenate(fraud),
        reported_at_ms=np.concatenate(reported_at_ms),
        rejected=rejected,
        commonest_rejection=commonest,
    )


def match_labels(labels: LabelFile, ids: Sequence[str | None]) -> tuple[MatchedLabels, LabelCounts]:
    """The labels of the transactions with these ids. Labels reported at the same time stay in the file's order."""
    places: dict[str, int] = {}
    for i, own_id in enumerate(ids):
        if own_id is not None:
            places.setdefault(own_id, i)
    found = np.array([places.get(own_id, -1) for own_id in labels.ids], dtype=np.intp)
    known = np.flatnonzero(found >= 0)
    known = known[np.argsort(labels.reported_at_ms[known], kind="stable")]
    counts = LabelCounts(
        file=labels.source,
        labels=len(labels.ids),
        unknown=len(found) - len(known),
        rejected=labels.rejected,
        commonest_rejection=labels.commonest_rejection,
    )
    return MatchedLabels(found[known], labels.fraud[known], labels.reported_at_ms[known]), counts


def final_labels(matched: MatchedLabels, ids: Sequence[str | None], own: Floats) -> Floats:
    """The last reported label of each transaction; where the file has none, its own. A repeated id has one label.

    own: labels of the label column, shape (n,), NaN where unknown.
    """
    last = {ids[i]: label for i, label in zip(matched.rows.tolist(), matched.fraud.tolist(), strict=True)}
    return np.array([last.get(own_id, label) for own_id, label in zip(ids, own.tolist(), strict=True)])


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
