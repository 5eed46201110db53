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
from scoring.input.boolean_parsing import parse_booleans
from scoring.input.date_parts import join_dates
from scoring.input.decoding import decode_payloads
from scoring.input.event_times import event_times
from scoring.input.mapping_parsing import parse_mappings
from scoring.input.number_parsing import parse_numbers
from scoring.input.payload_columns import Payloads
from scoring.input.record_times import RecordTimes, find_future_times
from scoring.input.text_parsing import parse_categories, parse_identifiers
from scoring.input.value_parsing import Fault, Faults, format_value


class CleanedBatch(NamedTuple):
    """A cleaned batch of n rows, of which m are accepted. Arrays have one element per accepted row."""

    n: int
    rows: Ints  # shape (m,): positions of the accepted rows in the input, ascending
    columns: Columns  # shape (m,) each; number, boolean: float64, NaN if missing; category: object, None if missing
    event_time_ms: Ints
    keys: list[str]  # the key's text; empty for a data set without a key
    transaction_ids: list[str | None]
    labels: Floats | None  # NaN: unknown; None: no row has a label, or labels are not read
    rejections: list[Rejection]  # ordered by row, at most one per row


def clean_payloads(
    dataset: Dataset,
    payloads: Sequence[bytes | None],
    *,
    read_labels: bool = False,
    max_payload_bytes: int = 65_536,
    record_times: RecordTimes | None = None,
) -> CleanedBatch:
    """Clean JSON payloads from a topic. Does not raise for any content of a payload.

    payloads: bytes, or `scoring.input.payload_columns.Payloads`, which are the faster.
    read_labels: for training. A row with an unreadable label is rejected; without, labels are ignored.
    record_times: timestamps of the payloads' records; None skips the check against the record's timestamp.
    """
    if not (read_labels or len(dataset.event_time.parts) > 1):
        from scoring.input.scan.payload_scanner import payload_scanner  # compiled: not every program cleans payloads

        return payload_scanner(dataset).clean(Payloads.of(payloads), max_payload_bytes, record_times)
    return clean_any_payloads(
        dataset, payloads, read_labels=read_labels, max_payload_bytes=max_payload_bytes, record_times=record_times
    )


def clean_any_payloads(
    dataset: Dataset,
    payloads: Sequence[bytes | None],
    *,
    read_labels: bool,
    max_payload_bytes: int,
    record_times: RecordTimes | None,
) -> CleanedBatch:
    """As `clean_payloads`: the general path, which decodes every payload. It alone decides about rejections."""
    decoded = decode_payloads(dataset.field_names, payloads, max_payload_bytes)
    rejections = [_rejection(row, None, fault) for row, fault in decoded.faults.items()]
    rows = np.array(decoded.rows, dtype=np.int64)
    if record_times is not None:
        record_times = record_times._replace(ms=np.asarray(record_times.ms, dtype=np.int64)[rows])
    return _clean(dataset, decoded.columns, rows, len(payloads), rejections, read_labels, record_times)


def clean_columns(dataset: Dataset, columns: Mapping[str, Sequence[Any]], *, read_labels: bool = False) -> CleanedBatch:
    """Clean raw columns of equal length from a CSV or Parquet file. Undeclared columns are ignored.

    read_labels: as for `clean_payloads`.
    Rows of a file have no record timestamp, so any valid event time is accepted.
    """
    n = len(next(iter(columns.values()))) if columns else 0
    raw = {name: columns.get(name, [None] * n) for name in dataset.field_names}
    return _clean(dataset, raw, np.arange(n, dtype=np.int64), n, [], read_labels)


