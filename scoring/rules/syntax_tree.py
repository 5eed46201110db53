"""The tree of a rule's expression.

`at` is the position of a node in the text of the expression, for errors; trees are compared and shared without it.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

FieldKind = Literal["number", "boolean", "text"]
FieldSource = Literal["column", "key", "score"]


class NumberLiteral(msgspec.Struct, frozen=True, kw_only=True):
    """A number."""

    value: float
    at: int


class TextLiteral(msgspec.Struct, frozen=True, kw_only=True):
    """A text in quotes."""

    value: str
    at: int


class TruthLiteral(msgspec.Struct, frozen=True, kw_only=True):
    """`true` or `false`."""

    value: bool
    at: int


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """A name, or `field("name")`, before it is resolved."""

    name: str
    quoted: bool  # field("name"): always a column or the key
    at: int


class FieldValue(msgspec.Struct, frozen=True, kw_only=True):
    """What a name means: a column, the key or the score of the model."""

    name: str
    kind: FieldKind
    source: FieldSource
    at: int


class Negation(msgspec.Struct, frozen=True, kw_only=True):
    """Unary minus."""

    operand: "Expression"
    at: int


class Arithmetic(msgspec.Struct, frozen=True, kw_only=True):
    """Two numbers and an operator."""

    op: Literal["+", "-", "*", "/"]
    left: "Expression"
    right: "Expression"
    at: int  # of the operator


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A named function of some arguments."""

    function: str
    arguments: tuple["Expression", ...]
    at: int


class ValueComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two values of one kind. A chain such as `1 < x <= 2` is the conjunction of its comparisons."""

    op: Literal["<", "<=", ">", ">=", "==", "!="]
    left: "Expression"
    right: "Expression"
    at: int  # of the operator


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a value is one of some literals, or on a list."""

    operand: "Expression"
    items: tuple["NumberLiteral | TextLiteral | Negation", ...] = ()
    list: str | None = None  # None: `items` counts
    at: int  # of the operator


class MissingTest(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a value is missing."""

    operand: "Expression"
    at: int  # of the operator


class Inversion(msgspec.Struct, frozen=True, kw_only=True):
    """`not`."""

    operand: "Expression"
    at: int


class Logical(msgspec.Struct, frozen=True, kw_only=True):
    """Conjunction or disjunction of at least two operands."""

    op: Literal["and", "or"]
    operands: tuple["Expression", ...]
    at: int  # of the first operator


Expression = (
    NumberLiteral
    | TextLiteral
    | TruthLiteral
    | Name
    | FieldValue
    | Negation
    | Arithmetic
    | Call
    | ValueComparison
    | Membership
    | MissingTest
    | Inversion
    | Logical
)


class ExpressionError(Exception):
    """An expression that is no rule: what is wrong, where, and the remedy."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


def operands(node: Expression) -> tuple[Expression, ...]:
    """The parts of a node that are expressions, from left to right."""
    match node:
        case Negation() | MissingTest() | Inversion() | Membership():
            return (node.operand,)
        case Arithmetic() | ValueComparison():
            return (node.left, node.right)
        case Call():
            return node.arguments
        case Logical():
            return node.operands
        case _:
            return ()


def field_values(node: Expression) -> Iterator[FieldValue]:
    """The fields that a checked expression reads."""
    if isinstance(node, FieldValue):
        yield node
    for operand in operands(node):
        yield from field_values(operand)
