"""Formats of event times: the directives of `strptime`, ISO 8601, and numbers (epochs, Excel's serial dates). Pure.

The parsers are stricter than `datetime.strptime`: digits are ASCII, directives without a separator between them have a
fixed width (`%Y%m%d` does not read `2020115`), a weekday must be that of the date, and a zone is never dropped.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal, NamedTuple, get_args

import msgspec

from schemas.dataset.fields import TimeForm
from schemas.records import MAX_TIME_MS
from schemas.time_units import DAY_MS, HOUR_MS

NumericFormat = Literal["epoch_s", "epoch_ms", "epoch_us", "excel", "offset_s", "offset_h"]
NUMERIC_FORMATS: tuple[NumericFormat, ...] = get_args(NumericFormat)
OFFSETS: tuple[NumericFormat, ...] = ("offset_s", "offset_h")  # count from the declared origin
EPOCHS = tuple(name for name in NUMERIC_FORMATS if name not in OFFSETS)
UNITS = {
    "epoch_s": "seconds since 1970",
    "epoch_ms": "milliseconds since 1970",
    "epoch_us": "microseconds since 1970",
    "excel": "days since 1899-12-30, as Excel stores dates",
    "offset_s": "seconds since the origin",
    "offset_h": "hours since the origin",
}

MIN_NUMERIC_TIME_MS: Final = 31_536_000_000  # 1971-01-01: an earlier number has another unit than the declared one
NO_OFFSET: Final = 1 << 40  # the value states no offset: its time is local to the zone of the data set

_MS = {"epoch_s": Decimal(1000), "epoch_ms": Decimal(1), "epoch_us": Decimal("0.001"), "excel": Decimal(DAY_MS)}
_MS |= {"offset_s": Decimal(1000), "offset_h": Decimal(HOUR_MS)}
_EXCEL_EPOCH_MS = -25_569 * DAY_MS  # 1899-12-30
_EPOCH_DAY = date(1970, 1, 1).toordinal()

# What a directive states. A format states each of these at most once.
ROLES = {
    "Y": "year",
    "y": "year",
    "m": "month",
    "b": "month",
    "B": "month",
    "d": "day",
    "j": "day_of_year",
    "a": "weekday",
    "A": "weekday",
    "H": "hour",
    "I": "hour",
    "p": "half",
    "M": "minute",
    "S": "second",
    "f": "fraction",
    "z": "zone",
    "Z": "zone",
}
_WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "H": 2, "I": 2, "M": 2, "S": 2}
_MONTHS = ["January", "February", "March", "April", "May", "June"]
_MONTHS += ["July", "August", "September", "October", "November", "December"]
_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_NAMES = {"B": _MONTHS, "b": [m[:3] for m in _MONTHS], "A": _WEEKDAYS, "a": [d[:3] for d in _WEEKDAYS]}
_NUMBER_OF_NAME = {name[:3].casefold(): i for names in (_MONTHS, _WEEKDAYS) for i, name in enumerate(names)}
_OFFSET = r"[+-](?:[01]\d|2[0-3])(?::?[0-5]\d(?::?[0-5]\d)?)?"
_PATTERNS = {
    **{directive: "|".join(names) for directive, names in _NAMES.items()},
    "p": r"[ap](?:m|\.\s?m\.)",
    "z": rf"Z|{_OFFSET}",
    "Z": "UTC|GMT|Z",
}
_TOKENS = re.compile(r"%(.?)|([^%]+)", re.DOTALL)
_LITERAL_ZONE = re.compile(rf"(?<![A-Za-z])(?:Z|UTC|GMT|{_OFFSET})$", re.IGNORECASE)
_ISO = re.compile(
    r"(\d{4})(-?)(?:(\d\d)\2(\d\d)|W(\d\d)\2(\d))"
    rf"(?:[T ](\d\d)(?:(:?)(\d\d)(?:\8(\d\d)(?:[.,](\d{{1,9}}))?)?)?(Z|{_OFFSET})?"
    r"|(Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d))?",
    re.ASCII | re.IGNORECASE,
)


class ClockTime(NamedTuple):
    """What a clock in the zone of the value showed."""

    local_ms: int  # since 1970, by this clock
    offset_ms: int  # of this clock from UTC; NO_OFFSET if the value states none
    has_time: bool  # the value states a time of day, and not only a date


class TimeFormat(msgspec.Struct, frozen=True, kw_only=True):
    """One compiled format; `parse` reads a stripped text."""

    text: str
    pattern: re.Pattern[str]
    has_time: bool
    literal_offset_ms: int = NO_OFFSET  # of a zone that the format itself ends with, such as Z

    def parse(self, text: str) -> ClockTime | None:
        """The time that a text states; None if the text does not have this format."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return None
        part = match.groupdict("")
        try:
            day = _date(part)
            local_ms = _local_ms(day, _hour(part), part.get("minute"), part.get("second"), part.get("fraction"))
        except ValueError:
            return None
        if part.get("weekday") and day.weekday() != _NUMBER_OF_NAME[part["weekday"][:3].casefold()]:
            return None
        zone = part.get("zone")
        return ClockTime(local_ms, parse_offset(zone) if zone else self.literal_offset_ms, self.has_time)


