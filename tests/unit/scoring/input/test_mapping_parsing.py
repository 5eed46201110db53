"""The regular expression for mappings: linear time, and the same results as its reference implementation."""

import random
import re

import pytest

from scoring.input import mapping_parsing
from scoring.input.mapping_parsing import MAX_MAPPING_LENGTH

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
    matches = [(bool(BEFORE.fullmatch(text)), bool(mapping_parsing._MAPPING.fullmatch(text))) for text in texts]
    assert [text for text, (before, now) in zip(texts, matches, strict=True) if before != now] == []
    assert sum(before for before, _ in matches) > 5_000
    pairs = re.compile(PAIR)
    for text, (before, _) in zip(texts, matches, strict=True):
        if before:
            assert pairs.findall(text) == mapping_parsing._PAIRS.findall(text)


@pytest.mark.parametrize("expression", [mapping_parsing._MAPPING, mapping_parsing._PAIRS], ids=["mapping", "pair"])
def test_no_expression_gives_back_what_has_matched_without_a_bound(expression: re.Pattern[str]) -> None:
    assert re.findall(r"(?:\\[sdw]|\]|\))(?:[*+](?![+]))", expression.pattern) == []
    assert MAX_MAPPING_LENGTH == 1_000
