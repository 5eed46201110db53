"""Random event times, and what a slow reference makes of them: pandas and the standard library instead of our parsers.

`differences(n, seed)` compares n values; a sample runs in the suite, and `python -m tests.helpers.reference_times N`
runs as many as wanted.
"""

import math
import random
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import pandas as pd

from schemas.dataset.declaration import Dataset
from schemas.dataset.declaration_checks import find_fault
from schemas.dataset.fields import Declaration, EventTime, EventTimeForm, Field
from scoring.input.cleaning import clean_columns

RepeatedHour = Literal["reject", "earlier", "later"]


class Case(NamedTuple):
    """A value of the date field, and of the hour field."""

    value: Any
    hour: Any = None


def times_dataset(
    *formats: str,
    zone: str = "UTC",
    hour: str | None = None,
    repeated_hour: RepeatedHour = "reject",
    origin: str | None = None,
) -> Dataset:
    """A data set that has little but an event time, `when`, with the hour field `hour`."""
    declaration = Declaration(
        name="times",
        key="who",
        missing=("", "NA"),
        features=("hour",),
        event_time=EventTimeForm(
            date="when", formats=formats, hour=hour, zone=zone, repeated_hour=repeated_hour, origin=origin
        ),
        fields=(Field(name="amount", kind="number"),),
    )
    assert find_fault(declaration) is None
    return Dataset(declaration)


def read_times(dataset: Dataset, cases: Sequence[Case]) -> list[int | str]:
    """What cleaning makes of each case: milliseconds since 1970, or the code of its rejection."""
    columns: dict[str, list[Any]] = {"who": ["1"] * len(cases), "when": [case.value for case in cases]}
    if dataset.event_time.hour:
        columns[dataset.event_time.hour] = [case.hour for case in cases]
    cleaned = clean_columns(dataset, columns)
    found: dict[int, int | str] = dict(zip(cleaned.rows.tolist(), cleaned.event_time_ms.tolist(), strict=True))
    found |= {rejection.row: rejection.code for rejection in cleaned.rejections}
    return [found[row] for row in range(len(cases))]


FORMATS = (
    "%d/%m/%Y",
    "%m/%d/%Y %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%d.%m.%y %H:%M",
    "%d-%b-%Y %I:%M:%S %p",
    "%b %d, %Y %I:%M %p",
    "%Y%m%d%H%M%S",
    "%Y%m%d",
    "%d%m%Y",
    "%Y.%j %H",
    "%a %b %d %H:%M:%S %z %Y",
    "%d/%m/%Y %H:%M:%S %z",
    "%d/%m/%Y %H:%M:%S.%f%z",
    "%Y/%m/%d%z",
)
ISO_FORMATS = (
    "%Y-%m-%d",
    "%Y%m%d",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H",
    "%Y%m%dT%H%M%S",
    "%G-W%V-%u",
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%dT%H:%MZ",
    "%Y-%m-%d%z",
    "%Y-%m-%dZ",
)
# Zones with clock changes at odd times, by odd amounts, at midnight, over a whole day, and with odd offsets.
ZONES = (
    "UTC",
    "America/Mexico_City",
    "Europe/Madrid",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "America/Havana",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Africa/Casablanca",
)
OFFSETS = ("+0000", "+0200", "-0500", "+0530", "-0330", "+1400", "-1200")
UNITS = {"epoch_s": 1_000, "epoch_ms": 1, "epoch_us": 0.001, "excel": 86_400_000}
ALPHABET = "0123456789-/:+. TZWapm"
FIRST, LAST = datetime(1971, 1, 3), datetime(2199, 12, 29)


def differences(n: int, seed: int) -> list[str]:
    """Compare n random values with the reference; each line of the result is a value that is read differently."""
    draw, wrong, compared = random.Random(seed), [], 0
    while compared < n:
        dataset, cases, must_read = _table(draw)
        compared += len(cases)
        for case, ours in zip(cases, read_times(dataset, cases), strict=True):
            right = reference_time(dataset.event_time, case)
            same = ours == right if isinstance(ours, int) else right is None or not must_read
            if not same:
                wrong.append(f"{dataset.event_time} {case}: {ours} instead of {right}")
    return wrong


