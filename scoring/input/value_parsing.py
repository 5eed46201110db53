"""What the parsers of raw columns share. Pure. An invalid value is a `Fault` of its row and does not affect others.

Raw values are JSON values, the strings of a CSV file, or the Python objects of a Parquet file (also Decimal, date,
datetime and bytes). A value is read alike in all of them. Each parser has a fast path for a whole column and a general
path per value. All caches are bounded, so that a hostile stream of unique strings costs time but no memory.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import numpy as np

from scoring.arrays import Objects

MAX_TEXT_LENGTH = 200
CACHE_SIZE = 8_192
MAX_SHOWN_LENGTH = 100

_WHOLE = re.compile(r"([+-]?\d+)\.0", re.ASCII)

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
    elif isinstance(value, str | float | Decimal):
        text = str(value)
    elif isinstance(value, date):  # includes datetime
        text = value.isoformat()
    else:
        try:
            text = msgspec.json.encode(value).decode()
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
            text = type(value).__name__
    return text if len(text) <= MAX_SHOWN_LENGTH else text[: MAX_SHOWN_LENGTH - 1] + "…"


def text_of(value: Any) -> str | Fault | None:
    """Text of a scalar, as a CSV file has it; None for null and NaN.

    A list or an object has none, nor have bytes that are not UTF-8: `wrong-type`; nor a number too long for a text.

    >>> text_of(123.0), text_of(Decimal("1.50")), text_of(date(2020, 1, 5)), text_of(True), text_of(float("nan"))
    ('123.0', '1.50', '2020-01-05', 'true', None)
    """
    match value:
        case str():
            return value if len(value) <= MAX_TEXT_LENGTH else too_long(value)
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if value.bit_length() <= 3 * MAX_TEXT_LENGTH else too_long(value)
        case float():
            return None if value != value else repr(float(value))
        case Decimal():
            return _decimal_text(value)
        case date():  # includes datetime
            return value.isoformat()
        case bytes() if len(value) > 4 * MAX_TEXT_LENGTH:
            return too_long(value)
        case bytes():
            try:
                return text_of(value.decode("utf-8"))
            except UnicodeDecodeError:
                return Fault("wrong-type", value, "text in UTF-8")
    return Fault("wrong-type", value, "text")


def _decimal_text(value: Decimal) -> str | Fault | None:
    if value.is_nan():
        return None
    if value.is_infinite():
        return str(value)
    exponent = value.as_tuple().exponent
    if abs(value.adjusted()) > MAX_TEXT_LENGTH or abs(int(exponent)) > MAX_TEXT_LENGTH:
        return too_long(value)
    return text_of(format(value, "f"))


def too_long(value: Any) -> Fault:
    """The fault of a text, or of a number's text, over the maximum length."""
    return Fault("too-long", value, f"at most {MAX_TEXT_LENGTH} characters")


def without_zero_decimal(text: str) -> str:
    """A whole number without the `.0` that a column of floats adds to it; other text is unchanged.

    >>> without_zero_decimal("123.0"), without_zero_decimal("123.00"), without_zero_decimal("1.0.0")
    ('123', '123.00', '1.0.0')
    """
    whole = _WHOLE.fullmatch(text) if text.endswith(".0") else None
    return text if whole is None else whole[1]


def distinct_texts(values: Raw, longest: int, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    """Parse each distinct string once; None if not all values are strings of at most `longest` characters."""
    try:
        distinct = set(values)
    except TypeError:  # an object or a list
        return None
    if not distinct or any(type(value) is not str or len(value) > longest for value in distinct):
        return None
    return {value: parse(value) for value in distinct}


def as_objects(values: Sequence[Any]) -> Objects:
    """One-dimensional object array, also if the values are sequences."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
