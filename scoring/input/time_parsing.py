"""Raw dates and times -> milliseconds. Pure; a bad value is a `Fault` of its row and touches no other."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from scoring.arrays import Flags, Ints
from scoring.input.value_parsing import CACHE_SIZE, MAX_TEXT_LENGTH, Fault, Faults, Raw, distinct_texts


class Times(NamedTuple):
    """Event times before the hour is added."""

    day_ms: Ints  # shape (n,): midnight UTC, or the instant itself where `complete`
    complete: Flags  # shape (n,): the text had a time of day, so no hour is wanted


def times(values: Raw, formats: tuple[str, ...], missing: frozenset[str]) -> tuple[Times, Faults]:
    """Dates and ISO 8601 time stamps, in milliseconds since 1970."""
    known = distinct_texts(values, MAX_TEXT_LENGTH, lambda text: _time_of_text(text, formats, missing))
    if known is not None and Fault not in map(type, known.values()):
        days, whole = zip(*[known[value] for value in values], strict=True)
        return Times(np.array(days, dtype=np.int64), np.array(whole, dtype=bool)), {}
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
    return Times(np.array(day_ms, dtype=np.int64), np.array(complete, dtype=bool)), faults


def _not_a_time(value: Any) -> Fault:
    code = "missing-field" if value is None else "too-long" if type(value) is str else "wrong-type"
    return Fault(code, value, "a date such as 5/01/2020 or 2020-01-05")


@lru_cache(CACHE_SIZE)
def _time_of_text(text: str, formats: tuple[str, ...], missing: frozenset[str]) -> tuple[int, bool] | Fault:
    stripped = text.strip()
    if stripped in missing:
        return _not_a_time(None)
    wanted = "a date such as 5/01/2020 or 2020-01-05, or an ISO 8601 time stamp"
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
