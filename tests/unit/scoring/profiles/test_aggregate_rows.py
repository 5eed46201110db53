"""Rows of aggregates against exact integers and fractions in plain Python."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.arrays import Ints
from scoring.profiles.aggregate_rows import (
    AGGREGATE_CODES,
    COUNT,
    MAX_VALUE,
    TIME,
    UNITS,
    accumulate,
    add_row,
    add_transaction,
    aggregate,
    empty_rows,
)

amounts = st.one_of(
    st.sampled_from([0.0, -0.0, 0.1, 1.0, -3.5, math.nan, 1e30, -1e30, MAX_VALUE]),
    st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6),
    st.floats(width=32, allow_infinity=False),
)


def row_of(values: Sequence[float]) -> Ints:
    row = empty_rows(1, 1)[0]
    for i, value in enumerate(values):
        add_transaction(row, i, np.array([value], dtype=np.float32))
    return row


def expected(name: str, values: Sequence[float], own: float) -> float:
    """An aggregate by its definition, over exact integers. NaN: missing."""
    known = [np.float32(v) for v in values if not math.isnan(np.float32(v))]
    units = [round(max(-MAX_VALUE, min(MAX_VALUE, float(v))) * UNITS) for v in known]
    n, total = len(units), sum(units)
    if name == "count":
        return float(len(values))
    if name == "sum":
        return total / UNITS
    if not units:
        return math.nan
    mean = total / n / UNITS
    std = math.sqrt(Fraction(n * sum(u * u for u in units) - total * total, n * n)) / UNITS
    largest = float(max(known))
    if name in ("mean", "max", "std"):
        return {"mean": mean, "max": largest, "std": std}[name]
    top, divisor = {"ratio": (own, mean), "ratio_max": (own, largest), "zscore": (own - mean, std)}[name]
    return top / divisor if divisor else math.nan


@settings(max_examples=150)
@given(st.lists(amounts, max_size=12), st.floats(-1e6, 1e6, width=32))
def test_aggregates_are_those_of_exact_integers(values: list[float], own: float) -> None:
    row = row_of(values)
    for name, code in AGGREGATE_CODES.items():
        assert aggregate(code, row, 0, own) == pytest.approx(expected(name, values, own), rel=1e-12, nan_ok=True), name


@settings(max_examples=100)
@given(st.lists(amounts, max_size=12), st.randoms(use_true_random=False), st.integers(0, 12))
def test_any_order_and_any_split_give_the_same_bits(values: list[float], random: object, at: int) -> None:
    whole = row_of(values)
    times = dict(enumerate(values))
    order = list(times)
    random.shuffle(order)  # type: ignore[attr-defined]
    parts = empty_rows(2, 1)
    for i in order:
        add_transaction(parts[int(i < at)], i, np.array([times[i]], dtype=np.float32))
    add_row(parts[0], parts[1])
    assert parts[0].tolist() == whole.tolist()


@pytest.mark.parametrize("value", [0.1, -0.1, 1234567.9, -3e-7, 4e9])
def test_equal_values_have_a_deviation_of_exactly_zero(value: float) -> None:
    row = row_of([value] * 1000)
    assert aggregate(AGGREGATE_CODES["std"], row, 0, value) == 0.0
    assert math.isnan(aggregate(AGGREGATE_CODES["zscore"], row, 0, value + 1))


def test_values_beyond_the_range_are_limited_and_counted() -> None:
    row = empty_rows(1, 2)[0]
    assert add_transaction(row, 0, np.array([1e30, 5.0], dtype=np.float32)) == 1
    assert aggregate(AGGREGATE_CODES["sum"], row, 0, 0.0) == MAX_VALUE
    assert aggregate(AGGREGATE_CODES["max"], row, 0, 0.0) == pytest.approx(1e30)


def test_nested_windows_accumulate_from_the_narrowest() -> None:
    rows = empty_rows(3, 1)
    for w, amount in enumerate((1.0, 10.0, 100.0)):
        add_transaction(rows[w], 30 - 10 * w, np.array([amount], dtype=np.float32))
    accumulate(rows)
    assert [aggregate(AGGREGATE_CODES["sum"], row, 0, 0.0) for row in rows] == [1.0, 11.0, 111.0]
    assert rows[:, COUNT].tolist() == [1, 2, 3]
    assert rows[:, TIME].tolist() == [30, 30, 30]
