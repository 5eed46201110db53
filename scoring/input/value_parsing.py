"""Parsing of raw columns to typed columns. Pure. An invalid value is a `Fault` of its row and does not affect others.

Raw values are JSON values (strings, numbers, booleans, null, lists, objects) or the strings of a CSV file. Each parser
has a fast path for a whole column and a general path per value. All caches are bounded, so that a hostile stream of
unique strings costs time but no memory.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from scoring.arrays import Floats, Objects

MAX_TEXT_LENGTH = 200
MAX_MAPPING_LENGTH = 1_000
CACHE_SIZE = 8_192
MAX_SHOWN_LENGTH = 100

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_NUMBERS = re.compile(r"[0-9.,+\-eE\n]*")
# Possessive quantifiers (`*+`) do not backtrack: otherwise `{` and a thousand spaces would take a million steps.
_PAIR = r"""(?:'(\w{1,50}+)'|"(\w{1,50}+)"|(\w{1,50}+))\s*+:\s*+(?:'([^']*+)'|"([^"]*+)"|([^'"{}\[\];,\s]++))"""
_PAIRS = re.compile(_PAIR)
_UNCAPTURED = re.sub(r"\((?!\?)", "(?:", _PAIR)
_MAPPING = re.compile(rf"\{{\s*+(?:{_UNCAPTURED}(?:\s*+[;,]\s*+{_UNCAPTURED})*+)?+\s*+\}}")
_TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}

Raw = Sequence[Any]


class Fault(NamedTuple):
    """An invalid value: becomes the `Rejection` of its row."""

    code: str  # of the rejection
    value: Any  # the raw value
    expected: str  # which values are accepted


Faults = dict[int, Fault]


def format_value(value: Any) -> str:
    """Format a raw value for a message, in at most `MAX_SHOWN_LENGTH` characters. Does not raise."""
    if isinstance(value, bytes):
        text = value[: 4 * MAX_SHOWN_LENGTH].decode("utf-8", "replace")
    elif isinstance(value, str):
        text = value
    else:
        try:
            text = msgspec.json.encode(value).decode()
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
            text = type(value).__name__
    return text if len(text) <= MAX_SHOWN_LENGTH else text[: MAX_SHOWN_LENGTH - 1] + "…"


