"""Numbers: each declared format, ambiguous texts, typed values, the range, and a random comparison with a reference."""

import math
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from schemas.dataset.value_formats import NumberFormat
from scoring.input.number_parsing import MAX_NUMBER, parse_numbers
from scoring.input.value_parsing import MAX_TEXT_LENGTH, format_value
from tests.helpers.reference_parsers import NUMBER_FORMATS, number_differences

MISSING = frozenset({"", "NA", "-999"})
NBSP, THIN, NARROW = "\u00a0", "\u2009", "\u202f"
NAN = "missing"

# (name of a format, or a format; a raw value; the number, NAN, or the code of its rejection)
TABLE: list[tuple[str | NumberFormat, Any, float | str]] = [
    ("nothing", "12", 12),
    ("nothing", " +12.5 ", 12.5),
    ("nothing", "12,5", 12.5),
    ("nothing", ".5", 0.5),
    ("nothing", "5.", 5),
    ("nothing", "1234.567", 1234.567),
    ("nothing", "0,125", 0.125),
    ("nothing", "012.125", 12.125),
    ("nothing", "1.080e0", 1.08),
    ("nothing", "1.0800", 1.08),
    ("nothing", "-1.080", "ambiguous-number"),
    ("nothing", "999,999", "ambiguous-number"),
    ("nothing", "1.080.000", "ambiguous-number"),
    ("nothing", "1.080,00", "ambiguous-number"),
    ("nothing", "1,080.00", "ambiguous-number"),
    ("nothing", "1 080,00", "ambiguous-number"),
    ("nothing", "1'080", "ambiguous-number"),
    ("nothing", "1,2.3", "not-a-number"),
    ("nothing", "1-2", "not-a-number"),
    ("nothing", "", NAN),
    ("nothing", " NA ", NAN),
    ("nothing", "-999", NAN),
    ("nothing", "-999.0", NAN),
    ("nothing", "-999.00", -999),
    ("nothing", "1e00003", 1000),
    ("nothing", "3.4028234663852886e38", MAX_NUMBER),
    ("nothing", "3.4028235e+38", "out-of-range"),
    ("nothing", "-1e160", "out-of-range"),
    ("nothing", "9" * 100, "out-of-range"),
    ("nothing", "1e99999", "out-of-range"),
    ("nothing", "1e-99999", 0),
    ("nothing", "1" * (MAX_TEXT_LENGTH + 1), "not-a-number"),
    ("either", "1.080", 1.08),
    ("either", "25,000", 25),
    ("either", "1.080,00", "not-a-number"),
    ("point", "1.080", 1.08),
    ("point", "1,08", "not-a-number"),
    ("comma", "25,000", 25),
    ("comma", "1.08", "not-a-number"),
    ("1,080.5", "1,080", 1080),
    ("1,080.5", "1,080,000.25", 1080000.25),
    ("1,080.5", "1080", 1080),
    ("1,080.5", "10,80", "not-a-number"),
    ("1,080.5", "1,0800", "not-a-number"),
    ("1,080.5", "0,080", "not-a-number"),
    ("1,080.5", ",080", "not-a-number"),
    ("1,080.5", "1.080,5", "not-a-number"),
    ("1.080,5", "-1.080,5", -1080.5),
    ("1.080,5", "1.080", 1080),
    ("1 080,5", "1 080,5", 1080.5),
    ("1 080,5", f"1{NBSP}080{THIN}000{NARROW}000", 1080000000),
    ("1 080,5", "1 08", "not-a-number"),
    ("1'080.5", "1'080.5", 1080.5),
    ("1'080.5", "1’080ʼ000", 1080000),
    ("currency", "$5", 5),
    ("currency", "$ 5", 5),
    ("currency", "-$5", -5),
    ("currency", "$-5", -5),
    ("currency", "5 MXN", 5),
    ("currency", "$1,080.50 MXN", 1080.5),
    ("currency", "R$ 1,080", 1080),
    ("currency", "5", 5),
    ("currency", "-$-5", "not-a-number"),
    ("currency", "€5", "not-a-number"),
    ("currency", "$", "not-a-number"),
    ("currency", "5$5", "not-a-number"),
    ("currency, no marks", "5E3", 5000),
    ("currency, no marks", "5E", 5),
    ("currency, no marks", "E5", 5),
    ("currency, no marks", "€1.080", "ambiguous-number"),
    ("percent", "12 %", 12),
    ("percent", "-0.5%", -0.5),
    ("percent", "12", "not-a-number"),
    ("percent", "%", "not-a-number"),
    ("percent", 12, "not-a-number"),
    ("percent", 0.12, "not-a-number"),
    ("percent", "", NAN),
    ("percent", None, NAN),
    ("fraction", "12,5 %", 0.125),
    ("fraction", "0,1%", 0.001),
    ("fraction", "7e-1%", 0.007),
    ("normalize", "−１２.５", -12.5),
    ("normalize", "１．０８０", "ambiguous-number"),
    ("normalize", "１,5", 1.5),
    ("normalize", "−９９９", NAN),
    ("normalize", "١٢", "not-a-number"),
    ("nothing", "−12", "not-a-number"),
    ("nothing", "１２", "not-a-number"),
    ("nothing", None, NAN),
    ("nothing", math.nan, NAN),
    ("nothing", Decimal("NaN"), NAN),
    ("nothing", Decimal("sNaN"), NAN),
    ("nothing", 7, 7),
    ("nothing", 1.080, 1.08),
    ("nothing", Decimal("12.50"), 12.5),
    ("nothing", -999, NAN),
    ("nothing", -999.0, NAN),
    ("nothing", Decimal("-999.00"), NAN),
    ("nothing", b"12.5", 12.5),
    ("nothing", b"\xff", "wrong-type"),
    ("nothing", True, "not-a-number"),
    ("nothing", date(2020, 1, 5), "not-a-number"),
    ("nothing", math.inf, "not-a-number"),
    ("nothing", Decimal("-Infinity"), "not-a-number"),
    ("nothing", 1e308, "out-of-range"),
    ("nothing", 10**400, "out-of-range"),
    ("nothing", -(10**5000), "out-of-range"),
    ("nothing", Decimal("1e400"), "out-of-range"),
    ("nothing", Decimal("1e999999"), "out-of-range"),
    ("nothing", [1], "wrong-type"),
    ("nothing", {"a": 1}, "wrong-type"),
]


