"""What a declaration makes of a file: raw and read values, rejections, and a summary of each field."""

import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn, missing_columns
from schemas.records import Rejection
from scoring.arrays import Array, Ints
from scoring.input.cleaning import CleanedBatch, is_missing
from scoring.input.text_parsing import parse_identifiers
from scoring.input.value_parsing import as_objects, format_value
from training.data.chunk import Chunk, clean_chunk
from training.data.file_profiles import FileProgress, ProfileColumns, ProfileFiles
from training.data.file_reader import read_chunks
from training.data.history import MAX_REJECTED_SHARE

MAX_SHOWN_REJECTIONS = 20
MAX_EXAMPLES = 3
MAX_LEVELS = 1_000  # that are counted


class ReadValue(msgspec.Struct, frozen=True, kw_only=True):
    """One value of one row, before and after."""

    field: str
    raw: str
    read: str  # "" if missing


class ReadRow(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted row."""

    row: int  # from 1, without header and blank lines
    values: tuple[ReadValue, ...]


class RejectedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rejected row, by its first fault."""

    row: int  # from 1
    line: int | None  # of a CSV or JSON lines file, from 1
    code: str
    field: str | None
    value: str
    expected: str  # which values are accepted


class FieldSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One declared field over all rows."""

    name: str
    kind: str  # or role
    read: int  # accepted rows with a value
    missing: int  # accepted rows without one
    rejected: int  # rows rejected because of this field
    range: str  # of numbers and times; levels of categories
    examples: tuple[ReadValue, ...]  # of different values


class DeclarationCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a check."""

    dataset: str
    file: str
    rows: int
    accepted: int
    rejected: int
    codes: dict[str, int]  # rejection code -> rows
    first_event_time: str | None  # ISO 8601, UTC
    last_event_time: str | None
    fraud_share: float | None  # of the rows with a known label
    absent_columns: tuple[MissingColumn, ...]  # declared, but not in the file
    fields: tuple[FieldSummary, ...]
    first_rows: tuple[ReadRow, ...]
    rejections: tuple[RejectedRow, ...]  # the first ones

    @property
    def is_refused(self) -> bool:
        """Whether most rows are rejected, as in a training."""
        return self.rows == 0 or self.rejected > MAX_REJECTED_SHARE * self.rows


def check_declaration(
    path: Path, dataset: Dataset, *, shown_rows: int, progress: FileProgress = lambda step, share: None
) -> DeclarationCheck:
    """Read the whole file; twice, if the data set declares profiles.

    progress: called with a step and the share of it that is done.
    Raises TrainingError when it is not the declared data set.
    """
    profiles, _ = ProfileFiles().columns_of_file(path, dataset, progress)
    summary = _Summary(dataset, profiles)
    names: tuple[str, ...] = ()
    for chunk in read_chunks(path, dataset):
        names = chunk.names
        summary.add(chunk, shown_rows)
        progress("reading", chunk.progress)
    return summary.result(path, missing_columns(dataset, names))


class _FieldCounts:
    """Counts of one field."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.read = self.missing = 0
        self.low, self.high = math.inf, -math.inf
        self.levels: Counter[str] = Counter()
        self.examples: dict[str, ReadValue] = {}


class _Summary:
    """Folds the chunks of a file."""

    def __init__(self, dataset: Dataset, profiles: ProfileColumns) -> None:
        self._dataset, self._profiles = dataset, profiles
        self._rows = self._accepted = 0
        self._codes: Counter[str] = Counter()
        self._rejected: Counter[str | None] = Counter()
        self._rejections: list[RejectedRow] = []
        self._first_rows: list[ReadRow] = []
        self._fields: dict[str, _FieldCounts] = {}
        self._first_ms: int | None = None
        self._last_ms: int | None = None
        self._fraud = self._known_labels = 0

    def add(self, chunk: Chunk, shown_rows: int) -> None:
        cleaned = self._profiles.add_to(clean_chunk(self._dataset, chunk, read_labels=True))
        self._rows += chunk.n
        self._accepted += len(cleaned.rows)
        for rejection in cleaned.rejections:
            self._reject(chunk, rejection)
        if not len(cleaned.rows):
            return
        self._first_ms = min(int(cleaned.event_time_ms.min()), _or(self._first_ms, math.inf))
        self._last_ms = max(int(cleaned.event_time_ms.max()), _or(self._last_ms, -math.inf))
        shown: list[list[ReadValue]] = [
            [] for _ in range(max(0, min(shown_rows - len(self._first_rows), len(cleaned.rows))))
        ]
        places = np.searchsorted(chunk.rows, cleaned.rows)  # of the accepted rows in the chunk
        for name, kind, raw, column in _columns(self._dataset, chunk, cleaned, places):
            self._count(name, kind, raw, column, places)
            for i, values in enumerate(shown):
                values.append(_value(name, kind, raw(int(places[i])), column[i]))
        self._first_rows += [
            ReadRow(row=int(cleaned.rows[i]) + 1, values=tuple(values)) for i, values in enumerate(shown)
        ]
        if cleaned.labels is not None:
            self._fraud += int(np.nansum(cleaned.labels))
            self._known_labels += int(np.count_nonzero(~np.isnan(cleaned.labels)))

    def _reject(self, chunk: Chunk, rejection: Rejection) -> None:
        self._codes[rejection.code] += 1
        self._rejected[rejection.field] += 1
        if len(self._rejections) < MAX_SHOWN_REJECTIONS:
            found = RejectedRow(
                row=rejection.row + 1,
                line=chunk.line_of(rejection.row),
                code=rejection.code,
                field=rejection.field,
                value=rejection.value,
                expected=rejection.expected,
            )
            self._rejections.append(found)

    def _count(self, name: str, kind: str, raw: Callable[[int], Any], column: Array, places: Ints) -> None:
        counts = self._fields.setdefault(name, _FieldCounts(kind))
        absent = is_missing(column)
        present = column[~absent]
        counts.missing += int(absent.sum())
        counts.read += len(present)
        if len(present) and column.dtype != object:
            counts.low = min(counts.low, float(present.min()))
            counts.high = max(counts.high, float(present.max()))
        elif len(counts.levels) < MAX_LEVELS:
            counts.levels.update(present.tolist())
        for i in np.flatnonzero(~absent)[:100]:
            if len(counts.examples) == MAX_EXAMPLES:
                break
            value = _value(name, kind, raw(int(places[i])), column[i])
            counts.examples.setdefault(value.read, value)

    def result(self, path: Path, absent: tuple[MissingColumn, ...]) -> DeclarationCheck:
        names = dict.fromkeys([*self._fields, *(name for name in self._rejected if name is not None)])
        return DeclarationCheck(
            dataset=self._dataset.name,
            file=path.name,
            rows=self._rows,
            accepted=self._accepted,
            rejected=self._rows - self._accepted,
            codes=dict(self._codes.most_common()),
            first_event_time=None if self._first_ms is None else _instant(self._first_ms),
            last_event_time=None if self._last_ms is None else _instant(self._last_ms),
            fraud_share=self._fraud / self._known_labels if self._known_labels else None,
            absent_columns=absent,
            fields=tuple(self._summary(name, self._fields.get(name) or _FieldCounts("")) for name in names),
            first_rows=tuple(self._first_rows),
            rejections=tuple(self._rejections),
        )

    def _summary(self, name: str, counts: _FieldCounts) -> FieldSummary:
        span = ""
        if counts.low <= counts.high:
            low, high = (_shown(counts.kind, limit) for limit in (counts.low, counts.high))
            span = f"{low} to {high}"
        elif counts.levels:
            more = " or more" if len(counts.levels) >= MAX_LEVELS else ""
            what = "levels" if counts.kind == "category" else "different"
            span = f"{len(counts.levels):,}{more} {what}"
        return FieldSummary(
            name=name,
            kind=counts.kind,
            read=counts.read,
            missing=counts.missing,
            rejected=self._rejected[name],
            range=span,
            examples=tuple(counts.examples.values()),
        )


def _or(value: int | None, other: float) -> Any:
    return other if value is None else value


def _columns(
    dataset: Dataset, chunk: Chunk, cleaned: CleanedBatch, places: Ints
) -> list[tuple[str, str, Callable[[int], Any], Array]]:
    """Name, kind, raw value by row of the chunk, and read values of each declared field."""
    time = dataset.event_time
    names = [*time.parts, *([time.hour] if time.hour else [])]
    found: list[tuple[str, str, Callable[[int], Any], Array]] = [
        (" ".join(names), "event time", _joined(chunk, names), cleaned.event_time_ms.astype(np.float64))
    ]
    if dataset.key is not None:
        found.append((dataset.key, "key", _raw(chunk, dataset.key), _keys(dataset, chunk, dataset.key, places)))
    if dataset.transaction_id is not None:
        ids = as_objects(cleaned.transaction_ids)
        found.append((dataset.transaction_id, "transaction id", _raw(chunk, dataset.transaction_id), ids))
    if dataset.label is not None:
        labels = np.full(len(cleaned.rows), math.nan) if cleaned.labels is None else cleaned.labels
        found.append((dataset.label, "label", _raw(chunk, dataset.label), labels))
    for field in dataset.fields:
        raw = _raw(chunk, field.name)
        found += [(part.name, part.kind, raw, cleaned.columns[part.name]) for part in field.entries or (field,)]
    found += [(f.name, "profile", lambda row: None, cleaned.columns[f.name]) for f in dataset.profile_features]
    return found


def _raw(chunk: Chunk, name: str) -> Callable[[int], Any]:
    values = chunk.columns.get(name)
    return lambda row: None if values is None else values[row]


def _joined(chunk: Chunk, names: list[str]) -> Callable[[int], Any]:
    raw = [_raw(chunk, name) for name in names]
    return raw[0] if len(raw) == 1 else lambda row: " ".join(format_value(value(row)) for value in raw)


def _keys(dataset: Dataset, chunk: Chunk, name: str, places: Ints) -> Array:
    keys, _ = parse_identifiers([chunk.columns[name][i] for i in places.tolist()], frozenset(dataset.missing))
    return as_objects(keys)


def _value(name: str, kind: str, raw: Any, read: Any) -> ReadValue:
    return ReadValue(field=name, raw="" if raw is None else format_value(raw), read=_shown(kind, read))


def _shown(kind: str, value: Any) -> str:
    if value is None or value != value:
        return ""
    if kind == "event time":
        return _instant(int(value))
    if kind in ("boolean", "label"):
        return "true" if value else "false"
    if kind == "profile":
        return f"{value:.7g}"  # a float32
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
