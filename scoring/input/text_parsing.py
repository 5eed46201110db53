"""Parsing of texts in three roles: category levels, keys and transaction ids. Pure.

Numbers, booleans, dates and bytes are read as the text that a CSV file has for them, so that a level, a key or an id
does not depend on the container.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Any

from scoring.arrays import Objects
from scoring.input.value_parsing import (
    CACHE_SIZE,
    MAX_TEXT_LENGTH,
    Fault,
    Faults,
    Raw,
    as_objects,
    distinct_texts,
    text_of,
    without_zero_decimal,
)

MAX_EXACT_FLOAT = 2**53  # above it, not every whole number is a float

_TRUTH = ("true", "false")
# Columns of such texts are identifiers as they are, unless one spells a missing value or a boolean.
_PLAIN_IDENTIFIERS = re.compile(r"[\w:/-]*+", re.ASCII)
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d*)?[eE]\+\d+", re.ASCII)


def parse_categories(values: Raw, missing: frozenset[str]) -> tuple[Objects, Faults]:
    """Parse a column of category levels: canonical strings, shape (n,), None if missing."""
    known = distinct_texts(values, MAX_TEXT_LENGTH, lambda text: canonical_level(text, missing))
    if known is not None:
        return as_objects([known[value] for value in values]), {}
    faults: Faults = {}
    parsed: list[str | None] = []
    for i, value in enumerate(values):
        if value is None:
            parsed.append(None)
            continue
        text = value if type(value) is str and len(value) <= MAX_TEXT_LENGTH else text_of(value)
        if type(text) is Fault:
            faults[i] = text
            text = None
        parsed.append(None if text is None else canonical_level(text, missing))
    return as_objects(parsed), faults


@lru_cache(CACHE_SIZE)
def canonical_level(text: str, missing: frozenset[str]) -> str | None:
    """Canonical form of a category level; None if it means a missing value.

    Stripped, repaired, in Unicode NFC; a whole number without `.0`; true and false in lower case.

    >>> [canonical_level(text, frozenset()) for text in (" FÃ\\xadsica", "7.0", "TRUE")]
    ['Física', '7', 'true']
    """
    text = unicodedata.normalize("NFC", repair_encoding(text.strip()))
    if text in missing:
        return None
    if len(text) <= 5 and (folded := text.casefold()) in _TRUTH:
        text = folded
    text = without_zero_decimal(text)
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


def parse_identifiers(values: Raw, missing: frozenset[str]) -> tuple[list[str | None], Faults]:
    """Parse a column of keys or transaction ids: one text per row, None if missing."""
    if values.count(None) == len(values):
        return [None] * len(values), {}
    if _are_plain(values, missing):
        return list(values), {}
    faults: Faults = {}
    parsed: list[str | None] = []
    for i, value in enumerate(values):
        found = identifier(value, missing)
        if isinstance(found, Fault):
            faults[i] = found
            found = None
        parsed.append(found)
    return parsed, faults


def _are_plain(values: Raw, missing: frozenset[str]) -> bool:
    """Whether all values are texts that `identifier` returns unchanged. May be False for some that are."""
    try:
        joined = "".join(values)
    except TypeError:  # not all of them are strings
        return False
    if not _PLAIN_IDENTIFIERS.fullmatch(joined) or max(map(len, values)) > MAX_TEXT_LENGTH or "" in values:
        return False
    lowered = joined.lower()
    return "true" not in lowered and "false" not in lowered and missing.isdisjoint(values)


def identifier(value: Any, missing: frozenset[str]) -> str | Fault | None:
    """Text of a key or a transaction id; None if it is missing.

    A boolean identifies nothing; nor does a number that has lost digits, as spreadsheets write card numbers.

    >>> identifier(123.0, frozenset()), identifier("NA", frozenset({"NA"})), identifier("4.1E+15", frozenset())[0]
    ('123', None, 'not-an-id')
    """
    text = text_of(value)
    if text is None or isinstance(text, Fault):
        return text
    stripped = text.strip()
    if not stripped or stripped in missing:
        return None
    if stripped.casefold() in _TRUTH:
        return Fault("not-an-id", value, "an id: text or a whole number, not a boolean")
    if _SCIENTIFIC.fullmatch(stripped):
        return Fault("not-an-id", value, "an id with all its digits; export the column as text")
    whole = without_zero_decimal(stripped)
    if whole == stripped:
        return text
    if abs(int(whole)) > MAX_EXACT_FLOAT:
        return Fault("not-an-id", value, "an id with all its digits, not rounded to a float; export the column as text")
    return None if whole in missing else whole