def read(form: str | NumberFormat, values: list[Any]) -> list[float | str]:
    number_format = NUMBER_FORMATS[form] if isinstance(form, str) else form
    parsed, faults = parse_numbers(values, MISSING, number_format=number_format)
    assert set(np.flatnonzero(np.isnan(parsed)).tolist()) >= set(faults)
    return [faults[i].code if i in faults else NAN if math.isnan(x) else x for i, x in enumerate(parsed.tolist())]


@pytest.mark.parametrize(
    ("form", "value", "wanted"), TABLE, ids=[f"{f}: {format_value(v)[:40]!a}" for f, v, _ in TABLE]
)
def test_a_value_is_read_as_declared_or_rejected(form: str, value: Any, wanted: float | str) -> None:
    assert read(form, [value]) == [wanted]
    assert read(form, ["7 %" if form in ("percent", "fraction") else "7", value])[1:] == [wanted]
    assert read(form, [value, "x"]) == [wanted, "not-a-number"]


def test_random_texts_in_every_format_are_read_as_the_reference_reads_them() -> None:
    assert number_differences(6_000, seed=1) == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("1.080", "decimal and thousands"),
        ("1,2.3", "decimal and thousands"),
        ("−5", "normalize"),
        ("5 %", "percent"),
        ("€ 5", "currency"),
    ],
)
def test_a_rejection_names_the_key_with_which_the_text_would_be_read(text: str, key: str) -> None:
    _, faults = parse_numbers([text], MISSING)
    assert f"declare {key}" in faults[0].expected


@pytest.mark.parametrize("name", NUMBER_FORMATS)
def test_a_rejection_shows_a_number_that_the_format_reads(name: str) -> None:
    form = NUMBER_FORMATS[name]
    _, faults = parse_numbers(["x"], MISSING, number_format=form)
    example = faults[0].expected.split("such as ")[1].split(" (")[0].split(" or ")[0]
    assert read(name, [example])[0] in (12.5, 1080.5, 0.125)


def test_two_vast_numbers_have_a_finite_mean_because_neither_is_accepted() -> None:
    parsed, faults = parse_numbers(["1e308", "1e308", "5"], MISSING)
    assert set(faults) == {0, 1}
    assert np.nanmean(parsed) == 5
    largest, _ = parse_numbers([MAX_NUMBER] * 1_000, MISSING)
    assert np.isfinite([largest.mean(), largest.var(), np.square(largest).sum()]).all()
    assert np.isfinite(largest.astype(np.float32)).all()


def test_a_bound_holds_for_texts_and_typed_numbers() -> None:
    _, faults = parse_numbers(["-1", -1, "1,5", 1.5], MISSING, low=0, high=1)
    assert [faults[i].expected for i in range(4)] == ["a number of at least 0"] * 2 + ["a number of at most 1"] * 2