def distinct_texts(values: Raw, longest: int, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    """Parse each distinct string once; None if not all values are strings of at most `longest` characters."""
    try:
        distinct = set(values)
    except TypeError:  # an object or a list
        return None
    if not distinct or any(type(value) is not str or len(value) > longest for value in distinct):
        return None
    return {value: parse(value) for value in distinct}


def parse_numbers(
    values: Raw, missing: frozenset[str], low: float | None = None, high: float | None = None
) -> tuple[Floats, Faults]:
    """Parse a column of numbers: float64, shape (n,), NaN if missing.

    low, high: inclusive bounds. The decimal separator is a comma or a point; thousands separators are invalid.
    """
    faults: Faults = {}
    parsed = _numbers_at_once(values)
    if parsed is None:
        parsed = np.empty(len(values))
        for i, value in enumerate(values):
            found = _number(value, missing)
            if type(found) is float:
                parsed[i] = found
            else:
                parsed[i] = math.nan
                faults[i] = found  # type: ignore[assignment]
    for limit, outside, word in ((low, np.less, "at least"), (high, np.greater, "at most")):
        if limit is not None:
            for i in np.flatnonzero(outside(parsed, limit)).tolist():
                faults.setdefault(i, Fault("out-of-range", values[i], f"a number of {word} {limit:g}"))
    return parsed, faults


def _numbers_at_once(values: Raw) -> Floats | None:
    try:
        joined = "\n".join(values)
    except TypeError:  # not all of them are strings
        return None
    if max(map(len, values), default=0) > MAX_TEXT_LENGTH or not _NUMBERS.fullmatch(joined):
        return None
    try:
        parsed = np.array(list(map(float, joined.replace(",", ".").split("\n"))))
    except ValueError:
        return None
    # The length differs if a string contains a line break. A number is infinite for a string such as 1e999.
    return parsed if len(parsed) == len(values) and np.isfinite(parsed).all() else None


def _number(value: Any, missing: frozenset[str]) -> float | Fault:
    wanted = "a finite number such as 12.5 or 12,5"
    if value is None:
        return math.nan
    kind = type(value)
    if kind is str:
        text = value.strip()
        if text in missing:
            return math.nan
        if len(text) > MAX_TEXT_LENGTH or not _NUMBER.fullmatch(text):
            return Fault("not-a-number", value, wanted)
        value = float(text.replace(",", "."))
    elif kind is int:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    elif kind is not float:
        return Fault("wrong-type", value, wanted)
    return value if math.isfinite(value) else Fault("not-a-number", value, wanted)


def parse_booleans(values: Raw, missing: frozenset[str]) -> tuple[Floats, Faults]:
    """Parse a column of booleans: float64 of 0 and 1, shape (n,), NaN if missing."""
    known = distinct_texts(values, MAX_TEXT_LENGTH, lambda text: _truth_of_text(text, missing))
    if known is not None and None not in known.values():
        return np.array([known[value] for value in values], dtype=np.float64), {}
    faults: Faults = {}
    parsed = np.empty(len(values))
    for i, value in enumerate(values):
        found = _truth(value, missing)
        if found is None:
            found = math.nan
            code = "not-a-boolean" if isinstance(value, str | int | float) else "wrong-type"
            faults[i] = Fault(code, value, "true or false")
        parsed[i] = found
    return parsed, faults


def _truth(value: Any, missing: frozenset[str]) -> float | None:
    if value is None:
        return math.nan
    if isinstance(value, str):
        return _truth_of_text(value, missing) if len(value) <= MAX_TEXT_LENGTH else None
    if isinstance(value, bool) or (type(value) in (int, float) and value in (0, 1)):
        return float(value)
    return None


@lru_cache(CACHE_SIZE)
def _truth_of_text(text: str, missing: frozenset[str]) -> float | None:
    stripped = text.strip()
    return math.nan if stripped in missing else _TRUTH.get(stripped.casefold())


def parse_categories(values: Raw, missing: frozenset[str]) -> tuple[Objects, Faults]:
    """Parse a column of category levels: canonical strings, shape (n,), None if missing."""
    known = distinct_texts(values, MAX_TEXT_LENGTH, lambda text: canonical_level(text, missing))
    if known is not None:
        return as_objects([known[value] for value in values]), {}
    faults: Faults = {}
    parsed: list[str | None] = []
    keep = parsed.append
    for i, value in enumerate(values):
        if type(value) is str:
            if len(value) > MAX_TEXT_LENGTH:
                faults[i] = Fault("too-long", value, f"at most {MAX_TEXT_LENGTH} characters")
                keep(None)
            else:
                keep(canonical_level(value, missing))
        else:
            if value is not None:
                faults[i] = Fault("wrong-type", value, "text")
            keep(None)
    return as_objects(parsed), faults


@lru_cache(CACHE_SIZE)
def canonical_level(text: str, missing: frozenset[str]) -> str | None:
    """Canonical form of a category level: stripped, repaired, in Unicode NFC; None if it means a missing value.

    >>> canonical_level(" FÃ\\xadsica", frozenset())
    'Física'
    """
    text = unicodedata.normalize("NFC", repair_encoding(text.strip()))
    return None if text in missing else text


def repair_encoding(text: str) -> str:
    """Repair mojibake: undo UTF-8 that was decoded as Latin-1 or Windows-1252; other text is unchanged.

    >>> repair_encoding("FÃ\\xadsica"), repair_encoding("Física")
    ('Física', 'Física')
    """
    if text.isascii():
        return text
    for encoding in ("latin-1", "cp1252"):
        try:
            return text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return text


def parse_mappings(values: Raw, keys: Sequence[str], missing: frozenset[str]) -> tuple[dict[str, list[Any]], Faults]:
    """Parse a column of mappings to one raw column per key; accepts objects and `{'model': 2020; 'os': 'WEB'}`."""
    known = distinct_texts(values, MAX_MAPPING_LENGTH, lambda text: _mapping_of_text(text, missing))
    if known is not None and Fault not in map(type, known.values()):
        return {key: [known[value].get(key) for value in values] for key in keys}, {}
    faults: Faults = {}
    rows: list[Any] = []
    for i, value in enumerate(values):
        row = value
        if type(value) is str:
            row = _mapping_of_text(value, missing) if len(value) <= MAX_MAPPING_LENGTH else _too_long_mapping(value)
        elif value is None:
            row = {}
        elif type(value) is not dict:
            row = Fault("wrong-type", value, "an object, or text such as {'key': 'value'}")
        if type(row) is Fault:
            faults[i] = row
            row = {}
        rows.append(row)
    return {key: [row.get(key) for row in rows] for key in keys}, faults


def _too_long_mapping(value: str) -> Fault:
    return Fault("too-long", value, f"at most {MAX_MAPPING_LENGTH} characters")


@lru_cache(CACHE_SIZE)
def _mapping_of_text(text: str, missing: frozenset[str]) -> dict[str, str | None] | Fault:
    stripped = text.strip()
    if stripped in missing:
        return {}
    if not _MAPPING.fullmatch(stripped):
        return Fault("malformed-mapping", text, "an object, or text such as {'key': 'value'; 'other': 3}")
    found: dict[str, str | None] = {}
    for match in _PAIRS.finditer(stripped):
        key = match[1] or match[2] or match[3]
        if key in found:
            return Fault("duplicate-key", text, f"{key!r} once")
        bare = match[6]
        quoted = match[4] if match[4] is not None else match[5]
        found[key] = None if bare in ("None", "null") else quoted if bare is None else bare
    return found


def as_objects(values: Sequence[Any]) -> Objects:
    """One-dimensional object array, also if the values are sequences."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
