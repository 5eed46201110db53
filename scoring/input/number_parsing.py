"""Parsing of numbers: texts in the format that their column declares, and typed numbers. Pure.

A text is a number in the declared format or a fault. Where no marks are declared, a text that has two meanings, such as
`1.080`, is a fault too.
"""

import math
import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from schemas.dataset.value_formats import APOSTROPHES, SPACES, NumberFormat
from scoring.arrays import Floats
from scoring.input.value_parsing import MAX_TEXT_LENGTH, Fault, Faults, Raw, text_of, without_zero_decimal

MAX_NUMBER = float(np.finfo(np.float32).max)  # the feature matrix is float32
MAX_NUMBER_DIGITS = 39

MIN_PART = 16  # texts; fewer are parsed one by one

UNDECLARED = NumberFormat()

_NORMALIZED = str.maketrans("０１２３４５６７８９．，＋－−﹣‒–％", "0123456789.,+-----%")
_SPACES = f"[{''.join(SPACES)}]*+"
_AMBIGUOUS = r"[+-]?[1-9]\d{0,2}[.,]\d{3}"
_AMBIGUOUS_TEXT = re.compile(_AMBIGUOUS, re.ASCII)
_AMBIGUOUS_LINE = re.compile(rf"\n{_AMBIGUOUS}(?=\n)", re.ASCII)
_ANY_MARK = f"[.,{''.join(SPACES + APOSTROPHES)}]"
_GROUPED = re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:{_ANY_MARK}\d{{3}})+(?:[.,]\d*)?", re.ASCII)  # in one format or another


def parse_numbers(
    values: Raw,
    missing: frozenset[str],
    low: float | None = None,
    high: float | None = None,
    number_format: NumberFormat = UNDECLARED,
) -> tuple[Floats, Faults]:
    """Parse a column of numbers: float64, shape (n,), NaN if missing, otherwise finite as float32.

    low, high: inclusive bounds. number_format: of texts; typed numbers need none.
    """
    grammar = _grammar(number_format)
    faults: Faults = {}
    parsed = _column_at_once(values, missing, grammar)
    if parsed is None:
        parsed, others = _plain_values(values, missing, grammar)
        for i in others:
            found = _number(values[i], missing, grammar)
            if type(found) is float:
                parsed[i] = found
            else:
                faults[i] = found  # type: ignore[assignment]
    for limit, outside, word in ((low, np.less, "at least"), (high, np.greater, "at most")):
        if limit is not None:
            for i in np.flatnonzero(outside(parsed, limit)).tolist():
                faults.setdefault(i, Fault("out-of-range", values[i], f"a number of {word} {limit:g}"))
    return parsed, faults


class _Grammar(NamedTuple):
    """The texts of one format, compiled."""

    format: NumberFormat
    text: re.Pattern[str]  # one number
    column: re.Pattern[str]  # numbers, each on its line; without extra signs a superset, of which `float` rejects more
    signs: re.Pattern[str] | None  # currency or percent signs around a number; its group is kept
    removed: dict[int, None]  # grouping marks
    expected: str


@lru_cache(256)
def _grammar(form: NumberFormat) -> _Grammar:
    marks = {".": r"\.", ",": ","}.get(form.decimal or "", "[.,]")
    group = _variants(form.thousands)
    digits = rf"(?:[1-9]\d{{0,2}}(?:[{group}]\d{{3}})++(?!\d)|\d++)" if group else r"\d++"
    number = rf"(?:{digits}(?:{marks}\d*+)?|{marks}\d++)(?:[eE][+-]?\d++)?"
    signed = rf"[+-]?{number}"
    signs = None
    if form.percent:
        signed += rf"{_SPACES}%"
        signs = re.compile(rf"(){_SPACES}%$", re.M)
    elif form.currency:
        sign = "(?:" + "|".join(re.escape(text) for text in sorted(form.currency, key=len, reverse=True)) + ")"
        before = rf"[+-]?{_SPACES}{sign}{_SPACES}{number}|{sign}{_SPACES}[+-]{number}"
        signed = rf"(?:{before}|{signed})(?:{_SPACES}{sign})?"
        signs = re.compile(rf"^([+-]?){_SPACES}{sign}{_SPACES}|{_SPACES}{sign}$", re.M)
    plain = not (group or form.percent or form.currency)
    return _Grammar(
        format=form,
        text=re.compile(signed, re.ASCII),
        column=re.compile(rf"[0-9+\-eE\n{marks.strip('[]')}]*+" if plain else rf"(?:{signed}\n)*+{signed}", re.ASCII),
        signs=signs,
        removed=dict.fromkeys(map(ord, group)),
        expected=_expected(form),
    )


