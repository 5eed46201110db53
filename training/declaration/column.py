"""One column of a sample: its texts, its missing values, its numbers. Pure."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from schemas.dataset.value_formats import APOSTROPHES, SPACES
from scoring.arrays import Floats
from scoring.input.value_parsing import format_value, text_of, without_zero_decimal
from training.declaration.number_marks import NumberMarks, infer_marks
from training.declaration.time_candidates import TimeCandidates, text_candidates

MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "<na>", "(null)", "\\n", "nat", "#null!"))
# Missing among numbers and dates; among categories they may be a level.
MAYBE_MISSING = frozenset(("-", "--", "---", "?", ".", "unknown", "unbekannt", "desconocido", "s/d", "n.d.", "missing"))
MIN_NUMBERS = 0.9  # share of a number column's texts that are numbers


_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def words(text: str) -> frozenset[str]:
    """The words of a text, which are compared with those of column names."""
    return frozenset(text.split())


def name_words(name: str) -> frozenset[str]:
    """The words of a column's name, in lower case: `nameOrig` has name and orig."""
    spaced = "".join(f" {c}" if c.isupper() and i and name[i - 1].islower() else c for i, c in enumerate(name))
    return words("".join(c if c.isalnum() else " " for c in spaced).casefold())


class Column(NamedTuple):
    """A column of n values."""

    name: str
    values: Sequence[Any]
    texts: list[str | None]  # (n,), stripped; None if missing, an object or a list
    counts: dict[str, int]  # text -> rows
    missing: dict[str, int]  # spelling of missing -> rows, without null
    nulls: int
    objects: int
    typed_numbers: int  # values that are numbers and not texts
    marks: NumberMarks  # of the texts
    times: TimeCandidates | None  # of the texts

    @property
    def present(self) -> int:
        """The number of values that are not missing."""
        return sum(self.counts.values()) + self.objects

    @property
    def is_numeric(self) -> bool:
        """Whether nearly all texts are numbers."""
        return bool(self.counts) and self.marks.numbers >= MIN_NUMBERS * sum(self.counts.values()) and not self.objects

    @property
    def is_whole(self) -> bool:
        """Whether all numbers are whole, also when a column of floats added `.0`."""
        return self.is_numeric and not self.marks.others and all(_whole(text) for text in self.counts)

    @property
    def words(self) -> frozenset[str]:
        """The words of the name, in lower case: `nameOrig` has name and orig."""
        return name_words(self.name)

    @property
    def compact_name(self) -> str:
        """The letters and digits of the name, in lower case."""
        return "".join(c for c in self.name.casefold() if c.isalnum())

    def numbers(self) -> Floats:
        """The numbers of the column, shape (n,); NaN where there is none."""
        decimal = next(iter(self.marks.decides), None) or ("." if not self.marks.ambiguous else None)
        by_text = {text: _number(text, decimal) for text in self.counts}
        return np.array([math.nan if text is None else by_text[text] for text in self.texts])


def column_of(name: str, values: Sequence[Any]) -> Column:
    """Describe a column by its values: texts, JSON values or Python objects of a Parquet file."""
    distinct: dict[Any, str] = {}
    texts: list[str | None] = []
    missing: Counter[str] = Counter()
    nulls = objects = typed_numbers = 0
    for value in values:
        kind = type(value)
        if value is None or value != value:
            nulls += 1
            texts.append(None)
            continue
        if kind in (dict, list):
            objects += 1
            texts.append(None)
            continue
        typed_numbers += kind in (int, float, Decimal)
        marked = (kind, value)
        if marked not in distinct:
            distinct[marked] = _text(value)
        text = distinct[marked]
        is_missing = text.casefold() in MISSING
        missing[text] += is_missing
        texts.append(None if is_missing else text)
    counts = Counter(text for text in texts if text is not None)
    marks = infer_marks(counts)
    times = text_candidates(counts)
    return Column(name, values, texts, dict(counts), dict(+missing), nulls, objects, typed_numbers, marks, times)


def _text(value: Any) -> str:
    text = text_of(value)
    return text.strip() if isinstance(text, str) else format_value(value)


def _whole(text: str) -> bool:
    digits = without_zero_decimal(text).lstrip("+-")
    return digits.isascii() and digits.isdigit()


_DROPPED = str.maketrans("", "", "".join((*SPACES, *APOSTROPHES)))


def _number(text: str, decimal: str | None) -> float:
    """A rough reading, for shares and ranks."""
    body = "".join(c for c in text.translate(_DROPPED) if c.isdigit() or c in "+-.,eE\u2212").replace("\u2212", "-")
    if decimal is not None:
        body = body.replace("," if decimal == "." else ".", "").replace(decimal, ".")
    try:
        found = float(body)
    except ValueError:
        return math.nan
    return found if math.isfinite(found) else math.nan
