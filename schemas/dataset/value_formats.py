"""Formats of values in texts: the marks of numbers, the spellings of true and false, the values of a label."""

import unicodedata
from typing import Literal

import msgspec

SPACES = (" ", "\u00a0", "\u2009", "\u202f")  # plain, no-break, thin, narrow no-break: one grouping mark
APOSTROPHES = ("'", "\u2019", "\u02bc")  # typewriter, typographic, modifier letter: one grouping mark
GROUPING_MARKS = (".", ",", *SPACES, *APOSTROPHES)

TRUE_VALUES = ("true", "yes", "y", "t", "1", "1.0", "sí", "verdadero", "sim")
FALSE_VALUES = ("false", "no", "n", "f", "0", "0.0", "falso", "não")

DecimalMark = Literal[".", ",", "either"]  # either: both are decimal marks, and no number has grouping marks
Percent = Literal["points", "fraction"]  # "12 %" is 12 or 0.12


class NumberFormat(msgspec.Struct, frozen=True, kw_only=True):
    """Format of the numbers of one column in texts. Typed numbers (JSON, Parquet) have no format.

    Without a decimal mark, a text with one mark and three digits behind it is ambiguous and is rejected.
    """

    decimal: DecimalMark | None = None
    thousands: str | None = None  # one of GROUPING_MARKS; a space or an apostrophe includes its variants
    currency: tuple[str, ...] = ()  # signs that may precede or follow a number
    percent: Percent | None = None  # every text must have a percent sign
    normalize: bool = False  # read full-width digits and typographic minus signs as ASCII


class TruthValues(msgspec.Struct, frozen=True, kw_only=True):
    """Spellings of true and false in one column, compared without case and accents."""

    true: frozenset[str]  # folded by `fold_spelling`
    false: frozenset[str]
    unknown: frozenset[str] = frozenset()  # labels only: read as missing
    others: Literal["reject", "false", "unknown"] = "reject"  # meaning of a text that is in no list


class LabelValues(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values of the label. Without `fraud` and `legitimate`, a label is read as a boolean field is."""

    fraud: tuple[str, ...] = ()
    legitimate: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()  # not yet decided, such as "pending"
    others: Literal["reject", "legitimate", "unknown"] = "reject"


def fold_spelling(text: str) -> str:
    """A spelling without case, accents and surrounding spaces.

    >>> fold_spelling(" SÍ "), fold_spelling("não")
    ('si', 'nao')
    """
    decomposed = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))
