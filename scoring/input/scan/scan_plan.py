"""The plan of a scan: what each field of a data set becomes, as arrays for the loops and as parsers for the rest."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import Field, MappingEntry
from schemas.dataset.time_formats import EventTimeFormat, TimeFormat
from schemas.dataset.value_formats import NumberFormat
from scoring.arrays import Array, Bytes, Ints
from scoring.input.cleaning import is_missing, missing_texts, parse_column
from scoring.input.event_times import HOUR_FORMAT
from scoring.input.mapping_parsing import parse_mappings
from scoring.input.number_parsing import parse_numbers
from scoring.input.scan.scan_arrays import IDENTIFIER, MAPPING, NUMBER, OTHER, TIME, ScanPlan
from scoring.input.scan.value_tokens import (
    IS_AMBIGUOUS,
    READS_COMMA,
    READS_MILLISECONDS,
    READS_POINT,
    READS_SECONDS,
    READS_SPACE,
    READS_T,
)
from scoring.input.time_parsing import parse_times
from scoring.input.value_parsing import Fault, Faults, Raw

TIME_NAMES = ("\0local_ms", "\0offset_ms", "\0has_time")  # columns of the scan only; no field has such a name
HOUR_NAME = "\0hour"

Parsed = tuple[Sequence[Array], Faults]  # an array for each column of an output
Parser = Callable[[Raw], Parsed]

_READS_BOTH = READS_POINT | READS_COMMA
_MARKS = {None: _READS_BOTH | IS_AMBIGUOUS, ".": READS_POINT, ",": READS_COMMA, "either": _READS_BOTH}
# Formats that read a text as ISO 8601 does.
_ISO_FORMATS = {
    f"%Y-%m-%d{mark}%H:%M:%S{decimals}{zone}" for mark in "T " for decimals in ("", ".%f") for zone in ("", "Z", "%z")
}
_ISO_LITERALS = frozenset("0123456789-:+.TtZz \t")
_MIN_TIME_LENGTH = 8  # of a text that is parsed directly: seconds since 1970, in 1971


class ScanColumn(NamedTuple):
    """One column of an output."""

    name: str
    is_category: bool = False


class ScanOutput(NamedTuple):
    """What one field becomes in one role."""

    field: str
    kind: int
    columns: Sequence[ScanColumn]  # of an identifier: none
    parse: Parser
    null_ok: bool = True
    direct: int = 0
    low: float | None = None
    high: float | None = None
    excluded: Sequence[float] = ()


def scan_outputs(dataset: Dataset) -> tuple[ScanOutput, ...]:
    """The outputs of a data set whose date is one field, in the order of its fields."""
    return tuple(sorted(_outputs(dataset), key=lambda output: dataset.field_names.index(output.field)))


def _outputs(dataset: Dataset) -> Iterator[ScanOutput]:
    missing, time = frozenset(dataset.missing), dataset.event_time
    for name in (dataset.key, dataset.transaction_id):
        if name is not None:
            yield ScanOutput(name, IDENTIFIER, (), _no_parser, null_ok=name != dataset.key)
    columns = [ScanColumn(name) for name in TIME_NAMES]
    direct = _time_texts(dataset.time_format, missing)
    yield ScanOutput(time.date, TIME, columns, _time_parser(dataset.time_format, missing), False, direct)
    if time.hour is not None:
        excluded = list(_numbers(missing))
        hours = _hour_parser(missing)
        yield ScanOutput(time.hour, NUMBER, [ScanColumn(HOUR_NAME)], hours, True, _READS_BOTH, 0, 23, excluded)
    for field in dataset.fields:
        if field.kind == "mapping":
            entries = [ScanColumn(entry.name, entry.kind == "category") for entry in field.entries]
            yield ScanOutput(field.name, MAPPING, entries, _mapping_parser(dataset, field), not field.required)
            continue
        column = [ScanColumn(field.name, field.kind == "category")]
        parse = _field_parser(dataset, field)
        if field.kind == "number":
            excluded = list(_numbers(missing_texts(dataset, field)))
            marks = _number_marks(dataset.number_formats[field.name])
            bounds = field.min, field.max
            yield ScanOutput(field.name, NUMBER, column, parse, not field.required, marks, *bounds, excluded)
        else:
            yield ScanOutput(field.name, OTHER, column, parse, not field.required)


def scan_plan(dataset: Dataset, outputs: Sequence[ScanOutput]) -> ScanPlan:
    """The arrays of a plan."""
    names = dataset.field_names
    columns = [column for output in outputs for column in output.columns]
    at = {column.name: i for i, column in enumerate(columns)}
    identifiers = np.array([output.kind == IDENTIFIER for output in outputs])
    missing = [text.encode() for text in dataset.missing]
    return ScanPlan(
        names=_joined(name.encode() for name in names),
        name_ends=_ends(len(name.encode()) for name in names),
        output_ends=_ends(sum(output.field == name for output in outputs) for name in names),
        kinds=np.array([output.kind for output in outputs], np.int64),
        null_ok=np.array([output.null_ok for output in outputs], np.bool_),
        direct=np.array([output.direct for output in outputs], np.int64),
        lows=np.array([-np.inf if output.low is None else output.low for output in outputs], np.float64),
        highs=np.array([np.inf if output.high is None else output.high for output in outputs], np.float64),
        excluded_ends=_ends(len(output.excluded) for output in outputs),
        column_ends=_ends(len(output.columns) for output in outputs),
        places=np.cumsum(identifiers) - 1,
        excluded=np.array([number for output in outputs for number in output.excluded], np.float64),
        nulls=np.array([0.0 if column.is_category else np.nan for column in columns], np.float64),
        missing=_joined(missing),
        missing_ends=_ends(map(len, missing)),
        time_column=at[TIME_NAMES[0]],
        hour_column=at.get(HOUR_NAME, -1),
        is_utc=dataset.time_format.zone == "UTC",
        derived_column=len(columns),
    )


def _joined(texts: Iterable[bytes]) -> Bytes:
    return np.frombuffer(b"".join(texts) or b"\0", np.uint8).copy()


def _ends(sizes: Iterable[int]) -> Ints:
    return np.cumsum([0, *sizes], dtype=np.int64)


def _number_marks(form: NumberFormat) -> int:
    return 0 if form.percent or form.currency else _MARKS[form.decimal]


def _numbers(missing: Iterable[str]) -> Iterator[float]:
    """The numbers that mean a missing value. A number that equals one of them may be spelled as no missing value."""
    for text in missing:
        try:
            yield float(text.replace(",", "."))
        except ValueError:
            continue


def _time_texts(form: EventTimeFormat, missing: Iterable[str]) -> int:
    """The texts that are read as `parse_times` reads them, regardless of the declared formats."""
    if any(len(text) >= _MIN_TIME_LENGTH and text[0].isdigit() for text in missing):
        return 0
    texts = {"epoch_s": READS_SECONDS, "epoch_ms": READS_MILLISECONDS}.get(form.numeric or "", 0)
    for mark, reads in (("T", READS_T), (" ", READS_SPACE)):
        if form.reads_iso and all(_leaves_to_iso(each, mark) for each in form.formats):
            texts |= reads
    return texts


def _leaves_to_iso(form: TimeFormat, mark: str) -> bool:
    """Whether a format reads no date and time of ISO 8601, with that mark between them, as another time."""
    literals = re.sub("%.", "", form.text)
    if form.text in _ISO_FORMATS or not _ISO_LITERALS.issuperset(literals):
        return True
    return mark.lower() not in literals.lower().replace("\t", " ")


def _no_parser(values: Raw) -> Parsed:
    raise NotImplementedError("identifiers are texts, not columns")


def _time_parser(form: EventTimeFormat, missing: frozenset[str]) -> Parser:
    def parse(values: Raw) -> Parsed:
        found, faults = parse_times(values, form, missing)
        return (found.local_ms, found.offset_ms, found.has_time), faults

    return parse


def _hour_parser(missing: frozenset[str]) -> Parser:
    def parse(values: Raw) -> Parsed:
        hours, faults = parse_numbers(values, missing, 0, 23, HOUR_FORMAT)
        return (hours,), faults

    return parse


def _field_parser(dataset: Dataset, field: Field) -> Parser:
    def parse(values: Raw) -> Parsed:
        column, faults = parse_column(dataset, field, values)
        if field.required:
            absent = np.flatnonzero(is_missing(column)).tolist()
            faults = {i: Fault("missing-field", values[i], "") for i in absent} | faults
        return (column,), faults

    return parse


def _mapping_parser(dataset: Dataset, field: Field) -> Parser:
    keys = [entry.key for entry in field.entries]
    missing = missing_texts(dataset, field)

    def parse_entry(entry: MappingEntry, values: Raw) -> tuple[Array, Faults]:
        return parse_column(dataset, entry, values)

    def parse(values: Raw) -> Parsed:
        entries, faults = parse_mappings(values, keys, missing, required=field.required)
        found = [parse_entry(entry, entries[entry.key]) for entry in field.entries]
        for _, more in found:
            faults = faults | more
        return [column for column, _ in found], faults

    return parse
