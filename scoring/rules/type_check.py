"""Types of a rule's expression, checked against the declaration of the data set. Pure.

Names become fields, and texts that are compared with a field take the form that cleaning gives its values.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import column_kinds
from schemas.dataset.missing_columns import similar_names
from schemas.security.sanitizer import printable
from scoring.input.cleaning import missing_texts
from scoring.input.text_parsing import canonical_level, identifier
from scoring.input.value_parsing import Fault
from scoring.rules.syntax_tree import (
    Arithmetic,
    Call,
    Expression,
    ExpressionError,
    FieldKind,
    FieldValue,
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
    field_values,
)

Kind = Literal["number", "truth", "text"]
SCORE = "score"
NUMBER_FUNCTIONS = {"abs": (1, 1), "min": (2, 20), "max": (2, 20), "coalesce": (2, 20)}  # fewest and most arguments
TEXT_FUNCTIONS = ("starts_with", "ends_with", "contains")  # of a field and a text
_FUNCTIONS = (*NUMBER_FUNCTIONS, *TEXT_FUNCTIONS, "field")
_ORDER = ("<", "<=", ">", ">=")
_ARTICLES = {"number": "a number", "truth": "true or false", "text": "text"}
MAX_SHOWN_NAMES = 10
_LIST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")  # as `schemas.rules.RuleName`


class Checked(NamedTuple):
    """A checked part of an expression."""

    node: Expression
    kind: Kind


def check_expression(tree: Expression, dataset: Dataset) -> Expression:
    """The condition with its names resolved. Raises ExpressionError."""
    checker = _Checker(dataset)
    condition = checker.truth(tree)
    if next(field_values(condition), None) is None:
        raise ExpressionError(0, "the condition reads no field, so it matches every transaction or none; name a field")
    return condition


def canonical_text(dataset: Dataset, field: str, text: str) -> str | None:
    """A text in the form that cleaning gives the values of a category or of the key; None if it means a missing value.

    Rules and list entries are compared with cleaned values.
    """
    if field == dataset.key:
        found = identifier(text, frozenset(dataset.missing))
        return None if isinstance(found, Fault) else found
    fields = [entry for each in dataset.fields for entry in (each.entries or (each,)) if entry.name == field]
    return canonical_level(text, missing_texts(dataset, fields[0]))


def text_fields(dataset: Dataset) -> tuple[str, ...]:
    """The fields whose values can be on a list: the key and the categories."""
    kinds = column_kinds(dataset.declaration)
    key = [dataset.key] if dataset.key else []
    return tuple(dict.fromkeys([*key, *(name for name, kind in kinds.items() if kind == "category")]))


class _Checker:
    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        names: dict[FieldKind | str, FieldKind] = {"number": "number", "boolean": "boolean", "category": "text"}
        self._kinds = {name: names[kind] for name, kind in column_kinds(dataset.declaration).items()}
        self._kinds |= {feature.name: "number" for feature in dataset.profile_features}
        if dataset.key is not None:
            self._kinds[dataset.key] = "text"

    def truth(self, node: Expression) -> Expression:
        found = self._check(node)
        if found.kind != "truth":
            remedy = "compare it, such as x > 0" if found.kind == "number" else 'compare it, such as x == "a"'
            raise ExpressionError(_start(node), f"this is {_ARTICLES[found.kind]}, not a condition; {remedy}")
        return found.node

    def _check(self, node: Expression) -> Checked:
        match node:
            case NumberLiteral():
                return Checked(node, "number")
            case TextLiteral():
                return Checked(node, "text")
            case TruthLiteral():
                return Checked(node, "truth")
            case Name():
                return self._field(node)
            case FieldValue():
                return Checked(node, "truth" if node.kind == "boolean" else node.kind)
            case Negation():
                return Checked(Negation(operand=self._number(node.operand), at=node.at), "number")
            case Arithmetic():
                left, right = self._number(node.left), self._number(node.right)
                return Checked(Arithmetic(op=node.op, left=left, right=right, at=node.at), "number")
            case Call():
                return self._call(node)
            case ValueComparison():
                return Checked(self._comparison(node), "truth")
            case Membership():
                return Checked(self._membership(node), "truth")
            case MissingTest():
                return Checked(self._missing_test(node), "truth")
            case Inversion():
                return Checked(Inversion(operand=self.truth(node.operand), at=node.at), "truth")
            case Logical():
                parts = tuple(map(self.truth, node.operands))
                return Checked(Logical(op=node.op, operands=parts, at=node.at), "truth")

    def _field(self, node: Name) -> Checked:
        if node.name == SCORE and not node.quoted:
            return Checked(FieldValue(name=SCORE, kind="number", source="score", at=node.at), "number")
        kind = self._kinds.get(node.name)
        if kind is None:
            raise ExpressionError(node.at, f"no field {printable(node.name, 60)!r}; {self._known(node.name)}")
        source: Literal["key", "column"] = "key" if node.name == self._dataset.key else "column"
        field = FieldValue(name=node.name, kind=kind, source=source, at=node.at)
        return Checked(field, "truth" if kind == "boolean" else kind)

    def _known(self, name: str) -> str:
        names = [*self._kinds, SCORE]
        similar = similar_names(name[:200], names)
        if similar:
            return f"similar: {_listed(similar)}"
        return f"the data set {self._dataset.name!r} has {_listed(names)}"

    def _number(self, node: Expression) -> Expression:
        found = self._check(node)
        if found.kind == "number":
            return found.node
        at = _start(node)
        match found.kind, found.node:
            case "text", TextLiteral(value=value):
                raise ExpressionError(at, f"the text {printable(value, 40)!r} is no number; write it without quotes")
            case "truth", FieldValue(name=name):
                shown = printable(name, 60)
                raise ExpressionError(at, f"{shown} is true or false, not a number; write {shown} or not {shown}")
        raise ExpressionError(at, f"{_shown(found.node)} is {_ARTICLES[found.kind]}; a number is needed here")

    def _text_field(self, node: Expression, what: str) -> FieldValue:
        found = self._check(node).node
        if not isinstance(found, FieldValue) or found.kind != "text":
            names = _listed(text_fields(self._dataset)) or "none"
            raise ExpressionError(_start(node), f"{_shown(found)} is no text field; {what} takes one of {names}")
        return found

    def _call(self, node: Call) -> Checked:
        name = node.function
        if name in NUMBER_FUNCTIONS:
            fewest, most = NUMBER_FUNCTIONS[name]
            if not fewest <= len(node.arguments) <= most:
                wanted = "one number" if fewest == most else f"{fewest} to {most} numbers"
                raise ExpressionError(node.at, f"{name} takes {wanted}, not {len(node.arguments)}")
            arguments = tuple(map(self._number, node.arguments))
            return Checked(Call(function=name, arguments=arguments, at=node.at), "number")
        if name not in TEXT_FUNCTIONS:
            similar = similar_names(name[:200], _FUNCTIONS)
            known = f"similar: {_listed(similar)}" if similar else f"there are {_listed(_FUNCTIONS)}"
            raise ExpressionError(node.at, f"no function {printable(name, 60)!r}; {known}")
        if len(node.arguments) != 2 or not isinstance(part := node.arguments[1], TextLiteral):
            raise ExpressionError(node.at, f'{name} takes a field and a text in quotes, such as {name}(city, "San")')
        field = self._text_field(node.arguments[0], name)
        if not part.value:
            raise ExpressionError(part.at, f"{name} with an empty text is always true; write at least one character")
        own = TextLiteral(value=unicodedata.normalize("NFC", part.value), at=part.at)
        return Checked(Call(function=name, arguments=(field, own), at=node.at), "truth")

    def _comparison(self, node: ValueComparison) -> Expression:
        left, right = self._check(node.left), self._check(node.right)
        kinds = {left.kind, right.kind}
        if kinds == {"number"} or (kinds == {"truth"} and node.op not in _ORDER):
            return ValueComparison(op=node.op, left=left.node, right=right.node, at=node.at)
        if kinds == {"text"} and node.op not in _ORDER:
            return self._text_comparison(node, left.node, right.node)
        if len(kinds) == 1:
            what = "texts have no order" if kinds == {"text"} else "true and false have no order"
            raise ExpressionError(node.at, f"{node.op} compares numbers only: {what}; write == or !=")
        text = f"{_shown(left.node)} is {_ARTICLES[left.kind]}, {_shown(right.node)} is {_ARTICLES[right.kind]}"
        raise ExpressionError(node.at, f"{text}; {_remedy(left, right)}")

    def _text_comparison(self, node: ValueComparison, left: Expression, right: Expression) -> Expression:
        if isinstance(left, TextLiteral):
            left, right = right, left  # == and != only
        if isinstance(left, TextLiteral):
            raise ExpressionError(node.at, "two texts in quotes are compared; name a field, without quotes")
        if isinstance(right, TextLiteral) and isinstance(left, FieldValue):
            right = self._literal(left, right)
        return ValueComparison(op=node.op, left=left, right=right, at=node.at)

    def _literal(self, field: FieldValue, literal: TextLiteral) -> TextLiteral:
        name, shown = printable(field.name, 60), printable(literal.value, 40)
        own = canonical_text(self._dataset, field.name, literal.value)
        if own is None:
            problem = f"{shown!r} never occurs in {name}, where it means a missing value or is not valid"
            raise ExpressionError(literal.at, f"{problem}; write {name} is missing, or another text")
        return TextLiteral(value=own, at=literal.at)

    def _membership(self, node: Membership) -> Expression:
        if node.list is not None:
            field = self._text_field(node.operand, "list")
            if _LIST_NAME.fullmatch(node.list) is None:
                wanted = "lower-case letters, digits and hyphens, at most 64"
                raise ExpressionError(node.at, f"{printable(node.list, 60)!r} is no name of a list; use {wanted}")
            return Membership(operand=field, list=node.list, at=node.at)
        operand = self._check(node.operand)
        wrong = TextLiteral if operand.kind == "number" else NumberLiteral | Negation
        item = next((item for item in node.items if isinstance(item, wrong)), None)
        if operand.kind == "truth" or item is not None:
            shown, at = _shown(operand.node), item.at if item is not None and operand.kind != "truth" else node.at
            remedy = {
                "number": "write numbers without quotes",
                "text": "write texts in quotes",
                "truth": "only numbers and texts can be in a list of values",
            }[operand.kind]
            raise ExpressionError(at, f"{shown} is {_ARTICLES[operand.kind]}; {remedy}")
        if operand.kind == "number":
            return Membership(operand=operand.node, items=node.items, at=node.at)
        field = self._text_field(node.operand, "in")
        items = [self._literal(field, item) for item in node.items if isinstance(item, TextLiteral)]
        return Membership(operand=field, items=tuple(items), at=node.at)

    def _missing_test(self, node: MissingTest) -> Expression:
        found = self._check(node.operand)
        if found.kind == "truth" and not isinstance(found.node, FieldValue):
            raise ExpressionError(node.at, "is missing tests a field or a number, not a condition")
        if isinstance(found.node, TextLiteral):
            raise ExpressionError(node.at, "a text in quotes is never missing; name a field, without quotes")
        if isinstance(found.node, FieldValue) and found.node.source == "key":
            raise ExpressionError(node.at, f"the key {printable(found.node.name, 60)} is never missing; leave this out")
        return MissingTest(operand=found.node, at=node.at)


def _remedy(left: Checked, right: Checked) -> str:
    for literal, other in ((left, right), (right, left)):
        if isinstance(literal.node, TextLiteral) and other.kind == "number":
            return "write the number without quotes"
        if isinstance(literal.node, NumberLiteral) and other.kind == "text":
            return "write the text in quotes"
        if literal.kind == "truth" and isinstance(literal.node, FieldValue):
            name = printable(literal.node.name, 60)
            return f"write {name} or not {name}"
    return "compare values of one kind"


def _shown(node: Expression) -> str:
    match node:
        case FieldValue():
            return printable(node.name, 60)
        case TextLiteral():
            return repr(printable(node.value, 40))
        case NumberLiteral():
            return f"{node.value:g}"
        case _:
            return "this"


def _start(node: Expression) -> int:
    """Position of the first character that belongs to a node, as far as it is known."""
    while isinstance(node, Arithmetic | ValueComparison):
        node = node.left
    return node.at


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name, 60) for name in names[:MAX_SHOWN_NAMES])
    more = len(names) - MAX_SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
