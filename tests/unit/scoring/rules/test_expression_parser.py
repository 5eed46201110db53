"""What is accepted is Python with the same tree; everything else is refused in one line, in bounded time."""

import ast
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from schemas.dataset.declaration import load_dataset
from schemas.errors import RuleError
from schemas.rules import MAX_EXPRESSION_LENGTH, Rule, RulesFile
from scoring.rules.expression_parser import MAX_DEPTH, parse_expression
from scoring.rules.ruleset import RuleInputs, compile_ruleset
from scoring.rules.syntax_tree import (
    Arithmetic,
    Call,
    Expression,
    ExpressionError,
    Inversion,
    Logical,
    Membership,
    MissingTest,
    Name,
    Negation,
    NumberLiteral,
    TextLiteral,
    TruthLiteral,
    ValueComparison,
)
from tests.helpers.rule_expressions import hostile_text, random_columns, random_condition

CARD = load_dataset("card_transactions")
EXPRESSIONS = int(os.environ.get("TAMIZ_FUZZ_RULES", "2000"))
MAX_CPU_S = 1.0  # of 4,000 characters, on a loaded machine; a quadratic step takes minutes
OPERATORS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.And: "and", ast.Or: "or", ast.Lt: "<", ast.LtE: "<=",
    ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in", ast.Is: "is",
    ast.IsNot: "is not",
}  # fmt: skip


def as_python(node: ast.expr) -> object:
    """A tree of Python in the form of `as_tuple`."""
    match node:
        case ast.BoolOp(op=op, values=values):
            return OPERATORS[type(op)], *map(as_python, values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return "not", as_python(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return "-", as_python(operand)
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)], as_python(left), as_python(right)
        case ast.Compare(left=left, ops=ops, comparators=rights):
            pairs = zip([left, *rights], ops, rights, strict=False)
            parts = [(OPERATORS[type(op)], as_python(a), as_python(b)) for a, op, b in pairs]
            return parts[0] if len(parts) == 1 else ("and", *parts)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return name, *map(as_python, arguments)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return "items", *map(as_python, items)
        case ast.Name(id="true" | "false" as name):
            return name == "true"
        case ast.Name(id=name):
            return "name", name
        case ast.Constant(value=bool() | str() as value):
            return value
        case ast.Constant(value=int() | float() as value):
            return float(value)
    raise AssertionError(ast.dump(node))


def as_tuple(node: Expression) -> object:
    match node:
        case NumberLiteral() | TextLiteral() | TruthLiteral():
            return node.value
        case Name(quoted=True):
            return "field", node.name
        case Name():
            return "name", node.name
        case Negation():
            return "-", as_tuple(node.operand)
        case Arithmetic() | ValueComparison():
            return node.op, as_tuple(node.left), as_tuple(node.right)
        case Call():
            return node.function, *map(as_tuple, node.arguments)
        case Logical():
            return node.op, *map(as_tuple, node.operands)
        case Membership():
            listed = ("items", *map(as_tuple, node.items)) if node.list is None else ("list", node.list)
            return "in", as_tuple(node.operand), listed
        case MissingTest():
            return "is", as_tuple(node.operand), ("name", "missing")
        case Inversion(operand=Membership() | MissingTest() as inner):
            # `not x in y` and `x not in y` have one meaning, and one tree.
            return "not", as_tuple(inner)
        case Inversion():
            return "not", as_tuple(node.operand)
    raise AssertionError(node)


def without_inverted_operators(tree: object) -> object:
    """`x not in y` as `not x in y`; one item in round brackets as such."""
    if not isinstance(tree, tuple):
        return tree
    op, *parts = map(without_inverted_operators, tree)
    if op in ("in", "not in") and not (isinstance(parts[1], tuple) and parts[1][0] in ("items", "list")):
        parts[1] = ("items", parts[1])
    if op in ("not in", "is not"):
        return "not", ("in" if op == "not in" else "is", *parts)
    return op, *parts


