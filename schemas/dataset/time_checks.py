"""Checks of the event time's declaration: formats that cannot be read or that contradict each other, and the zone."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib import resources
from itertools import combinations

from schemas.dataset.fields import EventTimeForm
from schemas.dataset.time_formats import (
    EPOCHS,
    NUMERIC_FORMATS,
    OFFSETS,
    ROLES,
    compile_format,
    conflicting_reading,
    directives,
    parse_iso,
)

UTC = "UTC"  # needs no zone file
_ABBREVIATION = re.compile(r"(?<![A-Za-z])(?!UTC$|GMT$)[A-Z]{3,4}$")  # of a zone, at the end of a format
_DIGITS_ONLY = re.compile(r"(?:%[YymdjHIMSf]|[.,])+")


def time_faults(time: EventTimeForm) -> Iterator[str]:
    """Contradictions in the declaration of the event time."""
    if not time.formats:
        yield "the event time needs at least one format"
    numeric = [name for name in time.formats if name in NUMERIC_FORMATS]
    texts = [text for text in time.formats if text not in NUMERIC_FORMATS]
    if len(numeric) > 1:
        yield f"formats may have one of {', '.join(NUMERIC_FORMATS)}, not {' and '.join(numeric)}"
    sound = sound_formats(time.formats, time.zone)
    for text in texts:
        yield from _format_faults(text, time.zone)
    for a, b in combinations(map(compile_format, sound), 2):
        if example := conflicting_reading(a, b) or conflicting_reading(b, a):
            yield f"{a.text!r} and {b.text!r} read {example!r} as two different times; declare the one that is meant"
    for text in texts:
        if numeric and _DIGITS_ONLY.fullmatch(text):
            yield f"{text!r} and {numeric[0]!r} both match digits only; declare the one that is meant"
    counts = any(name in OFFSETS for name in numeric)
    if counts != (time.origin is not None):
        yield f'{" and ".join(OFFSETS)} need an origin, such as origin = "2020-01-01"; other formats have none'
    if time.origin is not None and parse_iso(time.origin) is None:
        yield f"origin {time.origin!r} is no date or time of ISO 8601"
    yield from _zone_faults(time.zone)
    if time.hour and numeric and numeric[0] != "excel" and time.zone != UTC:
        yield f'{numeric[0]!r} is in UTC, so the hour field {time.hour!r} needs zone = "UTC"; or leave out the hour'


def sound_formats(formats: Iterable[str], zone: str) -> list[str]:
    """The formats of texts that have no fault of their own."""
    return [text for text in formats if text not in NUMERIC_FORMATS and next(_format_faults(text, zone), None) is None]


def _format_faults(text: str, zone: str) -> Iterator[str]:
    found = directives(text)
    for directive in found:
        if directive not in ROLES:
            known = " ".join(f"%{d}" for d in ROLES)
            yield f"format {text!r} has the unknown directive {'%' + directive!r}; known are {known} %%"
    roles = [ROLES[d] for d in found if d in ROLES]
    for role in dict.fromkeys(roles):
        if roles.count(role) > 1:
            yield f"format {text!r} states the {role.replace('_', ' ')} more than once"
    states = set(roles)
    if "year" not in states or not ({"month", "day"} <= states or "day_of_year" in states):
        names = ", ".join(EPOCHS)
        yield f"format {text!r} needs directives of year, month and day, such as '%d/%m/%Y'; or declare one of {names}"
    if "day_of_year" in states and {"month", "day"} & states:
        yield f"format {text!r} states the day of the year, so it may not state a month or a day"
    if ("I" in found) != ("half" in states):
        yield f"format {text!r} needs %I and %p together, or %H"
    if {"minute", "second", "fraction"} & states and "hour" not in states:
        yield f"format {text!r} has minutes or seconds but no hour (%H)"
    if zone == UTC and (abbreviation := _ABBREVIATION.search(text)) and text[: abbreviation.start()][-1:] != "%":
        yield f"format {text!r} ends with {abbreviation[0]!r}; set zone to the time zone that it means"


def _zone_faults(zone: str) -> Iterator[str]:
    if zone == UTC or zone in zone_names():
        return
    close = get_close_matches(zone, zone_names(), n=1, cutoff=0.7)
    remedy = f"did you mean {close[0]!r}?" if close else "give a name such as 'America/Mexico_City'"
    yield f"zone {zone!r} is no IANA time zone; {remedy}"


@cache
def zone_names() -> tuple[str, ...]:
    """Names of all IANA time zones, from the package tzdata; the machine's own files vary."""
    return tuple((resources.files("tzdata") / "zones").read_text(encoding="utf-8").split())
