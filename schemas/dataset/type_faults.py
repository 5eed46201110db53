"""Type faults of a TOML file, with the field, profile or rule they are in instead of a position. Pure."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from schemas.dataset.fields import CsvForm, Declaration, EventTimeForm, Field, MappingEntry
from schemas.dataset.profiles import ProfileForm
from schemas.dataset.value_formats import LabelValues

# Tables of a file by their path, and the key that names a table of a list.
Tables = Mapping[str, tuple[type[msgspec.Struct], str]]
_DECLARATION: Tables = {
    "": (Declaration, ""),
    "csv": (CsvForm, ""),
    "event_time": (EventTimeForm, ""),
    "label_values": (LabelValues, ""),
    "fields": (Field, "name"),
    "fields.entries": (MappingEntry, "name"),
    "profiles": (ProfileForm, "entity"),
}
_NOUNS = {"fields": "field", "entries": "entry", "profiles": "profile", "rules": "rule"}
_TYPES = {
    "`object`": "a table",
    "`array`": "a list",
    "`str`": "a text in quotation marks",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "true or false",
    "`null`": "nothing",
    "`datetime`": "a date",
}
_MESSAGE = re.compile(r"(.*?)(?: - at `(?:key in )?\$(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_ABSENT = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_CHOICE = re.compile(r"Invalid enum value ('.*')", re.DOTALL)
_EXPECTED = re.compile(r"Expected (`.*`), got (`\w+`)")


def type_fault(message: str, values: Mapping[str, Any], tables: Tables = _DECLARATION) -> str:
    """A type fault in one line. message: msgspec's; values: the file's content, for the names of its tables.

    tables: those of the file; by default, of a declaration.

    >>> type_fault("Invalid enum value 'amount' - at `$.fields[0].kind`", {"fields": [{"name": "price"}]})
    "field 'price', kind: 'amount' is not one of number, boolean, category, mapping"
    """
    match = _MESSAGE.fullmatch(message)
    assert match is not None
    what, path = match[1], match[2] or ""
    places, table = _places(path, values, tables)
    if (unknown := _UNKNOWN.fullmatch(what)) is not None:
        what = _unknown_key(unknown[1], tables[table][0])
    elif (absent := _ABSENT.fullmatch(what)) is not None:
        what = f"{absent[1]!r} is missing"
    elif (expected := _EXPECTED.fullmatch(what)) is not None:
        wanted = " or ".join(_TYPES.get(f"`{t}`", t) for t in expected[1].strip("`").split(" | ") if t != "null")
        what = f"must be {wanted}, and is {_TYPES.get(expected[2], expected[2])}"
    elif (choice := _CHOICE.fullmatch(what)) is not None:
        choices = _choices(get_type_hints(tables[table][0]).get(places[-1] if places else ""))
        what = f"{choice[1]} is not one of {', '.join(choices)}"
    else:
        what = what[:1].lower() + what[1:]
    return f"{', '.join(places)}: {what}" if places else what


def _places(path: str, values: Any, tables: Tables) -> tuple[list[str], str]:
    """The steps of a path in words, and the path of the table that it ends in."""
    places: list[str] = []
    table = ""
    noun = ""
    for key, index in _STEP.findall(path):
        if key:
            values = values.get(key) if isinstance(values, Mapping) else None
            inner = f"{table}.{key}" if table else key
            table = inner if inner in tables else table
            noun = _NOUNS.get(key, "") if inner in tables else ""
            places.append(key)
        elif noun and index.isdigit():
            values = values[int(index)] if isinstance(values, list) and int(index) < len(values) else None
            name = values.get(tables[table][1]) if isinstance(values, Mapping) else None
            number = int(index) + 1
            named = f"{noun} {name!r}" if noun != "profile" else f"profile {number} ({name!r})"
            places[-1] = named if isinstance(name, str) else f"{noun} {number}"
            noun = ""
    return places, table


def _unknown_key(key: str, table: type[msgspec.Struct]) -> str:
    known = table.__struct_fields__
    close = get_close_matches(key, known, n=1, cutoff=0.6)
    meant = f"; did you mean {close[0]!r}?" if close else "."
    return f"unknown key {key!r}{meant} Known are {', '.join(known)}"


def _choices(hint: Any) -> tuple[str, ...]:
    """The values that a type allows; empty if it is no choice."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next(filter(None, map(_choices, get_args(hint))), ())
