"""Dates whose parts are in fields of their own, such as year, month, day and time. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.dataset.fields import EventTime
from scoring.input.value_parsing import format_value, text_of, without_zero_decimal


def join_dates(time: EventTime, raw: Mapping[str, Sequence[Any]], n: int) -> Mapping[str, Sequence[Any]]:
    """The raw columns of n rows with the column `time.date`: the parts of each row, joined by spaces.

    A missing part is left out, so that the joined text fits no format of all parts and the row is rejected.
    """
    if len(time.parts) == 1:
        return raw
    parts = [list(map(_text, raw[name])) for name in time.parts]
    joined = [" ".join(filter(None, row)) or None for row in zip(*parts, strict=True)] if n else []
    return {**raw, time.date: joined}


def _text(value: Any) -> str:
    """A part as text: numbers as their digits, so that 2020, 2020.0 and "2020" are one year."""
    text = text_of(value)
    if text is None:
        return ""
    return without_zero_decimal(text.strip()) if isinstance(text, str) else format_value(value)
