"""A batch of payloads -> columns and rejections. The one code that trains and serves.

Payloads (JSON, from Kafka) and columns (text, from a file) meet after decoding: from there on the same parsers run.
Every row ends in exactly one of `rows` and `rejections`, and no row changes what becomes of another.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset, Field, MappingEntry
from schemas.records import Rejection
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.arrays import Array, Columns, Flags, Floats, Ints
from scoring.input import value_parsing
from scoring.input.decoding import decode_payloads
from scoring.input.record_times import RecordTimes, from_the_future
from scoring.input.time_parsing import times
from scoring.input.value_parsing import Fault, Faults


class Cleaned(NamedTuple):
    """A batch, cleaned. All arrays but the rejections have one element an accepted row."""

    n: int  # rows that came in
    rows: Ints  # shape (m,): places of the accepted rows, ascending
    columns: Columns  # number, boolean: float64, NaN missing; category: object, None missing
    event_time_ms: Ints
    transaction_ids: list[str | None]
    labels: Floats | None  # NaN unknown; None when no row brought one
    rejections: list[Rejection]  # by row, at most one a row


def clean_payloads(
    dataset: Dataset,
    payloads: Sequence[bytes | None],
    *,
    max_payload_bytes: int = 65_536,
    record_times: RecordTimes | None = None,
) -> Cleaned:
    """Clean JSON objects as they came from a topic. Never raises for what a payload holds.

    record_times: of the payloads' records; None where there are no records, then no event time is too late.
    """
    decoded = decode_payloads(dataset.field_names, payloads, max_payload_bytes)
    rejections = [_rejection(row, None, fault) for row, fault in decoded.faults.items()]
    rows = np.array(decoded.rows, dtype=np.int64)
    if record_times is not None:
        record_times = record_times._replace(ms=np.asarray(record_times.ms, dtype=np.int64)[rows])
    return _clean(dataset, decoded.columns, rows, len(payloads), rejections, record_times)


def clean_columns(dataset: Dataset, columns: Mapping[str, Sequence[Any]]) -> Cleaned:
    """Clean raw columns of equal length, as a CSV or Parquet file gives them; columns not declared are ignored.

    A row of a file has no record time: its event time may be any that can be read.
    """
    n = len(next(iter(columns.values()))) if columns else 0
    raw = {name: columns.get(name, [None] * n) for name in dataset.field_names}
    return _clean(dataset, raw, np.arange(n, dtype=np.int64), n, [])


def _clean(
    dataset: Dataset,
    raw: Mapping[str, Sequence[Any]],
    rows: Ints,
    n: int,
    rejections: list[Rejection],
    record_times: RecordTimes | None = None,
) -> Cleaned:
    faults: dict[int, tuple[str, Fault]] = {}  # by place among `rows`; the first one found stands

    def note(field: str, found: Faults) -> None:
        for i, fault in found.items():
            faults.setdefault(i, (field, fault))

    _note_keys(dataset, raw, note)
    event_time_ms = _event_times(dataset, raw, note)
    if record_times is not None:
        note(dataset.event_time.date, from_the_future(event_time_ms, raw[dataset.event_time.date], record_times))
    columns: dict[str, Array] = {}
    for field in dataset.fields:
        _parse_field(dataset, field, raw[field.name], columns, note)
    ids = _transaction_ids(dataset, raw, len(rows), note)
    labels = _labels(dataset, raw, note)
    columns["hour"] = (event_time_ms % DAY_MS // HOUR_MS).astype(np.float64)
    columns["day_of_week"] = ((event_time_ms // DAY_MS + 3) % 7).astype(np.float64)  # 1970-01-01 was a Thursday

    if faults:
        rejections = sorted(
            [*rejections, *(_rejection(int(rows[i]), field, fault) for i, (field, fault) in faults.items())],
            key=lambda r: r.row,
        )
        kept = np.ones(len(rows), dtype=bool)
        kept[list(faults)] = False
        rows, event_time_ms = rows[kept], event_time_ms[kept]
        columns = {name: column[kept] for name, column in columns.items()}
        ids = [ids[i] for i in np.flatnonzero(kept).tolist()]
        labels = None if labels is None else labels[kept]
    return Cleaned(n, rows, columns, event_time_ms, ids, labels, rejections)


def _note_keys(dataset: Dataset, raw: Mapping[str, Sequence[Any]], note: Any) -> None:
    missing = frozenset(dataset.missing)
    found: Faults = {}
    for i, value in enumerate(raw[dataset.key]):
        if type(value) is str:
            if value in missing:
                found[i] = Fault("missing-field", value, "who pays: a text or a whole number")
            elif len(value) > value_parsing.MAX_TEXT_LENGTH:
                found[i] = Fault("too-long", value, f"at most {value_parsing.MAX_TEXT_LENGTH} characters")
        elif type(value) is not int:
            code = "missing-field" if value is None else "wrong-type"
            found[i] = Fault(code, value, "who pays: a text or a whole number")
    note(dataset.key, found)


def _event_times(dataset: Dataset, raw: Mapping[str, Sequence[Any]], note: Any) -> Ints:
    time, missing = dataset.event_time, frozenset(dataset.missing)
    found, faults = times(raw[time.date], time.formats, missing)
    note(time.date, faults)
    event_time_ms = found.day_ms
    if time.hour is None or found.complete.all():
        return event_time_ms
    hours, faults = value_parsing.numbers(raw[time.hour], missing, 0, 23)
    needed = ~found.complete
    for i in np.flatnonzero(needed & ((hours % 1 != 0) | np.isnan(hours))).tolist():
        code = "missing-field" if np.isnan(hours[i]) else "out-of-range"
        faults.setdefault(i, Fault(code, raw[time.hour][i], "a whole hour from 0 to 23"))
    note(time.hour, faults)
    usable = needed & (hours >= 0) & (hours <= 23)  # what is out of range is a fault already, and may not fit an int
    return np.where(usable, event_time_ms + np.where(usable, hours, 0).astype(np.int64) * HOUR_MS, event_time_ms)


def _parse_field(dataset: Dataset, field: Field, values: Sequence[Any], columns: dict[str, Array], note: Any) -> None:
    everywhere = frozenset(dataset.missing)
    if field.kind != "mapping":
        columns[field.name], faults = _parse(field, values, everywhere)
        note(field.name, faults)
        if field.required:
            absent = np.flatnonzero(is_missing(columns[field.name])).tolist()
            note(field.name, {i: Fault("missing-field", values[i], f"a {field.kind}; it is required") for i in absent})
        return
    entries, faults = value_parsing.mappings(
        values, [e.key for e in field.entries], everywhere | frozenset(field.missing)
    )
    note(field.name, faults)
    if field.required:
        note(field.name, {i: Fault("missing-field", v, "an object") for i, v in enumerate(values) if v is None})
    for entry in field.entries:
        columns[entry.name], faults = _parse(entry, entries[entry.key], everywhere)
        note(f"{field.name}.{entry.key}", faults)


def _parse(field: Field | MappingEntry, values: Sequence[Any], everywhere: frozenset[str]) -> tuple[Array, Faults]:
    missing = everywhere | frozenset(field.missing)
    if field.kind == "number":
        return value_parsing.numbers(values, missing, field.min, field.max)
    return (value_parsing.booleans if field.kind == "boolean" else value_parsing.categories)(values, missing)


def is_missing(column: Array) -> Flags:
    """Where a cleaned column, shape (n,), has no value."""
    if column.dtype == object:
        return np.fromiter((v is None for v in column), dtype=bool, count=len(column))
    return np.asarray(np.isnan(column))


def _transaction_ids(dataset: Dataset, raw: Mapping[str, Sequence[Any]], n: int, note: Any) -> list[str | None]:
    if dataset.transaction_id is None:
        return [None] * n
    found: Faults = {}
    ids: list[str | None] = []
    for i, value in enumerate(raw[dataset.transaction_id]):
        kept: str | None = None
        if type(value) is str and len(value) <= value_parsing.MAX_TEXT_LENGTH:
            kept = value or None
        elif type(value) is int:
            kept = str(value)
        elif value is not None:
            code = "too-long" if type(value) is str else "wrong-type"
            found[i] = Fault(code, value, f"a text of at most {value_parsing.MAX_TEXT_LENGTH} characters")
        ids.append(kept)
    note(dataset.transaction_id, found)
    return ids


def _labels(dataset: Dataset, raw: Mapping[str, Sequence[Any]], note: Any) -> Floats | None:
    if dataset.label is None or all(value is None for value in raw[dataset.label]):
        return None
    labels, faults = value_parsing.booleans(raw[dataset.label], frozenset(dataset.missing))
    note(dataset.label, faults)
    return labels


def _rejection(row: int, field: str | None, fault: Fault) -> Rejection:
    return Rejection(
        row=row, code=fault.code, field=field, value=value_parsing.shown(fault.value), expected=fault.expected
    )
