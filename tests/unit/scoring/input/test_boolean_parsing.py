"""Booleans and labels: declared spellings, typed, unknown and other values, and a comparison with a reference."""

import math
from decimal import Decimal
from typing import Any

import pytest

from schemas.dataset.value_formats import FALSE_VALUES, TRUE_VALUES, TruthValues, fold_spelling
from scoring.input.boolean_parsing import parse_booleans
from tests.helpers.reference_parsers import boolean_differences

MISSING = frozenset({"", "NA"})
USUAL = TruthValues(true=frozenset(map(fold_spelling, TRUE_VALUES)), false=frozenset(map(fold_spelling, FALSE_VALUES)))
WORDS = TruthValues(true=frozenset({"aprobada"}), false=frozenset({"negada"}))
CODES = TruthValues(true=frozenset({"5"}), false=frozenset({"3"}), unknown=frozenset({"pending"}))
ZERO_IS_FRAUD = TruthValues(true=frozenset({"0"}), false=frozenset({"1"}))
OTHERS_FALSE = TruthValues(true=frozenset({"cb"}), false=frozenset(), others="false")
OTHERS_UNKNOWN = TruthValues(true=frozenset({"cb"}), false=frozenset(), others="unknown")
NAN, NO, WRONG = "missing", "not-a-boolean", "wrong-type"


@pytest.mark.parametrize(
    ("truth", "value", "wanted"),
    [
        *(
            (USUAL, text, 1.0)
            for text in ("TRUE", "1", "1.0", "Yes", "Sí", "si", "SI\u0301", "VERDADERO", " sim ", "t")
        ),
        *((USUAL, text, 0.0) for text in ("false", "0", "0.0", "No", "NÃO", "nao", "Falso", "f")),
        *((USUAL, text, NO) for text in ("pending", "2", "10", "0.00", "-1", "x" * 300)),
        *((USUAL, text, NAN) for text in ("", " NA ", None, math.nan, Decimal("NaN"))),
        *((USUAL, value, 1.0) for value in (True, 1, 1.0, Decimal(1), Decimal("1.0"), b"yes")),
        *((USUAL, value, 0.0) for value in (False, 0, 0.0, Decimal(0), b"FALSE")),
        *((USUAL, value, NO) for value in (2, -1, 0.5, math.inf, 10**400)),
        *((USUAL, value, WRONG) for value in ([], {"a": 1}, b"\xff")),
        (WORDS, "Aprobada", 1.0),
        (WORDS, "NEGADA", 0.0),
        (WORDS, "yes", NO),
        (WORDS, "true", NO),
        (WORDS, True, 1.0),
        (WORDS, False, 0.0),
        (WORDS, 1, NO),
        (CODES, "5", 1.0),
        (CODES, "5.0", 1.0),
        (CODES, 5, 1.0),
        (CODES, 3.0, 0.0),
        (CODES, "Pending", NAN),
        (CODES, 1, NO),
        (ZERO_IS_FRAUD, 0, 1.0),
        (ZERO_IS_FRAUD, 1.0, 0.0),
        (ZERO_IS_FRAUD, "0.0", 1.0),
        (OTHERS_FALSE, "CB", 1.0),
        (OTHERS_FALSE, "settled", 0.0),
        (OTHERS_FALSE, "", NAN),
        (OTHERS_FALSE, [1], WRONG),
        (OTHERS_UNKNOWN, "settled", NAN),
    ],
)
def test_a_value_is_read_by_its_spelling_or_rejected(truth: TruthValues, value: Any, wanted: float | str) -> None:
    for others in ([], [[]]):
        parsed, faults = parse_booleans([value, *others], MISSING, truth)
        found = faults[0].code if 0 in faults else NAN if math.isnan(parsed[0]) else parsed[0]
        assert found == wanted


def test_random_spellings_are_read_as_the_reference_reads_them() -> None:
    assert boolean_differences(3_000, seed=2) == []


def test_a_rejection_shows_spellings_and_names_the_keys() -> None:
    _, faults = parse_booleans(["perhaps"], MISSING, WORDS)
    assert faults[0].expected == "true (aprobada) or false (negada); declare others in true_values and false_values"
    _, faults = parse_booleans(["perhaps"], MISSING, CODES, "label_values")
    assert faults[0].expected == "true (5) or false (3); declare others in label_values"
