"""The draft of a declaration: roles, fields and features, inferred from a sample. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from schemas.dataset.fields import DERIVED, UNDECIDED
from scoring.arrays import Floats
from training.declaration.column import Column, column_of
from training.declaration.field_draft import FieldDraft, draft_field
from training.declaration.leakage import find_leak, label_of
from training.declaration.roles import (
    LabelRole,
    NameRole,
    TimeRole,
    find_amount,
    find_key,
    find_label,
    find_time,
    find_transaction_id,
)
from training.declaration.sample import Sample
from training.declaration.time_candidates import epoch_candidates


class Draft(NamedTuple):
    """A declaration to be checked by a person."""

    name: str
    sample: Sample
    time: TimeRole | None
    label: LabelRole | None
    label_candidates: tuple[str, ...]  # when no column is named like a label
    transaction_id: NameRole
    key: NameRole
    amount: NameRole
    missing: tuple[str, ...]
    missing_counts: dict[str, int]
    decimal: str | None  # of the data set; fields that differ have their own
    fields: tuple[FieldDraft, ...]
    left_out: tuple[FieldDraft, ...]
    leaks: dict[str, str]  # name of a field that is no feature -> reason
    features: tuple[str, ...]

    def undecided(self) -> Iterator[str]:
        """What a person must decide before the declaration can be used."""
        if self.time is None or self.time.candidates.undecided:
            yield "event_time"
        for field in self.fields:
            for part in (field, *field.entries):
                if UNDECIDED in part.keys.values():
                    yield part.name

    def doubts(self) -> Iterator[tuple[str, str]]:
        """Every doubt: what it is about, and the doubt."""
        dialect = self.sample.dialect
        yield from (("file", doubt) for doubt in (dialect.doubts if dialect else ()))
        if self.sample.unreadable:
            yield "file", f"{self.sample.unreadable:,} rows cannot be split into the declared columns"
        yield from time_doubts(self.time)
        if self.label is None:
            candidates = ", ".join(map(repr, self.label_candidates[:5])) or "none"
            yield "label", f"no column is named like a label; columns with few values: {candidates}. Training needs one"
        for role, found in (
            ("label", self.label),
            ("transaction_id", self.transaction_id),
            ("key", self.key),
            ("amount", self.amount),
        ):
            yield from ((role, doubt) for doubt in (found.doubts if found else ()))
        for field in self.fields:
            for part in (field, *field.entries):
                yield from ((part.name, doubt) for doubt in part.doubts)
        yield from ((name, f"left out of the features: {reason}") for name, reason in self.leaks.items())


def time_doubts(time: TimeRole | None) -> Iterator[tuple[str, str]]:
    """The doubts about the event time."""
    if time is None:
        yield "event_time", "no column is a date or a time; name it, and its format"
        return
    if time.candidates.undecided:
        yield "event_time", f"every text fits {' and '.join(time.candidates.undecided)}; no value decides between them"
    yield from (("event_time", doubt) for doubt in time.doubts)
    if not time.candidates.has_zone:
        yield "event_time", "no value states its zone; UTC is assumed"


def draft_declaration(name: str, sample: Sample) -> Draft:
    """Infer a declaration from a sample."""
    columns = [column_of(column, values) for column, values in sample.columns.items()]
    time = find_time(columns)
    in_time = {*(time.parts if time else ()), time.hour if time else None}
    free = [column for column in columns if column.name not in in_time]
    label, label_candidates = find_label(free)
    free = [column for column in free if label is None or column.name != label.name]
    transaction_id = find_transaction_id(free, sample.n)
    free = [column for column in free if column.name != transaction_id.name]
    key = find_key(free, sample.n)
    free = [column for column in free if column.name != key.name]

    missing_counts = Counter[str]()
    for column in columns:
        missing_counts.update(column.missing)
    missing = ("", *(text for text in missing_counts if text))
    decimal = _common_decimal(free)
    truth = None
    if label is not None:
        truth = label_of(next(column for column in columns if column.name == label.name), label)
    drafted = [_field(column, decimal, missing) for column in free]
    leaks = _leaks(free, drafted, truth)
    fields = tuple(_without_common(field, decimal) for field in drafted if field.kind is not None)
    left_out = tuple(field for field in drafted if field.kind is None)
    candidates = [part.name for field in fields for part in (field.entries or (field,)) if field.name not in leaks]
    derived = ["hour"] if time and (time.hour or time.candidates.has_clock) else []
    return Draft(
        name=name,
        sample=sample,
        time=time,
        label=label,
        label_candidates=label_candidates,
        transaction_id=transaction_id,
        key=key,
        amount=find_amount([column for column in free if column.name in {field.name for field in fields}]),
        missing=missing,
        missing_counts=dict(missing_counts),
        decimal=decimal,
        fields=fields,
        left_out=left_out,
        leaks=leaks,
        features=(*candidates, *derived, "day_of_week"),
    )


def _common_decimal(columns: Sequence[Column]) -> str | None:
    """The decimal mark that all columns that decide one agree on."""
    marks = {
        mark
        for column in columns
        if column.is_numeric and column.typed_numbers < column.present and column.marks.verdict == "decided"
        for mark in column.marks.decides
    }
    return marks.pop() if len(marks) == 1 else None


def _field(column: Column, decimal: str | None, missing: Sequence[str]) -> FieldDraft:
    if column.name in DERIVED:
        reason = f"{column.name!r} is the name of a feature that is computed from the event time"
        return FieldDraft(column.name, None, {}, (), (), reason)
    numbers = column.numbers() if column.is_numeric else np.empty(0)
    if len(numbers) and epoch_candidates(numbers[np.isfinite(numbers)]) is not None:
        reason = "numbers that count time since 1970: only the event time is read as one"
        return FieldDraft(column.name, None, {}, (), (), reason)
    return draft_field(column, siblings_decimal=decimal, data_set_missing=missing)


def _leaks(columns: Sequence[Column], drafted: Sequence[FieldDraft], truth: Floats | None) -> dict[str, str]:
    found = {
        column.name: find_leak(column, truth)
        for column, field in zip(columns, drafted, strict=True)
        if field.kind not in (None, "mapping")
    }
    return {name: reason for name, reason in found.items() if reason is not None}


def _without_common(field: FieldDraft, decimal: str | None) -> FieldDraft:
    """The field without the decimal mark that the data set declares for all."""
    keys = {key: value for key, value in field.keys.items() if (key, value) != ("decimal", decimal)}
    return field._replace(keys=keys, entries=tuple(_without_common(entry, decimal) for entry in field.entries))
