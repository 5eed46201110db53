"""Cleaning: a batch of payloads or columns becomes typed columns and rejections. Training and serving share this code.

JSON payloads from Kafka are decoded first; then the same parsers run as for the text columns of a file.
Each row is either in `rows` or in `rejections`, and the result for a row does not depend on other rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import Field, MappingEntry
from schemas.records import Rejection
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.arrays import Array, Columns, Flags, Floats, Ints
from scoring.input import value_parsing
from scoring.input.date_parts import join_dates
from scoring.input.decoding import decode_payloads
from scoring.input.record_times import RecordTimes, find_future_times
from scoring.input.time_parsing import parse_times
from scoring.input.value_parsing import Fault, Faults


class CleanedBatch(NamedTuple):
    """A cleaned batch of n rows, of which m are accepted. Arrays have one element per accepted row."""

    n: int
    rows: Ints  # shape (m,): positions of the accepted rows in the input, ascending
    columns: Columns  # shape (m,) each; number, boolean: float64, NaN if missing; category: object, None if missing
    event_time_ms: Ints
    transaction_ids: list[str | None]
    labels: Floats | None  # NaN: unknown; None: no row has a label
    rejections: list[Rejection]  # ordered by row, at most one per row


def clean_payloads(
    dataset: Dataset,
    payloads: Sequence[bytes | None],
    *,
    max_payload_bytes: int = 65_536,
    record_times: RecordTimes | None = None,
) -> CleanedBatch:
    """Clean JSON payloads from a topic. Does not raise for any content of a payload.

    record_times: timestamps of the payloads' records; None skips the check against the record's timestamp.
    """
    decoded = decode_payloads(dataset.field_names, payloads, max_payload_bytes)
    rejections = [_rejection(row, None, fault) for row, fault in decoded.faults.items()]
    rows = np.array(decoded.rows, dtype=np.int64)
    if record_times is not None:
        record_times = record_times._replace(ms=np.asarray(record_times.ms, dtype=np.int64)[rows])
    return _clean(dataset, decoded.columns, rows, len(payloads), rejections, record_times)


def clean_columns(dataset: Dataset, columns: Mapping[str, Sequence[Any]]) -> CleanedBatch:
    """Clean raw columns of equal length from a CSV or Parquet file. Undeclared columns are ignored.

    Rows of a file have no record timestamp, so any valid event time is accepted.
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
) -> CleanedBatch:
    faults: dict[int, tuple[str, Fault]] = {}  # by position in `rows`; only the first fault of a row is kept

    def note(field: str, found: Faults) -> None:
        for i, fault in found.items():
            faults.setdefault(i, (field, fault))

    raw = join_dates(dataset.event_time, raw, len(rows))
    if dataset.key is not None:
        _note_keys(dataset, dataset.key, raw, note)
    event_time_ms = _event_times(dataset, raw, note)
    if record_times is not None:
        note(dataset.event_time.date, find_future_times(event_time_ms, raw[dataset.event_time.date], record_times))
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
    return CleanedBatch(n, rows, columns, event_time_ms, ids, labels, rejections)


def _note_keys(dataset: Dataset, key: str, raw: Mapping[str, Sequence[Any]], note: Any) -> None:
    missing = frozenset(dataset.missing)
    found: Faults = {}
    for i, value in enumerate(raw[key]):
        if type(value) is str:
            if value in missing:
                found[i] = Fault("missing-field", value, "the key of the card holder: text or an integer")
            elif len(value) > value_parsing.MAX_TEXT_LENGTH:
                found[i] = Fault("too-long", value, f"at most {value_parsing.MAX_TEXT_LENGTH} characters")
        elif type(value) is not int:
            code = "missing-field" if value is None else "wrong-type"
            found[i] = Fault(code, value, "the key of the card holder: text or an integer")
    note(key, found)


def _event_times(dataset: Dataset, raw: Mapping[str, Sequence[Any]], note: Any) -> Ints:
    time, missing = dataset.event_time, frozenset(dataset.missing)
    found, faults = parse_times(raw[time.date], time.formats, missing)
    note(time.date, faults)
    event_time_ms = found.day_ms
    if time.hour is None or found.complete.all():
        return event_time_ms
    hours, faults = value_parsing.parse_numbers(raw[time.hour], missing, 0, 23)
    needed = ~found.complete
    for i in np.flatnonzero(needed & ((hours % 1 != 0) | np.isnan(hours))).tolist():
        code = "missing-field" if np.isnan(hours[i]) else "out-of-range"
        faults.setdefault(i, Fault(code, raw[time.hour][i], "a whole hour from 0 to 23"))
    note(time.hour, faults)
    usable = needed & (hours >= 0) & (hours <= 23)  # other values are faults already, and may overflow an int
    return np.where(usable, event_time_ms + np.where(usable, hours, 0).astype(np.int64) * HOUR_MS, event_time_ms)


def _parse_field(dataset: Dataset, field: Field, values: Sequence[Any], columns: dict[str, Array], note: Any) -> None:
    everywhere = frozenset(dataset.missing)
    if field.kind != "mapping":
        columns[field.name], faults = _parse(field, values, everywhere)
        note(field.name, faults)
        if field.required:
            absent = np.flatnonzero(is_missing(columns[field.name])).tolist()
            note(field.name, {i: Fault("missing-field", values[i], f"a {field.kind} (required)") for i in absent})
        return
    entries, faults = value_parsing.parse_mappings(
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
        return value_parsing.parse_numbers(values, missing, field.min, field.max)
    parse = value_parsing.parse_booleans if field.kind == "boolean" else value_parsing.parse_categories
    return parse(values, missing)


def is_missing(column: Array) -> Flags:
    """Mask of missing values of a cleaned column, shape (n,)."""
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
            found[i] = Fault(code, value, f"text of at most {value_parsing.MAX_TEXT_LENGTH} characters")
        ids.append(kept)
    note(dataset.transaction_id, found)
    return ids


def _labels(dataset: Dataset, raw: Mapping[str, Sequence[Any]], note: Any) -> Floats | None:
    if dataset.label is None or all(value is None for value in raw[dataset.label]):
        return None
    labels, faults = value_parsing.parse_booleans(raw[dataset.label], frozenset(dataset.missing))
    note(dataset.label, faults)
    return labels


def _rejection(row: int, field: str | None, fault: Fault) -> Rejection:
    return Rejection(
        row=row, code=fault.code, field=field, value=value_parsing.format_value(fault.value), expected=fault.expected
    )