@pytest.mark.parametrize("seed", range(20))
def test_an_accepted_condition_is_python_with_the_same_tree(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(EXPRESSIONS // 100):
        text = random_condition(rng, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            python = ast.parse(f"({text})", mode="eval").body
        assert as_tuple(parse_expression(text)) == without_inverted_operators(as_python(python))


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("not monto > 1 and is_prime or score < 1", "((not (monto > 1)) and is_prime) or (score < 1)"),
        ("1 - 2 - 3 * -score / 4 > 0", "((1 - 2) - ((3 * (-score)) / 4)) > 0"),
        ("0 < monto <= 5 != score", "0 < monto and monto <= 5 and 5 != score"),
        ("monto\n  > 1\r\n\tand is_prime", "monto > 1 and is_prime"),
        ("not ciudad in ('a')", "ciudad not in ['a',]"),
        ("not ciudad is missing", "ciudad is not missing"),
        ("True", "true"),
        (r"ciudad == 'O\'Higgins\\'", r'''ciudad == "O'Higgins\\"'''),
        ("monto > 1.5e3", "monto > 1500"),
    ],
)
def test_two_texts_have_one_tree(text: str, same: str) -> None:
    assert as_tuple(parse_expression(text)) == as_tuple(parse_expression(same))


def refused(when: str) -> str | None:
    """The line that refuses a condition; None if it is accepted. An accepted one is evaluated."""
    rule = Rule(id="r", version=1, when=when, effect="review", reason="", mode="live")
    try:
        compiled = compile_ruleset(RulesFile(rules=(rule,)), CARD)
    except RuleError as error:
        return str(error)
    columns, keys, scores = random_columns(random.Random(1), 30)
    truth = compiled.evaluate(RuleInputs(columns, keys, scores, np.zeros(30, np.int64)))
    assert truth.shape == (1, 30)
    assert truth.max() <= 2
    return None


@pytest.mark.parametrize("seed", range(20))
def test_any_text_is_a_total_condition_or_refused_in_one_line(seed: int) -> None:
    rng = random.Random(seed)
    lines = [refused(hostile_text(rng) or "x") for _ in range(EXPRESSIONS // 20)]
    errors = [line for line in lines if line is not None]
    assert all(line.startswith("rule 'r', ") and line.isprintable() and len(line) < 600 for line in errors)
    assert 0 < len(errors) < len(lines)


def filled(piece: str, end: str = "", start: str = "") -> str:
    """As many pieces as the longest condition can have."""
    return start + piece * ((MAX_EXPRESSION_LENGTH - len(start) - len(end)) // len(piece)) + end


LONG = [
    filled("("), filled("[", start="monto in "), filled("-", "1"), filled("+", "1"), filled("~", "1"), filled("not "),
    filled("not not", "x"), filled("lambda:"), filled("a if b else "), filled("1**"), filled("x."), filled("x["),
    filled("f("), filled("f(x,"), filled("await "), filled("*"), filled("{"), filled("{1:"), filled("f'{"),
    filled("monto + ", "1 > 0"), filled("monto > 1 and ", "is_prime"), filled("monto < ", "1"), filled("not (", ")"),
    filled("1,", ")", "monto in ("), filled("'a',", ")", "ciudad in ("), filled("monto,", ")>1", "max("),
    filled("9"), filled("9", ".5"), filled("0.", "1"), filled("1e"), filled("é"), filled("ﬁ"), filled("\x00"),
    filled("'"), filled('"""'), filled("\\"), filled("\n"), filled(" "), filled("#"), filled("a", "'", "'"),
    filled("\\'", "'", "'"), filled("_"), filled("a" * 99 + " "), filled("(monto + 1) * ", "1 > 0"), filled("\ud800"),
    filled("(is_prime or ", "is_prime"), filled("coalesce(monto, "), filled("max(min("), filled("list("), filled("is "),
]  # fmt: skip


@pytest.mark.parametrize("text", LONG, ids=[f"{i}-{text[:12]!a}" for i, text in enumerate(LONG)])
def test_no_text_takes_longer_than_its_length_allows(text: str) -> None:
    started = time.thread_time()
    line = refused(text)
    assert time.thread_time() - started < MAX_CPU_S
    assert line is None or (line.isprintable() and len(line) < 600)


def test_a_text_beyond_the_longest_is_refused_before_it_is_read() -> None:
    with pytest.raises(ExpressionError, match="4001 characters; shorten it to 4000"):
        parse_expression("(" * (MAX_EXPRESSION_LENGTH + 1))


def run_in_small_thread(function: Callable[[], None]) -> None:
    """Run with the smallest stack that a thread may have on any supported system, and few frames left."""
    errors: list[BaseException] = []

    def target() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert errors == []


def test_the_deepest_conditions_fit_into_a_small_stack() -> None:
    depth = MAX_DEPTH - 2
    deepest = ["(" * depth + "is_prime" + ")" * depth, "not " * depth + "is_prime", "-" * depth + "monto > 1"]
    deepest += ["monto" + " + 1" * depth + " > 1", "monto < " + "coalesce(1, " * depth + "monto" + ")" * depth]
    limit = sys.getrecursionlimit()

    def check() -> None:
        sys.setrecursionlimit(400)
        try:
            assert [refused(text) for text in deepest] == [None] * len(deepest)
        finally:
            sys.setrecursionlimit(limit)

    refused("is_prime")  # compiled beforehand
    run_in_small_thread(check)
