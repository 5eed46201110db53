"""The structure of the tree: sizes of files and packages, unique names, and no logic that is written twice."""

import ast
import itertools
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent.parent
PRODUCT = ("schemas", "scoring", "monitoring", "training", "stream_app", "tamiz")
OTHERS = ("chaos", "benchmarks", "docs", "deploy")
MAX_LINES, MAX_MEDIAN_LINES = 350, 110
MAX_MODULES = 14
MIN_RUN = 6  # lines of logic
# Nouns of the field that end as participles do.
NOUNS = {"cleaning", "decoding", "fold", "parsing", "ranking", "resampling", "scaling", "scoring"}
PARTICIPLE = re.compile(r"(ing|ed|ought|own|old|ept|eld)$")
TIME_UNIT = re.compile(r"^ *(?:\w+, )*(?:SECOND|MINUTE|HOUR|DAY|WEEK)_(?:MS|S)(?:, \w+)* = ", re.M)
ARRAY_ALIAS = re.compile(r"^\w+(?:: TypeAlias)? = (?:npt\.)?NDArray\[", re.M)
MILLISECONDS = re.compile(r"\b(?:3_?600_?000|86_?400_?000)\b(?!,|\))")


@cache
def modules(*folders: str) -> dict[str, str]:
    """Text of each module below some folders, by path."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(paths)}


def logic(path: str) -> list[tuple[int, str]]:
    """Lines of a module that are no docstring, comment, import, declared field or lone punctuation, numbered."""
    text = modules(*PRODUCT)[path]
    passed: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_field = isinstance(node, ast.AnnAssign) and node.value is None
        if is_text or is_field or isinstance(node, ast.Import | ast.ImportFrom):
            passed.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = ((n, line) for n, line in enumerate(text.splitlines(), 1) if n not in passed)
    kept = ((number, " ".join(re.sub(r"\s#\s.*", "", line).split())) for number, line in lines)
    return [(number, line) for number, line in kept if re.search(r"\w", line) and not line.startswith("#")]


def test_no_module_is_long() -> None:
    lengths = {path: text.count("\n") for path, text in modules(*PRODUCT, *OTHERS).items()}
    assert {path: n for path, n in lengths.items() if n > MAX_LINES} == {}
    assert median(n for path, n in lengths.items() if not path.endswith("__init__.py")) <= MAX_MEDIAN_LINES


def test_the_listing_of_a_package_is_a_table_of_contents() -> None:
    packages = defaultdict(list)
    for path in modules(*PRODUCT, *OTHERS, "tests"):
        if not path.endswith("__init__.py"):
            packages[path.rpartition("/")[0]].append(path)
    assert {package: len(found) for package, found in packages.items() if len(found) > MAX_MODULES} == {}


def test_no_public_class_name_occurs_twice() -> None:
    found = defaultdict(list)
    for path, text in modules(*PRODUCT, *OTHERS, "tests").items():
        for name in re.findall(r"^class ([A-Za-z]\w*)", text, re.M):
            found[name].append(path)
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_no_module_is_named_by_a_participle() -> None:
    words = {path: Path(path).stem.split("_")[-1] for path in modules(*PRODUCT, *OTHERS)}
    assert {path for path, word in words.items() if PARTICIPLE.search(word) and word not in NOUNS} == set()


def test_units_of_time_and_types_of_arrays_are_defined_in_one_module() -> None:
    units, aliases, literals = set(), set(), set()
    for path, text in modules(*PRODUCT, *OTHERS, "tests").items():
        units |= {path} if TIME_UNIT.search(text) else set()
        aliases |= {path} if ARRAY_ALIAS.search(text) else set()
        literals |= {path} if MILLISECONDS.search(text) and path.split("/")[0] in PRODUCT else set()
    assert (units, aliases, literals) == ({"schemas/time_units.py"}, {"scoring/arrays.py"}, set())


def test_no_run_of_logic_is_written_twice() -> None:
    places = defaultdict(list)
    for path in modules(*PRODUCT):
        lines = logic(path)
        for run in zip(*(itertools.islice(lines, i, None) for i in range(MIN_RUN)), strict=False):
            places[tuple(line for _, line in run)].append(f"{path}:{run[0][0]}")
    assert [found for found in places.values() if len(found) > 1] == []