def _variants(thousands: str | None) -> str:
    """The grouping mark and the characters that are written for it."""
    return next(("".join(kinds) for kinds in (SPACES, APOSTROPHES) if thousands in kinds), thousands or "")


def _expected(form: NumberFormat) -> str:
    if form.decimal in (None, "either") and not (form.currency or form.percent):
        return "a finite number such as 12.5 or 12,5"
    mark = "," if form.decimal == "," else "."
    example = f"1{form.thousands}080{mark}5" if form.thousands else f"12{mark}5"
    if form.percent:
        example += " %"
    keys = {"decimal": form.decimal, "thousands": form.thousands, "percent": form.percent}
    declared = [f'{key} = "{value}"' for key, value in keys.items() if value]
    if form.currency and not form.percent:
        declared.append(f"currency = {list(form.currency)}")
    return f"a number such as {example} ({', '.join(declared)})"


@lru_cache(256)
def _numeric_missing(missing: frozenset[str]) -> frozenset[str]:
    """The texts with a digit that mean a missing value."""
    numeric = {text for text in missing if any(c.isdigit() for c in text)}
    return frozenset(numeric | {f"{text}.0" for text in numeric})


def _column_at_once(values: Raw, missing: frozenset[str], grammar: _Grammar) -> Floats | None:
    try:
        lines = "\n".join(values)
    except TypeError:  # not all of them are strings
        return _typed_at_once(values, missing, grammar)
    form = grammar.format
    if form.normalize:
        lines = lines.translate(_NORMALIZED)
    longest = max(map(len, values), default=0)
    if longest > MAX_TEXT_LENGTH or not grammar.column.fullmatch(lines):
        return None
    if (numeric := _numeric_missing(missing)) and (form.normalize or not numeric.isdisjoint(values)):
        return None
    lines = _without_signs(lines, grammar)
    if form.decimal is None and _AMBIGUOUS_LINE.search(f"\n{lines}\n"):
        return None
    try:
        parsed = np.array(_floats(lines, form))
    except ValueError:
        return None
    if len(parsed) != len(values):  # a string contains a line break
        return None
    small = longest < MAX_NUMBER_DIGITS and "e" not in lines and "E" not in lines
    return parsed if small or (np.abs(parsed) <= MAX_NUMBER).all() else None


def _typed_at_once(values: Raw, missing: frozenset[str], grammar: _Grammar) -> Floats | None:
    if not {int, float, NoneType}.issuperset(map(type, values)) or not _typed_is_plain(missing, grammar):
        return None
    try:
        parsed = np.array(values, dtype=np.float64)  # None becomes NaN
    except OverflowError:
        return None
    return parsed if (np.isnan(parsed) | (np.abs(parsed) <= MAX_NUMBER)).all() else None


def _typed_is_plain(missing: frozenset[str], grammar: _Grammar) -> bool:
    """Whether a typed number within the range is always read as itself."""
    return not grammar.format.percent and not _numeric_missing(missing)