class EventTimeFormat(msgspec.Struct, frozen=True, kw_only=True):
    """Format of the event times of a data set, resolved from its declaration."""

    formats: tuple[TimeFormat, ...]  # in the order of the declaration
    numeric: NumericFormat | None
    origin_ms: int  # of offset_s and offset_h; in UTC, unless the declaration states its offset
    reads_iso: bool  # False: a declared format reads an ISO date as another date, as `%Y-%d-%m` does
    zone: str
    repeated_hour: Literal["reject", "earlier", "later"]
    expected: str  # which texts can be read, for people


def directives(text: str) -> list[str]:
    """The directives of a format, without their percent signs; a lone percent sign at the end is an empty one.

    >>> directives("%d/%m/%Y 100%%")
    ['d', 'm', 'Y']
    """
    return [m[1] for m in _TOKENS.finditer(text) if m[2] is None and m[1] != "%"]


def compile_format(text: str) -> TimeFormat:
    """Compile a format in which `schemas.dataset.time_checks` finds no fault."""
    tokens = [(m[1], m[2]) for m in _TOKENS.finditer(text)]
    pattern = ""
    for i, (directive, literal) in enumerate(tokens):
        if literal is not None or directive == "%":
            pattern += r"\s+".join(map(re.escape, re.split(r"\s+", literal or "%")))
            continue
        before, after = (tokens[j][0] if 0 <= j < len(tokens) else None for j in (i - 1, i + 1))
        pattern += f"(?P<{ROLES[directive]}>{_pattern(directive, before, after)})"
    zone = _LITERAL_ZONE.search(tokens[-1][1] or "")
    return TimeFormat(
        text=text,
        pattern=re.compile(pattern, re.ASCII | re.IGNORECASE),
        has_time=bool({"H", "I"} & set(directives(text))),
        literal_offset_ms=parse_offset(zone[0]) if zone else NO_OFFSET,
    )


def _pattern(directive: str, before: str | None, after: str | None) -> str:
    if directive == "f":
        return r"\d{6}" if after in _WIDTHS else r"\d{1,9}"
    width = _WIDTHS.get(directive)
    if width is None:
        return _PATTERNS[directive]
    fixed = directive in "Yy" or before in _WIDTHS or before == "f" or after in _WIDTHS or after == "f"
    return rf"\d{{{width}}}" if fixed else rf"\d{{1,{width}}}"


def parse_iso(text: str) -> ClockTime | None:
    """Read a date or a time of ISO 8601, extended or basic, with or without an offset.

    >>> parse_iso("2020-01-05+02:00")
    ClockTime(local_ms=1578182400000, offset_ms=7200000, has_time=False)
    """
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, _, month, day, week, weekday, hour, _, minute, second, fraction, offset, date_offset = match.groups()
    try:
        if week:
            on = date.fromisocalendar(int(year), int(week), int(weekday))
        else:
            on = date(int(year), int(month), int(day))
        local_ms = _local_ms(on, int(hour or 0), minute, second, fraction)
    except ValueError:
        return None
    zone = offset or date_offset
    return ClockTime(local_ms, parse_offset(zone) if zone else NO_OFFSET, hour is not None)


def parse_offset(text: str) -> int:
    """Milliseconds of an offset such as `Z`, `UTC`, `+02`, `-0500` or `+05:30`.

    >>> parse_offset("-05:30")
    -19800000
    """
    if text[0] not in "+-":
        return 0
    digits = text[1:].replace(":", "").ljust(6, "0")
    seconds = (int(digits[:2]) * 60 + int(digits[2:4])) * 60 + int(digits[4:])
    return -1000 * seconds if text[0] == "-" else 1000 * seconds


