"""Event times of a batch: the date field and the hour field, in the zone of the value, to UTC. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.time_formats import NO_OFFSET, EventTimeFormat
from schemas.dataset.value_formats import NumberFormat
from schemas.records import MAX_TIME_MS
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.arrays import Flags, Floats, Ints
from scoring.input.number_parsing import parse_numbers
from scoring.input.time_parsing import ParsedTimes, parse_times
from scoring.input.time_zones import is_missing_day, local_offsets
from scoring.input.value_parsing import Fault, Faults

HOUR_FORMAT = NumberFormat(decimal="either")  # an hour is whole, so a mark in it has no second meaning

Note = Callable[[str, Faults], None]  # notes the faults of a field; the first fault of a row counts


def event_times(dataset: Dataset, raw: Mapping[str, Sequence[Any]], note: Note) -> Ints:
    """Event times in milliseconds since 1970, UTC, shape (n,); arbitrary in a row with a fault."""
    time, form, missing = dataset.event_time, dataset.time_format, frozenset(dataset.missing)
    parsed, faults = parse_times(raw[time.date], form, missing)
    note(time.date, faults)
    local_ms, is_date = parsed.local_ms, ~parsed.has_time
    if time.hour is not None:
        hours, faults = parse_numbers(raw[time.hour], missing, 0, 23, HOUR_FORMAT)
        whole = (hours >= 0) & (hours <= 23) & (hours % 1 == 0)
        if parsed.plain and whole.all():  # the usual batch
            return local_ms + hours.astype(np.int64) * HOUR_MS
        local_ms, is_date = _with_hours(parsed, hours, whole, raw[time.hour], faults)
        note(time.hour, faults)
        note(time.date, _contradictions(parsed, hours, raw[time.date], time.hour))
    if parsed.plain:
        return local_ms
    if form.zone == "UTC":
        utc_ms = local_ms - parsed.offset_ms
    else:
        utc_ms, faults = zone_to_utc(local_ms, parsed.offset_ms, is_date, raw[time.date], form)
        note(time.date, faults)
    outside = (utc_ms < 0) | (utc_ms >= MAX_TIME_MS)  # by the hour or the zone; the date itself is within
    if outside.any():
        expected = "a year from 1970 to 2199, in UTC"
        note(time.date, {i: Fault("out-of-range", raw[time.date][i], expected) for i in _rows(outside)})
    return utc_ms


def _with_hours(
    parsed: ParsedTimes, hours: Floats, whole: Flags, raw: Sequence[Any], faults: Faults
) -> tuple[Ints, Flags]:
    """Clock times with the hour field, and the mask of those that are still without time of day."""
    given = ~np.isnan(hours)
    for i in _rows(given & ~whole):
        faults.setdefault(i, Fault("out-of-range", raw[i], "a whole hour from 0 to 23"))
    for i in _rows(~parsed.has_time & ~given):
        faults.setdefault(i, Fault("missing-field", raw[i], "a whole hour from 0 to 23, or a date with time of day"))
    # Exporters write a date as a timestamp at midnight.
    used = whole & (~parsed.has_time | (parsed.local_ms % DAY_MS == 0))
    return parsed.local_ms + np.where(used, hours, 0).astype(np.int64) * HOUR_MS, ~(parsed.has_time | used)


def _contradictions(parsed: ParsedTimes, hours: Floats, raw: Sequence[Any], field: str) -> Faults:
    """Faults of the rows whose time of day is in another hour than the hour field states."""
    time_ms = parsed.local_ms % DAY_MS
    wrong = parsed.has_time & (time_ms != 0) & ~np.isnan(hours) & (time_ms // HOUR_MS != hours)
    return {
        i: Fault("contradictory-time", raw[i], f"a time of day in the hour {hours[i]:g}, which {field!r} states")
        for i in _rows(wrong)
    }


def zone_to_utc(
    local_ms: Ints, offset_ms: Ints, is_date: Flags, raw: Sequence[Any], form: EventTimeFormat
) -> tuple[Ints, Faults]:
    """Local times in the zone of the data set, or with an offset of their own, to UTC."""
    offsets = local_offsets(form.zone, local_ms)
    stated = offset_ms != NO_OFFSET
    gap = ~stated & (offsets.before_ms < offsets.after_ms) & (~is_date | is_missing_day(offsets))
    repeated = ~stated & (offsets.before_ms > offsets.after_ms) & ~is_date
    if form.repeated_hour == "later":
        zone_ms = np.where(repeated, offsets.after_ms, offsets.before_ms)
    else:
        zone_ms = offsets.before_ms
    faults = {}
    for i in _rows(gap):
        expected = f"a time that exists in {form.zone}, where clocks skip {_clock(local_ms[i])}; or its UTC offset"
        faults[i] = Fault("nonexistent-time", raw[i], expected)
    if form.repeated_hour == "reject":
        for i in _rows(repeated):
            expected = (
                f"the UTC offset, because {_clock(local_ms[i])} occurs twice in {form.zone}; "
                'or declare repeated_hour = "earlier" or "later"'
            )
            faults[i] = Fault("ambiguous-time", raw[i], expected)
    return local_ms - np.where(stated, offset_ms, zone_ms), faults


def _clock(local_ms: int) -> str:
    return str(np.datetime_as_string(np.datetime64(int(local_ms), "ms"), unit="m"))


def _rows(mask: Flags) -> list[int]:
    rows: list[int] = np.flatnonzero(mask).tolist()
    return rows
