"""Decimal marks, grouping marks, currency and percent signs of a column's texts. Pure."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

from schemas.dataset.value_formats import APOSTROPHES, SPACES

CURRENCIES = (
    "AED|ARS|AUD|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|"
    "KRW|MXN|MYR|NGN|NOK|NZD|PEN|PHP|PLN|RON|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR|"
    "kr|zł|Kč|Ft|Fr|Rs|RM"
)
CURRENCY = re.compile(CURRENCIES)
_SPACE, _APOSTROPHE = "".join(SPACES), "".join(APOSTROPHES)
_MINUS = "\\-\u2212\ufe63\uff0d\u2010\u2011\u2012\u2013"
_NUMBER = re.compile(
    rf"[+{_MINUS}]?\s*(?P<before>[^\d\s.,+{_MINUS}%]*)\s*[+{_MINUS}]?"
    rf"(?P<body>(?:\d[\d.,{_SPACE}{_APOSTROPHE}]*|[.,]\d+)(?<![{_SPACE}{_APOSTROPHE}]))(?P<exponent>[eE][+-]?\d{{1,3}})?"
    rf"\s*(?P<after>[^\d\s.,+{_MINUS}]*)"
)
_FOLD = str.maketrans(dict.fromkeys(SPACES, " ") | dict.fromkeys(APOSTROPHES, "'"))


class NumberMarks(NamedTuple):
    """What the texts of one column say about its numbers."""

    numbers: int  # texts that are numbers
    others: Counter[str]  # texts that are not
    decides: dict[str, int]  # decimal mark -> texts that allow only this one
    grouping: dict[str, int]  # grouping mark -> texts that have it for certain
    ambiguous: dict[str, int]  # mark -> texts such as 1.080
    examples: dict[str, str]  # decimal mark -> a text
    ambiguous_examples: dict[str, str]  # mark -> a text
    currency: tuple[str, ...]
    percent: int  # texts with a percent sign
    normalize: bool  # full-width digits or typographic minus signs
    exponents: int
    is_whole: bool  # no text has a fraction
    leading_zero: str | None  # a text such as 02139

    @property
    def verdict(self) -> Literal["none", "decided", "either", "ambiguous", "contradictory"]:
        """What the texts decide by themselves about the decimal mark."""
        if len(self.decides) == 1:
            return "decided"
        if len(self.decides) > 1:
            return "contradictory" if self.grouping or self.ambiguous else "either"
        return "ambiguous" if self.ambiguous else "none"

    def grouping_with(self, decimal: str) -> str | None:
        """The grouping mark, when the decimal mark is known: an ambiguous text with the other mark has groups."""
        certain = [mark for mark in self.grouping if mark != decimal]
        return next(iter([*certain, *(mark for mark in self.ambiguous if mark != decimal)]), None)


def infer_marks(texts: Mapping[str, int]) -> NumberMarks:
    """Classify the texts of a column. texts: stripped text -> rows; none of them means missing.

    >>> found = infer_marks({"1.080,50": 1, "25,000": 2})
    >>> found.decides, found.grouping, found.ambiguous
    ({',': 1}, {'.': 1}, {',': 2})
    """
    decides: Counter[str] = Counter()
    grouping: Counter[str] = Counter()
    ambiguous: Counter[str] = Counter()
    signs: Counter[str] = Counter()
    others: Counter[str] = Counter()
    examples: dict[str, str] = {}
    ambiguous_examples: dict[str, str] = {}
    numbers = percent = exponents = fractions = 0
    normalize, leading_zero = False, None
    for text, rows in texts.items():
        match = _NUMBER.fullmatch(text)
        found = (
            None if match is None else _reading(match["body"].translate(_FOLD), has_exponent=bool(match["exponent"]))
        )
        affixes = [] if match is None else [sign for sign in (match["before"], match["after"]) if sign]
        if match is None or found is None or not all(map(_is_sign, affixes)):
            others[text] += rows
            continue
        numbers += rows
        decimal, group, unclear = found
        for counts, mark in ((decides, decimal), (grouping, group), (ambiguous, unclear)):
            if mark is not None:
                counts[mark] += rows
        for kept, mark in ((examples, decimal), (ambiguous_examples, unclear)):
            if mark is not None:
                kept.setdefault(mark, text)
        fractions += decimal is not None
        exponents += rows if match["exponent"] else 0
        percent += rows if "%" in affixes else 0
        signs.update(sign for sign in affixes if sign != "%")
        normalize |= not text.isascii() and unicodedata.normalize("NFKC", text.replace("\u2212", "-")) != text
        if leading_zero is None and re.fullmatch(r"0\d+", match["body"]):
            leading_zero = text
    implied = {"." if mark == "," else ",": n for mark, n in grouping.items() if mark in ".,"}
    for mark, rows in implied.items():
        decides[mark] = max(decides[mark], rows)
    is_whole = not fractions and not decides and not ambiguous
    return NumberMarks(
        numbers=numbers,
        others=others,
        decides=dict(decides),
        grouping=dict(grouping),
        ambiguous=dict(ambiguous),
        examples=examples,
        ambiguous_examples=ambiguous_examples,
        currency=tuple(signs),
        percent=percent,
        normalize=normalize,
        exponents=exponents,
        is_whole=is_whole,
        leading_zero=leading_zero,
    )


def _is_sign(text: str) -> bool:
    return text == "%" or bool(CURRENCY.fullmatch(text)) or any(unicodedata.category(c) == "Sc" for c in text)


def _reading(body: str, *, has_exponent: bool) -> tuple[str | None, str | None, str | None] | None:
    """Decimal mark, grouping mark and ambiguous mark of a number; None if it is no number."""
    marks = [c for c in body if not c.isdigit()]
    if not marks:
        return None, None, None
    *first, last = marks
    kinds = set(marks)
    if len(kinds) == 1 and last in " '":
        return (None, last, None) if _grouped(body.split(last)) else None
    if len(kinds) == 1 and not first:
        before, after = body.split(last)
        unclear = not has_exponent and 1 <= len(before) <= 3 and before[0] != "0" and len(after) == 3
        return (None, None, last) if unclear else (last, None, None)
    if len(kinds) == 1:
        return (None, last, None) if _grouped(body.split(last)) else None
    group = first[0]
    if last in " '" or len(kinds) > 2 or last in first:
        return None
    return (last, group, None) if _grouped(body.partition(last)[0].split(group)) else None


def _grouped(groups: list[str]) -> bool:
    return 1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])
