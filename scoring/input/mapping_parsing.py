"""Parsing of mappings: objects, and texts such as `{'model': 2020; 'os': 'WEB'}`. Pure."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from scoring.input.value_parsing import CACHE_SIZE, Fault, Faults, Raw, distinct_texts, text_of

MAX_MAPPING_LENGTH = 1_000

# Possessive quantifiers (`*+`) do not backtrack: otherwise `{` and a thousand spaces would take a million steps.
_PAIR = r"""(?:'(\w{1,50}+)'|"(\w{1,50}+)"|(\w{1,50}+))\s*+:\s*+(?:'([^']*+)'|"([^"]*+)"|([^'"{}\[\];,\s]++))"""
_PAIRS = re.compile(_PAIR)
_UNCAPTURED = re.sub(r"\((?!\?)", "(?:", _PAIR)
_MAPPING = re.compile(rf"\{{\s*+(?:{_UNCAPTURED}(?:\s*+[;,]\s*+{_UNCAPTURED})*+)?+\s*+\}}")
_ABSENT: dict[str, Any] = {}  # the mapping of a missing value


def parse_mappings(
    values: Raw, keys: Sequence[str], missing: frozenset[str], *, required: bool = False
) -> tuple[dict[str, list[Any]], Faults]:
    """Parse a column of mappings to one raw column per key; accepts objects and `{'model': 2020; 'os': 'WEB'}`.

    required: a missing mapping is a fault.
    """
    known = distinct_texts(values, MAX_MAPPING_LENGTH, lambda text: _mapping_of_text(text, missing))
    if known is None or Fault in map(type, known.values()):
        rows = [_mapping(value, missing) for value in values]
    elif required and _ABSENT in known.values():
        rows = [known[value] for value in values]
    else:
        return {key: [known[value].get(key) for value in values] for key in keys}, {}
    faults: Faults = {}
    for i, row in enumerate(rows):
        if type(row) is Fault:
            faults[i] = row
        elif required and row is _ABSENT:
            faults[i] = Fault("missing-field", values[i], "an object")
    found = [_ABSENT if isinstance(row, Fault) else row for row in rows]
    return {key: [row.get(key) for row in found] for key in keys}, faults


def mapping_keys(value: Any, missing: frozenset[str]) -> tuple[str, ...]:
    """Keys of a mapping, as an object or as text; none for any other value."""
    found = _mapping(value, missing)
    return () if isinstance(found, Fault) else tuple(found)


def _mapping(value: Any, missing: frozenset[str]) -> dict[str, Any] | Fault:
    if type(value) is dict:
        return value
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            return Fault("wrong-type", value, "text in UTF-8")
    if isinstance(value, str):
        if len(value) > MAX_MAPPING_LENGTH:
            return Fault("too-long", value, f"at most {MAX_MAPPING_LENGTH} characters")
        return _mapping_of_text(value, missing)
    text = text_of(value)
    if text is None:
        return _ABSENT
    code = "wrong-type" if isinstance(text, Fault) else "malformed-mapping"
    return Fault(code, value, "an object, or text such as {'key': 'value'}")


@lru_cache(CACHE_SIZE)
def _mapping_of_text(text: str, missing: frozenset[str]) -> dict[str, str | None] | Fault:
    stripped = text.strip()
    if stripped in missing:
        return _ABSENT
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
