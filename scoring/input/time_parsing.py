"""Parsing of dates and times to milliseconds since 1970. Pure. An invalid value is a `Fault` of its row."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from scoring.arrays import Flags, Ints
from scoring.input.value_parsing import CACHE_SIZE, MAX_TEXT_LENGTH, Fault, Faults, Raw, distinct_texts


class ParsedTimes(NamedTuple):
    """Parsed event times, before the hour field is added."""

    day_ms: Ints  # shape (n,): midnight UTC; the instant itself if `complete`
    complete: Flags  # shape (n,): the text includes a time of day, so the hour field is not used


def parse_times(values: Raw, formats: tuple[str, ...], missing: frozenset[str]) -> tuple[ParsedTimes, Faults]:
    """Parse dates and ISO 8601 timestamps.

    formats: for `datetime.strptime`, tried first. missing: texts that mean a missing value.
    """
    known = distinct_texts(values, MAX_TEXT_LENGTH, lambda text: _time_of_text(text, formats, missing))
    if known is not None and Fault not in map(type, known.values()):
        days, whole = zip(*[known[value] for value in values], strict=True)
        return ParsedTimes(np.array(days, dtype=np.int64), np.array(whole, dtype=bool)), {}
    faults: Faults = {}
    day_ms, complete = [0] * len(values), [False] * len(values)
    for i, value in enumerate(values):
        if type(value) is str and len(value) <= MAX_TEXT_LENGTH:
            found = _time_of_text(value, formats, missing)
        else:
            found = _not_a_time(value)
        if type(found) is Fault:
            faults[i] = found
        else:
            day_ms[i], complete[i] = found  # type: ignore[misc]
    return ParsedTimes(np.array(day_ms, dtype=np.int64), np.array(complete, dtype=bool)), faults


def _not_a_time(value: Any) -> Fault:
    code = "missing-field" if value is None else "too-long" if type(value) is str else "wrong-type"
    return Fault(code, value, "a date such as 5/01/2020 or 2020-01-05")


@lru_cache(CACHE_SIZE)
def _time_of_text(text: str, formats: tuple[str, ...], missing: frozenset[str]) -> tuple[int, bool] | Fault:
    stripped = text.strip()
    if stripped in missing:
        return _not_a_time(None)
    wanted = "a date such as 5/01/2020 or 2020-01-05, or an ISO 8601 timestamp"
    if not stripped.isascii() or len(stripped) > 40:
        return Fault("not-a-date", text, wanted)
    found = _parsed_time(stripped, formats)
    if found is None:
        return Fault("not-a-date", text, wanted)
    moment, complete = found
    if not 1970 <= moment.year <= 2199:
        return Fault("out-of-range", text, "a year from 1970 to 2199")
    return round(moment.timestamp() * 1000), complete


def _parsed_time(text: str, formats: tuple[str, ...]) -> tuple[datetime, bool] | None:
    for form in formats:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC), False
        except ValueError:
            continue
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    complete = "T" in text or ":" in text
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC), complete
    except OverflowError:
        return None
