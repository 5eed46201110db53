"""Parsing of booleans and labels: declared spellings of true and false, and typed booleans. Pure."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from schemas.dataset.value_formats import TruthValues, fold_spelling
from scoring.arrays import Floats
from scoring.input.value_parsing import (
    CACHE_SIZE,
    MAX_TEXT_LENGTH,
    Fault,
    Faults,
    Raw,
    distinct_texts,
    text_of,
    without_zero_decimal,
)

MAX_SHOWN_SPELLINGS = 4  # of each list, in a remedy


def parse_booleans(
    values: Raw, missing: frozenset[str], truth_values: TruthValues, declared_by: str = "true_values and false_values"
) -> tuple[Floats, Faults]:
    """Parse a column of booleans: float64 of 0 and 1, shape (n,), NaN if missing or unknown.

    declared_by: keys of the declaration that list the spellings, for the remedy.
    """
    known = distinct_texts(values, MAX_TEXT_LENGTH, lambda text: _truth_of_text(text, missing, truth_values))
    if known is not None and None not in known.values():
        return np.array([known[value] for value in values], dtype=np.float64), {}
    faults: Faults = {}
    parsed = np.empty(len(values))
    for i, value in enumerate(values):
        found = _truth(value, missing, truth_values)
        if found is None:
            found = math.nan
            faults[i] = Fault("not-a-boolean", value, _expected(truth_values, declared_by))
        elif type(found) is Fault:
            faults[i] = found
            found = math.nan
        parsed[i] = found
    return parsed, faults


def _truth(value: Any, missing: frozenset[str], truth_values: TruthValues) -> float | Fault | None:
    text = text_of(value)
    if text is None:
        return math.nan
    if type(text) is Fault:
        return None if text.code == "too-long" else text
    found = _truth_of_text(text, missing, truth_values)
    return float(value) if found is None and type(value) is bool else found


@lru_cache(CACHE_SIZE)
def _truth_of_text(text: str, missing: frozenset[str], truth_values: TruthValues) -> float | None:
    stripped = text.strip()
    for spelling in (stripped, without_zero_decimal(stripped)):
        if spelling in missing:
            return math.nan
        folded = fold_spelling(spelling)
        if folded in truth_values.true:
            return 1.0
        if folded in truth_values.false:
            return 0.0
        if folded in truth_values.unknown:
            return math.nan
    return {"reject": None, "false": 0.0, "unknown": math.nan}[truth_values.others]


def _expected(truth_values: TruthValues, declared_by: str) -> str:
    def some(spellings: frozenset[str]) -> str:
        shown = sorted(spellings, key=lambda text: (-len(text), text))[:MAX_SHOWN_SPELLINGS]
        return ", ".join(shown) + (", …" if len(spellings) > len(shown) else "")

    return f"true ({some(truth_values.true)}) or false ({some(truth_values.false)}); declare others in {declared_by}"