def _table(draw: random.Random) -> tuple[Dataset, list[Case], bool]:
    """A declaration and a column of values; whether each value that the reference can read must be read."""
    zone, repeated_hour = draw.choice(ZONES), draw.choice(("reject", "earlier", "later"))
    kind = draw.choice(("strptime", "iso", "number", "typed", "hour"))
    size = draw.randrange(1, 60)
    if kind == "number":
        unit = draw.choice(tuple(UNITS))
        return times_dataset(unit, zone=zone), [_number(draw, unit) for _ in range(size)], True
    if kind == "hour":
        dataset = times_dataset("%d/%m/%Y", "%d/%m/%Y %H:%M", zone=zone, hour="h", repeated_hour=repeated_hour)
        return dataset, [_with_hour(draw, zone) for _ in range(size)], True
    form = draw.choice(FORMATS)
    dataset = times_dataset(form, zone=zone, repeated_hour=repeated_hour)
    if kind == "typed":
        return dataset, [Case(_typed(draw, zone)) for _ in range(size)], True
    written = form if kind == "strptime" else draw.choice(ISO_FORMATS)
    texts = [_moment(draw, zone).strftime(written.replace("%z", draw.choice(OFFSETS))) for _ in range(size)]
    damaged = draw.random() < 0.3
    return dataset, [Case(_damage(draw, text) if damaged else text) for text in texts], not damaged


def _moment(draw: random.Random, zone: str) -> datetime:
    """A local time, one in three of them near a change of the zone's clocks."""
    last = FIRST + (LAST - FIRST) * (draw.random() ** 2)
    moment = last.replace(microsecond=draw.choice((0, 0, draw.randrange(1_000_000))))
    if draw.random() < 0.6:
        moment = moment.replace(second=0, microsecond=0)
    if zone == "UTC" or draw.random() < 0.66:
        return moment
    here = pd.Timestamp(moment.replace(year=draw.randrange(1972, 2037), month=1, day=2), tz="UTC")
    for _ in range(draw.randrange(1, 400)):
        before, here = here, here + pd.Timedelta(days=1)
        if before.tz_convert(_zone(zone)).utcoffset() != here.tz_convert(_zone(zone)).utcoffset():
            break
    local = here.tz_convert(_zone(zone)).tz_localize(None).to_pydatetime()
    return local - timedelta(minutes=draw.randrange(-60, 36 * 60))


def _number(draw: random.Random, unit: str) -> Case:
    ms = (_moment(draw, "UTC") - datetime(1970, 1, 1)) / timedelta(milliseconds=1)
    declared = unit if draw.random() < 0.9 else draw.choice(tuple(UNITS))
    number = (ms + (25_569 * 86_400_000 if declared == "excel" else 0)) / UNITS[declared]
    whole = math.floor(number)
    value = draw.choice((whole, float(whole), number, str(whole), str(number), Decimal(whole), f"{number:.6f}"))
    return Case(value.replace(".", ",") if isinstance(value, str) and draw.random() < 0.3 else value)


def _with_hour(draw: random.Random, zone: str) -> Case:
    moment = _moment(draw, zone)
    if draw.random() < 0.2:
        moment = moment.replace(hour=0, minute=0)
    written = draw.choice(("%d/%m/%Y", "%d/%m/%Y %H:%M", "%Y-%m-%d", "%Y-%m-%d+02:00", "%Y-%m-%dT%H:%M-05:00"))
    hour = draw.choice((moment.hour, moment.hour, str(moment.hour), draw.randrange(24), None, "", 24, 7.5))
    return Case(moment.strftime(written), hour)


def _typed(draw: random.Random, zone: str) -> Any:
    moment = _moment(draw, zone)
    kind = draw.randrange(4)
    if kind == 0:
        return moment.date()
    if kind == 1:
        return moment.replace(tzinfo=UTC)
    return pd.Timestamp(moment) if kind == 2 else moment


def _damage(draw: random.Random, text: str) -> str:
    at = draw.randrange(len(text))
    return text[:at] + draw.choice(("", draw.choice(ALPHABET), text[at] * 2)) + text[at + 1 :]


