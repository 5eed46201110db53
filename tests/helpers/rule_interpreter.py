"""Row-by-row interpreter of checked expressions, written without the compiler: what a rule means."""

import math
import operator
from collections.abc import Mapping
from typing import Any

from scoring.rules.syntax_tree import (
    Arithmetic,
    Call,
    Expression,
    FieldValue,
    Inversion,
    Logical,
    Membership,
    MissingTest,
    Negation,
    NumberLiteral,
    TextLiteral,
    TruthLiteral,
    ValueComparison,
)

COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
TEXT_TESTS = {"starts_with": str.startswith, "ends_with": str.endswith, "contains": operator.contains}
Row = Mapping[str, Any]  # by field; a missing value is None or NaN
Lists = Mapping[tuple[str, str], set[str]]  # values by field and list


def truth(node: Expression, row: Row, lists: Lists) -> bool | None:
    """True, false, or None: unknown."""
    match node:
        case TruthLiteral(value=value):
            return value
        case FieldValue(name=name, kind="boolean"):
            value = row[name]
            return None if value is None or not math.isfinite(value) else bool(value)
        case Inversion(operand=operand):
            found = truth(operand, row, lists)
            return None if found is None else not found
        case Logical(op=op, operands=operands):
            found_all = [truth(operand, row, lists) for operand in operands]
            decisive = op == "or"
            if decisive in found_all:
                return decisive
            return None if None in found_all else not decisive
        case ValueComparison(op=op, left=left, right=right):
            a, b = value_of(left, row, lists), value_of(right, row, lists)
            if a is None or b is None:
                return None
            return bool(COMPARISONS[op](a, b))
        case Membership(operand=operand, items=items, list=name):
            value = value_of(operand, row, lists)
            if value is None:
                return None
            if name is not None:
                assert isinstance(operand, FieldValue)
                return value in lists.get((operand.name, name), set())
            return value in [value_of(item, row, lists) for item in items]
        case MissingTest(operand=operand):
            return value_of(operand, row, lists) is None
        case Call(function=function, arguments=(first, second)):
            text, part = value_of(first, row, lists), value_of(second, row, lists)
            return None if text is None else TEXT_TESTS[function](text, part)
    raise AssertionError(node)


def value_of(node: Expression, row: Row, lists: Lists) -> Any:
    """A number, a text or a truth; None: missing."""
    match node:
        case NumberLiteral() | TextLiteral():
            return node.value
        case FieldValue(name=name, kind="number"):
            return _finite(row[name])
        case FieldValue(name=name, kind="text"):
            return row[name]
        case Negation(operand=operand):
            number = value_of(operand, row, lists)
            return None if number is None else -number
        case Arithmetic(op=op, left=left, right=right):
            a, b = value_of(left, row, lists), value_of(right, row, lists)
            if a is None or b is None or (op == "/" and b == 0):
                return None
            return _finite(OPERATORS[op](a, b))
        case Call(function="coalesce", arguments=arguments):
            numbers = (value_of(argument, row, lists) for argument in arguments)
            return next((number for number in numbers if number is not None), None)
        case Call(function="abs" | "min" | "max" as function, arguments=arguments):
            values = [value_of(argument, row, lists) for argument in arguments]
            if None in values:
                return None
            return abs(values[0]) if function == "abs" else min(values) if function == "min" else max(values)
    return truth(node, row, lists)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
