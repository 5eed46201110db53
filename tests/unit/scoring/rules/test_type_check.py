"""Mistakes in rules: each is one line that names the rule, the place, the problem and the remedy."""

# ruff: noqa: E501 (a table of lines as they are shown)

from typing import Any

import pytest

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import RuleError
from schemas.rules import Exploration, Rule, RulesFile
from scoring.rules.ruleset import CompiledRuleset, compile_ruleset
from scoring.rules.type_check import canonical_text, text_fields

CARD, TERMINAL = load_dataset("card_transactions"), load_dataset("terminal_transactions")
TEXT_FIELDS = "ID_USER, genero, device_os, establecimiento, ciudad, tipo_tc, status_txn"
FUNCTIONS = "abs, min, max, coalesce, starts_with, ends_with, contains, field"
CHARACTERS = "see docs/rules.md for what an expression may contain"
# Condition, place, the line after it.
MISTAKES = [
    ("mont > 1", 1, "no field 'mont'; similar: monto"),
    ("monto > 1 and device.model > 1", 21, "unexpected character '.'; names have no attributes; a field whose name has a point is field(\"name\")"),
    ("x > 1", 1, "no field 'x'; the data set 'card_transactions' has hour, day_of_week, genero, monto, device_model, device_score, device_os, establecimiento, ciudad, tipo_tc and 8 more"),
    ('field("Monto ") > 1', 1, "no field 'Monto '; similar: monto"),
    ("dispositivo is missing", 1, "no field 'dispositivo'; the data set 'card_transactions' has hour, day_of_week, genero, monto, device_model, device_score, device_os, establecimiento, ciudad, tipo_tc and 8 more"),
    ("field(monto) > 1", 1, 'field takes one name in quotes, such as field("card type")'),
    ("monto", 1, "this is a number, not a condition; compare it, such as x > 0"),
    ("ciudad", 1, 'this is text, not a condition; compare it, such as x == "a"'),
    ("is_prime and monto - 1", 14, "this is a number, not a condition; compare it, such as x > 0"),
    ("not monto", 5, "this is a number, not a condition; compare it, such as x > 0"),
    ('monto > "100"', 7, "monto is a number, '100' is text; write the number without quotes"),
    ("tipo_tc == 7", 9, "tipo_tc is text, 7 is a number; write the text in quotes"),
    ("monto == ciudad", 7, "monto is a number, ciudad is text; compare values of one kind"),
    ("is_prime == 1", 10, "is_prime is true or false, 1 is a number; write is_prime or not is_prime"),
    ("is_prime + 1 > 1", 1, "is_prime is true or false, not a number; write is_prime or not is_prime"),
    ("monto + ciudad > 1", 9, "ciudad is text; a number is needed here"),
    ('monto + "1" > 1', 9, "the text '1' is no number; write it without quotes"),
    ("monto + (score > 1) > 1", 10, "this is true or false; a number is needed here"),
    ('ciudad > "A"', 8, "> compares numbers only: texts have no order; write == or !="),
    ("is_prime > true", 10, "> compares numbers only: true and false have no order; write == or !="),
    ('"a" == "a" or is_prime', 5, "two texts in quotes are compared; name a field, without quotes"),
    ('ciudad == "NA"', 11, "'NA' never occurs in ciudad, where it means a missing value or is not valid; write ciudad is missing, or another text"),
    ('ID_USER == "true"', 12, "'true' never occurs in ID_USER, where it means a missing value or is not valid; write ID_USER is missing, or another text"),
    ('monto in (1, "2")', 14, "monto is a number; write numbers without quotes"),
    ('ciudad in ("a", 2)', 17, "ciudad is text; write texts in quotes"),
    ("is_prime in (1, 0)", 10, "is_prime is true or false; only numbers and texts can be in a list of values"),
    ("monto in (1, monto)", 14, "only numbers and texts can be listed; join comparisons by or"),
    ("monto in ()", 10, "an empty list of values, in which nothing is"),
    ("monto in 5", 10, 'found 5; expected values in brackets, such as ("a", "b"), or list("name")'),
    ('ciudad in list(ciudad)', 16, 'found ciudad; expected the name of a list in quotes, such as list("stolen-cards")'),
    ('ciudad in list("Stolen Cards")', 8, "'Stolen Cards' is no name of a list; use lower-case letters, digits and hyphens, at most 64"),
    ('monto in list("a")', 1, f"monto is no text field; list takes one of {TEXT_FIELDS}"),
    ('list("a") and is_prime', 1, 'list("name") is only possible after in or not in'),
    ("ciudad is null", 11, "found null; expected missing: is only tests whether a value is missing; write == to compare"),
    ("(monto > 1) is missing", 13, "is missing tests a field or a number, not a condition"),
    ('"a" is missing', 5, "a text in quotes is never missing; name a field, without quotes"),
    ("ID_USER is missing", 9, "the key ID_USER is never missing; leave this out"),
    ("1 < monto is missing", 11, "is in a chain of comparisons; join them by and"),
    ("monto in (1, 2) == true", 17, "== after in; join them by and"),
    ("log(monto) > 1", 1, f"no function 'log'; there are {FUNCTIONS}"),
    ("start_with(ciudad, 'a')", 1, "no function 'start_with'; similar: starts_with"),
    ("abs(monto, 1) > 1", 1, "abs takes one number, not 2"),
    ("min(monto) > 1", 1, "min takes 2 to 20 numbers, not 1"),
    ("starts_with(ciudad, genero)", 1, 'starts_with takes a field and a text in quotes, such as starts_with(city, "San")'),
    ('contains(monto, "1")', 10, f"monto is no text field; contains takes one of {TEXT_FIELDS}"),
    ('ends_with(ciudad, "")', 19, "ends_with with an empty text is always true; write at least one character"),
    ("1 < 2", 1, "the condition reads no field, so it matches every transaction or none; name a field"),
    ("true", 1, "the condition reads no field, so it matches every transaction or none; name a field"),
    ("monto = 1", 7, "unexpected character '='; write == to compare"),
    ("monto > 1 & is_prime", 11, "unexpected character '&'; write and"),
    ("monto % 100 == 0", 7, "unexpected character '%'; there is no remainder"),
    ("monto > 1_000", 9, "1_000 is no number; write one such as 1000, 0.5 or 1e6"),
    ("monto > 1e999", 9, "1e999 is too large; numbers go up to 1.8e308"),
    ("monto > 10 20", 12, "found 20; expected an operator, such as and"),
    ("monto >", 8, "found the end; expected a field, a number or a text"),
    ("(monto > 1", 11, "found the end; expected )"),
    ("monto > 1 and and is_prime", 15, "found and; expected a field, a number or a text"),
    ('ciudad == "Cali', 11, 'a text that does not end; close it with " on the same line, without \\'),
    ("ciudad == 'a\u202e'", 11, "the text 'a\\\\u202e' has a character that cannot be printed"),
    ("monto > 1 # large", 11, "unexpected character '#'; there are no comments"),
    ("[m for m in monto]", 1, "found [; expected a field, a number or a text"),
    ("__import__('os')", 1, f"no function '__import__'; there are {FUNCTIONS}"),
    ("(m := monto) > 1", 4, f"unexpected character ':'; {CHARACTERS}"),
    ("monto\x00 > 1", 6, f"unexpected character '\\\\x00'; {CHARACTERS}"),
]  # fmt: skip