def _plain_values(values: Raw, missing: frozenset[str], grammar: _Grammar) -> tuple[Floats, list[int]]:
    """Plain texts, typed numbers and missing values of a column, and the positions of all other values."""
    parsed = np.full(len(values), math.nan)
    texts: list[int] = []
    others: list[int] = []
    bare = _bare(missing)
    typed_is_plain = _typed_is_plain(missing, grammar)
    for i, value in enumerate(values):
        kind = type(value)
        if kind is str:
            if value not in bare:
                texts.append(i)
        elif (kind is float or kind is int) and typed_is_plain and -MAX_NUMBER <= value <= MAX_NUMBER:
            parsed[i] = value
        elif value is not None:
            others.append(i)
    parts = [texts] if texts else []
    while parts:  # one text that needs a closer look does not slow down all others
        part = parts.pop()
        found = _column_at_once([values[i] for i in part], missing, grammar)
        if found is not None:
            parsed[part] = found
        elif len(part) <= MIN_PART:
            others += part
        else:
            parts += [part[: len(part) // 2], part[len(part) // 2 :]]
    return parsed, others


@lru_cache(256)
def _bare(missing: frozenset[str]) -> frozenset[str]:
    """The spellings of missing that have no spaces around them: a text is looked up without its own."""
    return frozenset(text for text in missing if text == text.strip())


def _without_signs(lines: str, grammar: _Grammar) -> str:
    """Lines that match the grammar, without currency and percent signs and grouping marks."""
    if grammar.signs is not None:
        lines = grammar.signs.sub(r"\1", lines)
    return lines.translate(grammar.removed) if grammar.removed else lines


def _floats(lines: str, form: NumberFormat) -> list[float]:
    if form.decimal != ".":
        lines = lines.replace(",", ".")
    texts = lines.split("\n")
    return list(map(float, map(_hundredth, texts) if form.percent == "fraction" else texts))


def _hundredth(text: str) -> str:
    """Text of a hundredth of a number, so that it is rounded once."""
    mantissa, _, exponent = text.lower().partition("e")
    return f"{mantissa}e{int(exponent or 0) - 2}"


def _number(value: Any, missing: frozenset[str], grammar: _Grammar) -> float | Fault:
    text = text_of(value)
    if text is None:
        return math.nan
    if isinstance(value, str | bytes):
        if isinstance(text, Fault):
            return text if text.code == "wrong-type" else Fault("not-a-number", value, grammar.expected)
        return _number_of_text(value, text.strip(), missing, grammar)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        code = "wrong-type" if isinstance(text, Fault) else "not-a-number"
        return Fault(code, value, grammar.expected)
    typed = text_of(float(value)) if isinstance(value, Decimal) else text  # -1.00 is the number -1, too
    if isinstance(typed, str) and _means_missing(typed, missing):
        return math.nan
    if grammar.format.percent:
        return Fault("not-a-number", value, f"{grammar.expected}; a number without its sign is not read")
    if text in ("inf", "-inf", "Infinity", "-Infinity"):
        return Fault("not-a-number", value, grammar.expected)
    return float(value) if -MAX_NUMBER <= value <= MAX_NUMBER else _out_of_range(value)


def _number_of_text(value: Any, text: str, missing: frozenset[str], grammar: _Grammar) -> float | Fault:
    form = grammar.format
    plain = text.translate(_NORMALIZED) if form.normalize else text
    if _means_missing(text, missing) or _means_missing(plain, missing):
        return math.nan
    if form.percent and not plain.endswith("%"):
        return Fault("not-a-number", value, grammar.expected)
    bare = _without_signs(plain, grammar)
    valid = grammar.text.fullmatch(plain)
    if form.decimal is None and (_AMBIGUOUS_TEXT if valid else _GROUPED).fullmatch(bare):
        return Fault("ambiguous-number", value, "a number with one meaning; declare decimal and thousands")
    if not valid:
        return Fault("not-a-number", value, grammar.expected + _remedy(text, form))
    (number,) = _floats(bare, form)
    return number if abs(number) <= MAX_NUMBER else _out_of_range(value)


def _means_missing(text: str, missing: frozenset[str]) -> bool:
    return text in missing or without_zero_decimal(text) in missing


def _out_of_range(value: Any) -> Fault:
    return Fault("out-of-range", value, f"a number from {-MAX_NUMBER:.3g} to {MAX_NUMBER:.3g}")


def _remedy(text: str, form: NumberFormat) -> str:
    """The key of the declaration with which a text might be read."""
    keys = []
    if form.decimal is None and "." in text and "," in text:
        keys.append("decimal and thousands")
    if not form.normalize and text.translate(_NORMALIZED) != text:
        keys.append("normalize")
    if not form.percent and "%" in text:
        keys.append("percent")
    if not form.currency and any(unicodedata.category(c) == "Sc" for c in text):
        keys.append("currency")
    return f"; declare {', '.join(keys)}" if keys else ""
