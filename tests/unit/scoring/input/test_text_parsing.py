"""Category levels, keys and ids: the same text in whatever type or container a value comes."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from scoring.input.text_parsing import identifier, parse_categories, parse_identifiers
from scoring.input.value_parsing import MAX_TEXT_LENGTH, Fault
from tests.helpers.reference_parsers import id_differences

MISSING = frozenset({"", "NA", "-1"})
LONG = "x" * (MAX_TEXT_LENGTH + 1)

# (a raw value; the level, None if missing, or a code; the id, None if missing, or a code)
TABLE: list[tuple[Any, str | None, str | None]] = [
    ("Merida", "Merida", "Merida"),
    (" Merida ", "Merida", " Merida "),
    ("0017", "0017", "0017"),
    (17, "17", "17"),
    (-17, "-17", "-17"),
    (17.0, "17", "17"),
    ("17.0", "17", "17"),
    (" 17.0 ", "17", "17"),
    ("17.00", "17.00", "17.00"),
    ("v17.0", "v17.0", "v17.0"),
    (17.5, "17.5", "17.5"),
    (Decimal("17"), "17", "17"),
    (Decimal("17.0"), "17", "17"),
    (Decimal("17.50"), "17.50", "17.50"),
    (Decimal("1.7E+3"), "1700", "1700"),
    (Decimal("1E+400"), "too-long", "too-long"),
    (Decimal("1E+999999999"), "too-long", "too-long"),
    (Decimal("1E-999999999"), "too-long", "too-long"),
    (10**300, "too-long", "too-long"),
    (10**5000, "too-long", "too-long"),
    (4111111111111111, "4111111111111111", "4111111111111111"),
    (4111111111111111.0, "4111111111111111", "4111111111111111"),
    (9007199254740994.0, "9007199254740994", "not-an-id"),
    ("9007199254740994.0", "9007199254740994", "not-an-id"),
    (1e16, "1e+16", "not-an-id"),
    ("4.11111E+15", "4.11111E+15", "not-an-id"),
    ("4,11111E+15", "4,11111E+15", "not-an-id"),
    ("4E15", "4E15", "4E15"),
    (True, "true", "not-an-id"),
    ("TRUE", "true", "not-an-id"),
    (" False", "false", "not-an-id"),
    ("truest", "truest", "truest"),
    (date(2020, 1, 5), "2020-01-05", "2020-01-05"),
    (datetime(2020, 1, 5, 10, tzinfo=UTC), "2020-01-05T10:00:00+00:00", "2020-01-05T10:00:00+00:00"),
    (b"Merida", "Merida", "Merida"),
    (b"17.0", "17", "17"),
    (b"\xff", "wrong-type", "wrong-type"),
    (b"x" * 5_000, "too-long", "too-long"),
    (LONG, "too-long", "too-long"),
    (None, None, None),
    (math.nan, None, None),
    (Decimal("NaN"), None, None),
    ("", None, None),
    (" NA ", None, None),
    (-1, None, None),
    (-1.0, None, None),
    ("-1.0", None, None),
    ([1], "wrong-type", "wrong-type"),
    ({"a": 1}, "wrong-type", "wrong-type"),
]
IDS = [f"{type(value).__name__} {i}" for i, (value, _, _) in enumerate(TABLE)]


@pytest.mark.parametrize(("value", "level", "name"), TABLE, ids=IDS)
def test_a_value_is_one_text_as_a_level_and_as_an_id(value: Any, level: str | None, name: str | None) -> None:
    for others in ([], ["a"], [7], [[]]):
        levels, faults = parse_categories([value, *others], MISSING)
        assert (faults[0].code if 0 in faults else levels[0]) == level
        ids, faults = parse_identifiers([value, *others], MISSING)
        assert (faults[0].code if 0 in faults else ids[0]) == name
    found = identifier(value, MISSING)
    assert (found.code if isinstance(found, Fault) else found) == name


def test_random_ids_are_read_as_the_reference_reads_them() -> None:
    assert id_differences(5_000, seed=3) == []


@pytest.mark.parametrize("value", ["abc-17", "a_b:c/d", "17", "A7"])
def test_plain_ids_in_a_column_are_unchanged(value: str) -> None:
    assert parse_identifiers([value, "b"], MISSING) == ([value, "b"], {})


def test_one_missing_id_among_plain_ones_is_missing() -> None:
    assert parse_identifiers(["a", "NA", "", "b"], MISSING) == (["a", None, None, "b"], {})
