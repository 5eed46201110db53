"""The regular expression for mappings: linear time, and the same results as its reference implementation."""

import random
import re

import pytest

from scoring.input import value_parsing
from scoring.input.value_parsing import MAX_MAPPING_LENGTH, MAX_TEXT_LENGTH, parse_numbers

# As it was before it was made possessive: quadratic, and right.
PAIR = r"""(?:'(\w{1,50})'|"(\w{1,50})"|(\w{1,50}))\s*:\s*(?:'([^']*)'|"([^"]*)"|([^'"{}\[\];,\s]+))"""
UNCAPTURED = re.sub(r"\((?!\?)", "(?:", PAIR)
BEFORE = re.compile(rf"\{{\s*(?:{UNCAPTURED}(?:\s*[;,]\s*{UNCAPTURED})*)?\s*\}}")
PIECES = [
    "{",
    "}",
    "'",
    '"',
    ":",
    ";",
    ",",
    " ",
    "\t",
    "\n",
    "a",
    "key",
    "é",
    "7",
    "-",
    "[",
    "x" * 49,
    "x" * 51,
    "None",
]
PARTS = ["{", " ", "'model'", '"os"', "key", ":", "2020", "'WEB'", '""', "'a;b'", ";", ", ", "a:b", "}", "\n"]


def random_texts(pieces: list[str], n: int) -> list[str]:
    draw = random.Random(20)
    return [
        "{" * draw.randrange(2) + "".join(draw.choices(pieces, k=draw.randrange(14))) + "}" * draw.randrange(2)
        for _ in range(n)
    ]


def random_mappings(n: int) -> list[str]:
    draw = random.Random(21)

    def pair() -> str:
        key, value = (
            draw.choice(["'k'", '"os"', "device", "é7"]),
            draw.choice(["3", "'a b'", '"{;}"', "''", "-1.5", "a:b"]),
        )
        space = draw.choice(["", " ", "  "])
        return f"{space}{key}{space}:{space}{value}{space}"

    return ["{" + draw.choice([";", ",", "; "]).join(pair() for _ in range(draw.randrange(5))) + "}" for _ in range(n)]


def test_the_linear_expression_matches_what_the_quadratic_one_did() -> None:
    texts = random_texts(PIECES, 20_000) + random_texts(PARTS, 20_000) + random_mappings(5_000)
    matches = [(bool(BEFORE.fullmatch(text)), bool(value_parsing._MAPPING.fullmatch(text))) for text in texts]
    assert [text for text, (before, now) in zip(texts, matches, strict=True) if before != now] == []
    assert sum(before for before, _ in matches) > 5_000
    pairs = re.compile(PAIR)
    for text, (before, _) in zip(texts, matches, strict=True):
        if before:
            assert pairs.findall(text) == value_parsing._PAIRS.findall(text)


@pytest.mark.parametrize(
    "expression",
    [value_parsing._MAPPING, value_parsing._PAIRS, value_parsing._NUMBER],
    ids=["mapping", "pair", "number"],
)
def test_no_expression_gives_back_what_has_matched_without_a_bound(expression: re.Pattern[str]) -> None:
    unbounded = re.findall(r"(?:\\[sdw]|\]|\))(?:[*+](?![+]))", expression.pattern)
    # Digits, then a separator or an exponent: no text is both, so that nothing is tried twice.
    assert unbounded == ([r"\d+", r"\d*", r"\d+"] if expression is value_parsing._NUMBER else [])
    assert MAX_MAPPING_LENGTH == 1_000


def test_a_number_that_is_too_long_is_refused_whatever_else_is_in_the_batch() -> None:
    too_long = "1" * (MAX_TEXT_LENGTH + 1)
    for others in ([], ["1", "2"], ["x"]):
        _, faults = parse_numbers([too_long, *others], frozenset())
        assert faults[0].code == "not-a-number"
