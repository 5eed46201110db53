"""Parsing of a column of event times to clock times. Pure. An invalid value is a `Fault` of its row.

A text is read in the first declared format that it has, else as ISO 8601. Typed values (JSON, Parquet) are read as the
text that states the same.
"""

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from schemas.dataset.time_formats import (
    EPOCHS,
    NO_OFFSET,
    UNITS,
    ClockTime,
    EventTimeFormat,
    numeric_time,
    parse_iso,
)
from schemas.dataset.value_formats import SPACES
from schemas.records import MAX_TIME_MS
from schemas.time_units import DAY_MS
from scoring.arrays import Flags, Ints
from scoring.input.value_parsing import (
    CACHE_SIZE,
    MAX_TEXT_LENGTH,
    Fault,
    Faults,
    Raw,
    distinct_texts,
    text_of,
    without_zero_decimal,
)

_NUMBER = re.compile(r"-?\d{1,20}(?:[.,]\d{0,20})?", re.ASCII)
_MAX_STRIPPED_LENGTH = 64
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_NO_TIME = ClockTime(0, 0, False)  # of a row with a fault
_PLAIN_SPACES = str.maketrans(dict.fromkeys(SPACES, " "))

TextParser = Callable[[str], ClockTime | Fault]


class ParsedTimes(NamedTuple):
    """Parsed clock times, shape (n,) each; zeros in a row with a fault."""

    local_ms: Ints
    offset_ms: Ints  # NO_OFFSET: local to the zone of the data set, which is not UTC
    has_time: Flags  # the value states a time of day
    plain: bool  # no value states a time of day or an offset, and the zone of the data set is UTC


def parse_times(values: Raw, form: EventTimeFormat, missing: frozenset[str]) -> tuple[ParsedTimes, Faults]:
    """Parse dates and times. missing: texts that mean a missing value."""
    parse = _text_parser(form, missing)
    known = distinct_texts(values, MAX_TEXT_LENGTH, parse)
    if known is not None and Fault not in map(type, known.values()):
        return _as_arrays([known[value] for value in values], known.values()), {}
    faults: Faults = {}
    times = []
    for i, value in enumerate(values):
        found = _time_of_value(value, form, parse)
        if type(found) is Fault:
            faults[i] = found._replace(value=value)
            found = _NO_TIME
        times.append(found)
    return _as_arrays(times, times), faults


def _as_arrays(times: list[Any], distinct: Iterable[Any]) -> ParsedTimes:
    if not any(offset_ms or has_time for _, offset_ms, has_time in distinct):
        local_ms = np.array([time[0] for time in times], dtype=np.int64)
        n = len(times)
        return ParsedTimes(local_ms, np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool), plain=True)
    columns = zip(*times, strict=True)
    local_ms, offset_ms = (np.array(next(columns), dtype=np.int64) for _ in range(2))
    return ParsedTimes(local_ms, offset_ms, np.array(next(columns), dtype=bool), plain=False)


@lru_cache(32)
def _text_parser(form: EventTimeFormat, missing: frozenset[str]) -> TextParser:
    @lru_cache(CACHE_SIZE)
    def parse(text: str) -> ClockTime | Fault:
        return _time_of_text(text, form, missing)

    return parse


def _time_of_value(value: Any, form: EventTimeFormat, parse: TextParser) -> ClockTime | Fault:
    text = text_of(value)
    if type(text) is Fault:
        return text._replace(expected=form.expected)
    if text is None or text == "NaT":
        return Fault("missing-field", value, form.expected)
    if isinstance(value, date):
        return _checked(_time_of_date(value), value, form)
    return parse(str(text))


def _time_of_text(text: str, form: EventTimeFormat, missing: frozenset[str]) -> ClockTime | Fault:
    stripped = text.strip()
    if stripped in missing:
        return Fault("missing-field", text, form.expected)
    if not stripped.isascii():
        stripped = stripped.translate(_PLAIN_SPACES)
    if len(stripped) <= _MAX_STRIPPED_LENGTH:
        if form.numeric is not None and _NUMBER.fullmatch(stripped):
            return _time_of_number(Decimal(stripped.replace(",", ".")), text, form)
        found = _in_any_format(stripped, form)
        if found is None and (digits := without_zero_decimal(stripped)) != stripped:
            found = _in_any_format(digits, form)
        if found is not None:
            return _checked(found, text, form)
    remedy = _unit_remedy(Decimal(stripped.replace(",", "."))) if _NUMBER.fullmatch(stripped) else ""
    return Fault("not-a-date", text, form.expected + remedy)


def _in_any_format(text: str, form: EventTimeFormat) -> ClockTime | None:
    for each in form.formats:
        found = each.parse(text)
        if found is not None:
            return found
    return parse_iso(text) if form.reads_iso else None


def _time_of_date(value: date) -> ClockTime:
    day_ms = (value.toordinal() - _EPOCH_DAY) * DAY_MS
    if not isinstance(value, datetime):
        return ClockTime(day_ms, NO_OFFSET, False)
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    offset = value.utcoffset()
    offset_ms = NO_OFFSET if offset is None else round(offset.total_seconds() * 1000)
    return ClockTime(day_ms + seconds * 1000 + round(value.microsecond / 1000), offset_ms, True)


def _checked(found: ClockTime, value: Any, form: EventTimeFormat) -> ClockTime | Fault:
    if found.offset_ms == NO_OFFSET and form.zone == "UTC":
        found = found._replace(offset_ms=0)
    utc_ms = found.local_ms - (0 if found.offset_ms == NO_OFFSET else found.offset_ms)
    if not 0 <= utc_ms < MAX_TIME_MS:
        return Fault("out-of-range", value, "a year from 1970 to 2199")
    return found


def _time_of_number(number: Decimal, value: Any, form: EventTimeFormat) -> ClockTime | Fault:
    assert form.numeric is not None
    found = numeric_time(form.numeric, number, form.origin_ms)
    if found is not None:
        return _checked(found, value, form)
    expected = f"{UNITS[form.numeric]} ({form.numeric}), of the years 1971 to 2199"
    return Fault("out-of-range", value, expected + _unit_remedy(number))


def _unit_remedy(number: Decimal) -> str:
    fitting = [repr(name) for name in EPOCHS if numeric_time(name, number)]
    return f"; declare {' or '.join(fitting)} among the formats if that is the unit" if fitting else ""
