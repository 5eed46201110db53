"""Prose and names follow the vocabulary of the field: plain technical English, constants and errors named by rule."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("schemas", "scoring", "monitoring", "training", "stream_app", "tamiz", "chaos", "benchmarks")
PLAIN = (
    "schemas",
    "scoring",
    "monitoring",
    "training",
    "stream_app",
    "tamiz",
    "chaos",
    "benchmarks",
    "docs",
)  # packages whose prose is checked
# Words of an older, literary style: metaphors and inverted sentences. The comment gives the plain word.
WORDS = {
    "told": "reported, sent, configured",
    "tells": "reports, states",
    "stands": "is, applies",
    "beside": "in addition to, next to",
    "besides": "in addition",
    "surely": "with confidence, at the lower bound",
    "whoever": "any reader, any client",
    "hear": "receive",
    "hears": "receives",
    "heard": "received",
    "mend": "repair",
    "mends": "repairs",
    "asks for": "requests, requires",
    "asked for": "requested",
    "by luck": "by chance",
    "at its word": "as it states",
    "comes to": "results in",
    "reaches": "arrives at, extends to",
    "says": "states, reports",
    "said": "stated, reported",
    "speaks": "uses, implements",
    "whatever": "any, regardless of",
    "nobody": "no program, no user, no client",
    "anew": "again",
    "goes on": "continues",
    "go on": "continue",
    "went on": "continued",
    "pass over": "skip",
    "passes over": "skips",
    "passed over": "skipped",
    "but for": "except, without",
    "of ours": "internal",
    "for good": "permanently",
    "in vain": "without result",
    "to blame": "the cause",
    "lest": "so that … not",
}
PATTERN = re.compile(rf"\b({'|'.join(WORDS)})\b".replace(" ", r"[\s#]+"), re.IGNORECASE)
# The phrase around a word that is allowed, with the reason.
ALLOWED: dict[str, str] = {}
# Names of variables, attributes and functions that state a mood, not what they hold.
NAMES = re.compile(r"_*(told|said|asked|heard|mended|judged|standing|went|surely|patiently)(_\w+)?")
CONSTANT_PREFIXES = re.compile(r"_?(MOST|LEAST|FEWEST|LONGEST)_")  # MAX_ and MIN_, with unit and role


def sources(*packages: str) -> list[Path]:
    """Python files of packages, in order."""
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def prose(path: Path) -> tuple[tuple[int, str], ...]:
    """Line and text of every comment, docstring and message of a file."""
    with path.open("rb") as file:
        kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
        return tuple((t.start[0], t.string) for t in tokenize.tokenize(file.readline) if t.type in kinds)


def old_words(text: str) -> Iterator[str]:
    """Words of the older style in a text, outside of allowed phrases."""
    for phrase in ALLOWED:
        text = text.replace(phrase, "")
    yield from dict.fromkeys(" ".join(re.findall(r"\w+", found.group().lower())) for found in PATTERN.finditer(text))


@pytest.mark.parametrize("package", PLAIN)
def test_docstrings_comments_and_messages_are_plain_technical_english(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {word!r}; plain words: {WORDS[word]}"
        for path in sources(package)
        if any(old_words(path.read_text(encoding="utf-8")))  # reading tokens takes longer than searching the text
        for line, text in prose(path)
        for word in old_words(text)
    ]
    assert found == []


def test_the_check_of_words_finds_them_in_each_kind_of_prose() -> None:
    source = b'"""What is told\nof it."""\nx = f"it stands {1}"  # whoever asks\n'
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    assert {w for t in tokens if t.type in kinds for w in old_words(t.string)} == {"told", "stands", "whoever"}


@cache
def tree(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse(path.read_bytes())


def test_a_limit_is_named_max_or_min() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.id}"
        for path in sources(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and CONSTANT_PREFIXES.match(node.id)
    ]
    assert found == []


def names(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every variable, parameter, attribute and function that a module defines."""
    for node in ast.walk(module):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name


def test_a_name_states_what_it_holds() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources(*PACKAGES)
        for line, name in names(tree(path))
        if NAMES.fullmatch(name)
    ]
    assert found == []
    example = ast.parse("told = wanted_until(asked=1)\ndef said(judged): ...")
    assert {name for _, name in names(example) if NAMES.fullmatch(name)} == {"told", "said", "judged"}


def test_exceptions_end_in_error() -> None:
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for path in sources(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }

    def is_exception(name: str) -> bool:
        if name in ("Exception", "BaseException") or (name.endswith(("Error", "Exception")) and name not in bases):
            return True
        return any(is_exception(base) for base in bases.get(name, ()))

    found = [name for name in bases if is_exception(name) and not name.endswith("Error")]
    assert found == []
    assert is_exception("ConfigError")