def reference_time(time: EventTime, case: Case) -> int | None:
    """Milliseconds since 1970 that a case means, or None if it has to be rejected."""
    found = _reference_clock(time, case.value)
    if found is None or not 1970 <= found[0].year <= 2199:
        return None
    clock, offset, has_time = found
    if time.hour is not None and case.hour not in (None, ""):
        hour = float(case.hour)
        if hour not in range(24):
            return None
        if not has_time or clock == clock.normalize():
            clock, has_time = clock.normalize() + pd.Timedelta(hours=int(hour)), True
        elif clock.hour != hour:
            return None
    elif time.hour is not None and not has_time:
        return None
    if offset is not None:
        instant = clock.tz_localize(UTC) - offset
    else:
        local = _localized(clock, time, has_time)
        if local is None:
            return None
        instant = local.tz_convert(UTC)
    ms = round(int(instant.as_unit("ns").value) / 1_000_000)
    return ms if 0 <= ms < 7_258_118_400_000 else None


@cache
def _zone(name: str) -> ZoneInfo:
    """The zone by the package tzdata: pandas would take the machine's own files first, which have another age."""
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def _localized(clock: pd.Timestamp, time: EventTime, has_time: bool) -> pd.Timestamp | None:
    zone = _zone(time.zone)
    if not has_time:  # the first instant of the day; pandas' own `shift_forward` is wrong where the offset changes
        found = clock.tz_localize(zone, nonexistent="NaT", ambiguous=True)
        if found is not pd.NaT:
            return found
        minutes = pd.date_range(clock.tz_localize(UTC) - pd.Timedelta(hours=15), periods=30 * 60, freq="min")
        within = [minute for minute in minutes.tz_convert(zone) if minute.date() == clock.date()]
        return within[0] if within else None
    ambiguous: Any = {"reject": "NaT", "earlier": True, "later": False}[time.repeated_hour]
    found = clock.tz_localize(zone, nonexistent="NaT", ambiguous=ambiguous)
    return None if found is pd.NaT else found


def _reference_clock(time: EventTime, value: Any) -> tuple[pd.Timestamp, pd.Timedelta | None, bool] | None:
    unit = next((name for name in time.formats if name in UNITS), None)
    if unit and not isinstance(value, date):
        return _reference_number(unit, value)
    if isinstance(value, datetime):
        return pd.Timestamp(value.replace(tzinfo=None)), _shift(value), True
    if isinstance(value, date):
        return pd.Timestamp(value), None, False
    value = value.strip()
    for form in time.formats:
        try:
            moment = datetime.strptime(re.sub(r"(\.\d{6})\d{1,3}", r"\1", value) if "%f" in form else value, form)
        except ValueError:
            continue
        return pd.Timestamp(moment.replace(tzinfo=None)), _shift(moment), "%H" in form or "%I" in form
    return _reference_iso(value.upper())


def _reference_iso(text: str) -> tuple[pd.Timestamp, pd.Timedelta | None, bool] | None:
    try:
        if match := re.fullmatch(r"(\d{4}-?\d\d-?\d\d)(Z|[+-]\d\d:?\d\d)?", text):
            offset = datetime.strptime(match[2], "%z") if match[2] else None
            return pd.Timestamp(date.fromisoformat(match[1])), offset and _shift(offset), False
        if re.fullmatch(r"\d{4}-?W\d\d-?\d", text):
            return pd.Timestamp(date.fromisoformat(text)), None, False
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return pd.Timestamp(moment.replace(tzinfo=None)), _shift(moment), True


def _reference_number(unit: str, value: Any) -> tuple[pd.Timestamp, pd.Timedelta | None, bool] | None:
    number = Decimal(value.replace(",", ".")) if isinstance(value, str) else Decimal(str(value))
    ms = round(number * (86_400_000 if unit == "excel" else Decimal(str(UNITS[unit]))))
    days, part_ms = divmod(ms, 86_400_000)
    if not -1 < days < 200_000:
        return None
    origin = "1899-12-30" if unit == "excel" else "1970-01-01"
    clock = pd.to_datetime(int(days), unit="D", origin=origin) + pd.Timedelta(part_ms, unit="ms")
    if not 1971 <= clock.year <= 2199:
        return None
    return clock, pd.Timedelta(0) if unit != "excel" else None, unit != "excel" or clock != clock.normalize()


def _shift(moment: datetime) -> pd.Timedelta | None:
    offset = moment.utcoffset()
    return None if offset is None else pd.Timedelta(offset)


if __name__ == "__main__":
    count = int(sys.argv[1])
    found = differences(count, 0)
    print(f"times: {count:,} values, {len(found)} read otherwise than the reference", *found[:20], sep="\n")
    sys.exit(bool(found))