def _clean(
    dataset: Dataset,
    raw: Mapping[str, Sequence[Any]],
    rows: Ints,
    n: int,
    rejections: list[Rejection],
    read_labels: bool,
    record_times: RecordTimes | None = None,
) -> CleanedBatch:
    faults: dict[int, tuple[str, Fault]] = {}  # by position in `rows`; only the first fault of a row is kept

    def note(field: str, found: Faults) -> None:
        for i, fault in found.items():
            faults.setdefault(i, (field, fault))

    raw = join_dates(dataset.event_time, raw, len(rows))
    keys = [] if dataset.key is None else _keys(dataset, dataset.key, raw, note)
    event_time_ms = event_times(dataset, raw, note)
    if record_times is not None:
        note(dataset.event_time.date, find_future_times(event_time_ms, raw[dataset.event_time.date], record_times))
    columns: dict[str, Array] = {}
    for field in dataset.fields:
        _parse_field(dataset, field, raw[field.name], columns, note)
    ids = _transaction_ids(dataset, raw, len(rows), note)
    labels = _labels(dataset, raw, note) if read_labels else None
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
        places = np.flatnonzero(kept).tolist()
        ids = [ids[i] for i in places]
        keys = [keys[i] for i in places] if keys else keys
        labels = None if labels is None else labels[kept]
    return CleanedBatch(n, rows, columns, event_time_ms, keys, ids, labels, rejections)  # type: ignore[arg-type]


def _keys(dataset: Dataset, key: str, raw: Mapping[str, Sequence[Any]], note: Any) -> list[str | None]:
    keys, faults = parse_identifiers(raw[key], frozenset(dataset.missing))
    note(key, faults)
    if None in keys:
        wanted = "the key of the card holder: text or an integer"
        note(key, {i: Fault("missing-field", raw[key][i], wanted) for i, text in enumerate(keys) if text is None})
    return keys


def _parse_field(dataset: Dataset, field: Field, values: Sequence[Any], columns: dict[str, Array], note: Any) -> None:
    if field.kind != "mapping":
        columns[field.name], faults = parse_column(dataset, field, values)
        note(field.name, faults)
        if field.required:
            absent = np.flatnonzero(is_missing(columns[field.name])).tolist()
            note(field.name, {i: Fault("missing-field", values[i], f"a {field.kind} (required)") for i in absent})
        return
    keys = [entry.key for entry in field.entries]
    entries, faults = parse_mappings(values, keys, missing_texts(dataset, field), required=field.required)
    note(field.name, faults)
    for entry in field.entries:
        columns[entry.name], faults = parse_column(dataset, entry, entries[entry.key])
        note(f"{field.name}.{entry.key}", faults)


def parse_column(dataset: Dataset, field: Field | MappingEntry, values: Sequence[Any]) -> tuple[Array, Faults]:
    """Parse the raw values of a number, boolean or category."""
    missing = missing_texts(dataset, field)
    if field.kind == "number":
        return parse_numbers(values, missing, field.min, field.max, dataset.number_formats[field.name])
    if field.kind == "boolean":
        return parse_booleans(values, missing, dataset.truth_values[field.name])
    return parse_categories(values, missing)


def missing_texts(dataset: Dataset, field: Field | MappingEntry) -> frozenset[str]:
    """The texts that mean a missing value of a field."""
    return frozenset(dataset.missing) | frozenset(field.missing)


def is_missing(column: Array) -> Flags:
    """Mask of missing values of a cleaned column, shape (n,)."""
    if column.dtype == object:
        return np.fromiter((v is None for v in column), dtype=bool, count=len(column))
    return np.asarray(np.isnan(column))


def _transaction_ids(dataset: Dataset, raw: Mapping[str, Sequence[Any]], n: int, note: Any) -> list[str | None]:
    if dataset.transaction_id is None:
        return [None] * n
    ids, faults = parse_identifiers(raw[dataset.transaction_id], frozenset(dataset.missing))
    note(dataset.transaction_id, faults)
    return ids


def _labels(dataset: Dataset, raw: Mapping[str, Sequence[Any]], note: Any) -> Floats | None:
    if dataset.label is None or all(value is None for value in raw[dataset.label]):
        return None
    missing = frozenset(dataset.missing)
    labels, faults = parse_booleans(raw[dataset.label], missing, dataset.label_values, "label_values")
    note(dataset.label, faults)
    return labels


def _rejection(row: int, field: str | None, fault: Fault) -> Rejection:
    return Rejection(row=row, code=fault.code, field=field, value=format_value(fault.value), expected=fault.expected)