def numeric_time(kind: NumericFormat, number: Decimal, origin_ms: int = 0) -> ClockTime | None:
    """The time that a number states, to the nearest millisecond.

    None before 1971 and after 2199, where the unit is another one; and before the origin that offsets count from.
    """
    ms = number * _MS[kind] + (origin_ms if kind in OFFSETS else _EXCEL_EPOCH_MS if kind == "excel" else 0)
    if not (origin_ms if kind in OFFSETS else MIN_NUMERIC_TIME_MS) <= ms < MAX_TIME_MS:
        return None
    rounded = round(ms)
    if kind == "excel":
        return ClockTime(rounded, NO_OFFSET, rounded % DAY_MS != 0)
    return ClockTime(rounded, 0, True)


def _date(part: Mapping[str, str]) -> date:
    year = int(part["year"])
    if len(part["year"]) == 2:
        year += 2000 if year < 69 else 1900  # as POSIX
    if "day_of_year" in part:
        on = date.fromordinal(date(year, 1, 1).toordinal() + int(part["day_of_year"]) - 1)
        if on.year != year:
            raise ValueError("no such day of the year")
        return on
    month = part["month"]
    return date(year, int(month) if month.isdigit() else _NUMBER_OF_NAME[month[:3].casefold()] + 1, int(part["day"]))


def _hour(part: Mapping[str, str]) -> int:
    hour = int(part.get("hour", 0))
    if "half" not in part:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError("an hour of 12 is from 1 to 12")
    return hour % 12 + (12 if part["half"][0] in "pP" else 0)


def _local_ms(on: date, hour: int, minute: str | None, second: str | None, fraction: str | None) -> int:
    minutes, seconds = int(minute or 0), int(second or 0)
    if hour > 23 or minutes > 59 or seconds > 59:
        raise ValueError("no such time of day")
    ms = (on.toordinal() - _EPOCH_DAY) * DAY_MS + ((hour * 60 + minutes) * 60 + seconds) * 1000
    return ms + round(int(fraction.ljust(9, "0")) / 1_000_000) if fraction else ms


# Times whose parts can be mistaken for one another: a day or a year that could be a month, an hour that could be a day.
_PROBES = [
    datetime(y, m, d, 10, 11, 12, tzinfo=UTC) for y in (2001, 2010, 2012, 2020) for m in (2, 11) for d in (1, 12)
]
_EXAMPLE = datetime(2020, 1, 25, 14, 30, tzinfo=UTC)
_ISO_FORMS = ("%Y-%m-%d", "%Y%m%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y%m%d %H%M%S")


def conflicting_reading(a: TimeFormat, b: TimeFormat) -> str | None:
    """A text that two formats read as two times; None if there is none."""
    for probe in _PROBES:
        text = probe.strftime(a.text)
        one, other = a.parse(text), b.parse(text)
        if one and other and one != other and _in_range(one) and _in_range(other):
            return text
    return None


def _in_range(time: ClockTime) -> bool:
    return 0 <= time.local_ms < MAX_TIME_MS


def _contradicts_iso(form: TimeFormat) -> bool:
    for probe in _PROBES:
        for iso in _ISO_FORMS:
            text = probe.strftime(iso)
            one, other = form.parse(text), parse_iso(text)
            if one and other and one != other and _in_range(one):
                return True
    return False


@lru_cache(32)
def event_time_format(time: TimeForm) -> EventTimeFormat:
    """Resolve the event time of a declaration in which `schemas.dataset.time_checks` finds no fault."""
    numeric = next((name for name in NUMERIC_FORMATS if name in time.formats), None)
    formats = tuple(compile_format(text) for text in time.formats if text not in NUMERIC_FORMATS)
    reads_iso = not any(map(_contradicts_iso, formats))
    shown = [f"{_EXAMPLE.strftime(form.text)} ({form.text})" for form in formats]
    if reads_iso:
        shown.append("2020-01-25T14:30:00Z (ISO 8601)")
    expected = f"a time such as {' or '.join(shown)}"
    if numeric:
        expected = f"a number of {UNITS[numeric]} ({numeric}), or {expected}"
    return EventTimeFormat(
        formats=formats,
        numeric=numeric,
        origin_ms=_origin_ms(time.origin),
        reads_iso=reads_iso,
        zone=time.zone,
        repeated_hour=time.repeated_hour,
        expected=expected,
    )


def _origin_ms(origin: str | None) -> int:
    found = parse_iso(origin) if origin else None
    if found is None:
        return 0
    return found.local_ms if found.offset_ms == NO_OFFSET else found.local_ms - found.offset_ms