def ruleset(*rules: dict[str, Any], dataset: Dataset = CARD, explore: Exploration | None = None) -> CompiledRuleset:
    form = {"id": "r", "version": 1, "when": "score > 0.5", "effect": "review", "reason": "", "mode": "live"}
    return compile_ruleset(RulesFile(rules=tuple(Rule(**{**form, **rule}) for rule in rules), explore=explore), dataset)


@pytest.mark.parametrize(("when", "column", "line"), MISTAKES, ids=[repr(when) for when, _, _ in MISTAKES])
def test_a_mistake_is_one_line_that_names_rule_place_and_remedy(when: str, column: int, line: str) -> None:
    with pytest.raises(RuleError) as caught:
        ruleset({"when": when})
    assert str(caught.value) == f"rule 'r', column {column}: {line}"


def test_a_mistake_in_a_condition_of_several_lines_names_its_line() -> None:
    with pytest.raises(RuleError, match="rule 'r', line 2, column 5: no field 'mont'; similar: monto"):
        ruleset({"when": "score > 0.5\nand mont > 1"})


def test_a_misspelled_profile_feature_is_named() -> None:
    with pytest.raises(RuleError, match="no field 'card_cont_7d'; similar: card_count_7d, card_count_30d"):
        ruleset({"when": "card_cont_7d > 5"}, dataset=TERMINAL)


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ([{}, {}], "rule 'r' occurs twice; give each rule an id of its own"),
        ([{"valid_until": "soon"}], "rule 'r': valid_until 'soon' is no time; write one such as 2026-12-31T00:00:00Z"),
        ([{"valid_until": "9000-01-01"}], "rule 'r': valid_until '9000-01-01' is out of range; write a year from 1970 to 2199"),
        ([{"id": f"r{i}", "when": " or ".join(f"monto * {k} > {i}" for k in range(1, 101))} for i in range(100)], "more than 10000 different operations in all rules; shorten or remove some"),
        ([{"id": f"r{i}", "when": " or ".join(f"ciudad == 'c{i}-{k}'" for k in range(100))} for i in range(11)], "more than 1000 different tests of texts in all rules; write lists instead"),
    ],
    ids=["twice", "time", "year", "size", "texts"],
)  # fmt: skip
def test_a_mistake_of_a_ruleset_is_one_line(rules: list[dict[str, Any]], line: str) -> None:
    with pytest.raises(RuleError) as caught:
        ruleset(*rules)
    assert str(caught.value) == line


def test_exploration_needs_an_amount() -> None:
    dataset = load_dataset("terminal_transactions")
    dataset.amount = None
    with pytest.raises(RuleError, match="declares none; declare `amount`"):
        ruleset(dataset=dataset, explore=Exploration(share=0.1, below=5.0))


def test_texts_are_compared_in_the_form_that_cleaning_gives_values() -> None:
    texts = [" Físi\u0301ca", "7.0", "TRUE", "NA"]
    assert [canonical_text(CARD, "ciudad", text) for text in texts] == ["Físíca", "7", "true", None]
    assert canonical_text(CARD, "device_os", "%%") is None
    assert [canonical_text(CARD, "ID_USER", text) for text in ("17.0", "a b", "true", "")] == ["17", "a b", None, None]
    assert text_fields(CARD) == tuple(TEXT_FIELDS.split(", "))
    equal = [ruleset({"when": f"ciudad == {text!r}"}).program for text in ("7", "7.0", " 7 ")]
    assert [program.levels for program in equal] == [equal[0].levels] * 3
