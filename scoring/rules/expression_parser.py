"""Parser of the rule language: a subset of Python's expressions, with the same precedence.

It is written by hand because a ruleset must mean the same on every worker: Python's own parser depends on the version
of Python in limits and warnings, and rewrites names (NFKC). Time and stack are bounded by the length of the text.
"""

import math
import re
from typing import NamedTuple

from schemas.rules import MAX_EXPRESSION_LENGTH
from schemas.security.sanitizer import printable
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
    operands,
)

MAX_DEPTH = 50  # of the tree
_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
      (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?!\w))
    | (?P<name>[^\W\d]\w*)
    | (?P<text>"(?:[^"\\\n]|\\["'\\])*"|'(?:[^'\\\n]|\\["'\\])*')
    | (?P<sign><=|>=|==|!=|[-+*/<>(),\[\]])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")
_KEYWORDS = {"and", "or", "not", "in", "is", "missing", "list", "true", "false", "True", "False"}
# How strongly an operator binds; higher binds stronger.
_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN = range(1, 8)
_BINDING = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!=", "in", "not", "is"), _COMPARE),
    "+": _SUM,
    "-": _SUM,
    "*": _PRODUCT,
    "/": _PRODUCT,
}
_REMEDIES = {
    "=": "write == to compare",
    "&": "write and",
    "|": "write or",
    "!": "write not, or != to compare",
    "%": "there is no remainder",
    ".": 'names have no attributes; a field whose name has a point is field("name")',
    "{": "write a list of values in round brackets",
    "#": "there are no comments",
}


class Token(NamedTuple):
    """A word, a number, a text or a sign."""

    kind: str
    text: str
    at: int


def parse_expression(text: str) -> Expression:
    """The tree of an expression, whose names are not resolved yet. Raises ExpressionError."""
    if len(text) > MAX_EXPRESSION_LENGTH:
        raise ExpressionError(0, f"{len(text)} characters; shorten it to {MAX_EXPRESSION_LENGTH}, or write two rules")
    parser = _Parser(_tokens(text))
    tree = parser.expression(0)
    if parser.token.kind != "end":
        raise _unexpected(parser.token, "an operator, such as and")
    _check_depth(tree)
    return tree


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            raise _no_token(text, at)
        kind = str(match.lastgroup)
        tokens.append(Token(kind, match[kind], match.start(kind)))
        if kind == "end":
            return tokens
        at = match.end()


def _no_token(text: str, at: int) -> ExpressionError:
    at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n"))
    found = text[at]
    if found in "\"'":
        return ExpressionError(at, f"a text that does not end; close it with {found} on the same line, without \\")
    if found.isdigit() or found == ".":
        word = re.match(r"[\w.]+", text[at:])
        shown = printable(word[0] if word else found, 30)
        if found.isascii() and (found.isdigit() or text[at + 1 : at + 2].isdigit()):
            return ExpressionError(at, f"{shown} is no number; write one such as 1000, 0.5 or 1e6")
    remedy = _REMEDIES.get(found, "see docs/rules.md for what an expression may contain")
    return ExpressionError(at, f"unexpected character {printable(found)!r}; {remedy}")


def _unexpected(token: Token, wanted: str) -> ExpressionError:
    found = "the end" if token.kind == "end" else printable(token.text, 30)
    return ExpressionError(token.at, f"found {found}; expected {wanted}")


def _check_depth(tree: Expression) -> None:
    """Later steps recurse over the tree."""
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [operand for node in level for operand in operands(node)]
        if not level:
            return
    raise _too_deep(level[0].at)


def _too_deep(at: int) -> ExpressionError:
    return ExpressionError(at, f"more than {MAX_DEPTH} operations inside each other; split it into several rules")


class _Parser:
    """Precedence climbing over the tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._level = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._next]

    def expression(self, minimum: int) -> Expression:
        """An expression whose operators bind at least as strongly as `minimum`."""
        self._level += 1
        if self._level > MAX_DEPTH:
            raise _too_deep(self.token.at)
        left = self._operand()
        while (binding := self._binding()) >= max(minimum, 1):
            if binding == _COMPARE:
                left = self._comparisons(left)
            elif binding in (_AND, _OR):
                left = self._logical(left, binding)
            else:
                sign = self._take()
                left = Arithmetic(op=sign.text, left=left, right=self.expression(binding + 1), at=sign.at)  # type: ignore[arg-type]
        self._level -= 1
        return left

    def _binding(self) -> int:
        return _BINDING.get(self.token.text, 0) if self.token.kind in ("name", "sign") else 0

    def _take(self) -> Token:
        token = self.token
        self._next += 1
        return token

    def _is(self, text: str) -> bool:
        return self.token.kind in ("name", "sign") and self.token.text == text

    def _accept(self, text: str) -> bool:
        found = self._is(text)
        self._next += found
        return found

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise _unexpected(self.token, text)

    def _operand(self) -> Expression:
        token = self._take()
        match token.kind, token.text:
            case "number", text:
                return NumberLiteral(value=_number(token, text), at=token.at)
            case "text", text:
                return TextLiteral(value=_text(token), at=token.at)
            case "sign", "-":
                return Negation(operand=self.expression(_SIGN), at=token.at)
            case "sign", "(":
                inner = self.expression(0)
                self._expect(")")
                return inner
            case "name", "not":
                return Inversion(operand=self.expression(_NOT), at=token.at)
            case "name", "true" | "True" | "false" | "False":
                return TruthLiteral(value=token.text in ("true", "True"), at=token.at)
            case "name", "list":
                raise ExpressionError(token.at, 'list("name") is only possible after in or not in')
            case "name", name if name not in _KEYWORDS:
                return self._call(token) if self._accept("(") else Name(name=name, quoted=False, at=token.at)
        raise _unexpected(token, "a field, a number or a text")

    def _call(self, name: Token) -> Expression:
        arguments: list[Expression] = []
        while not self._accept(")"):
            if arguments:
                self._expect(",")
            arguments.append(self.expression(0))
        if name.text == "field":
            if len(arguments) != 1 or not isinstance(arguments[0], TextLiteral):
                raise ExpressionError(name.at, 'field takes one name in quotes, such as field("card type")')
            return Name(name=arguments[0].value, quoted=True, at=name.at)
        return Call(function=name.text, arguments=tuple(arguments), at=name.at)

    def _logical(self, left: Expression, binding: int) -> Expression:
        op: str = self.token.text
        at = self.token.at
        parts = [left]
        while self._accept(op):
            parts.append(self.expression(binding + 1))
        return Logical(op=op, operands=tuple(parts), at=at)  # type: ignore[arg-type]

    def _comparisons(self, left: Expression) -> Expression:
        parts: list[Expression] = []
        at = self.token.at
        while self._binding() == _COMPARE:
            operator = self._take()
            if operator.text in ("in", "not", "is"):
                if parts:
                    raise ExpressionError(operator.at, f"{operator.text} in a chain of comparisons; join them by and")
                result = self._is_missing(left, operator.at) if operator.text == "is" else self._member(left, operator)
                if self._binding() == _COMPARE:
                    raise ExpressionError(self.token.at, f"{self.token.text} after {operator.text}; join them by and")
                return result
            right = self.expression(_SUM)
            parts.append(ValueComparison(op=operator.text, left=left, right=right, at=operator.at))  # type: ignore[arg-type]
            left = right
        return parts[0] if len(parts) == 1 else Logical(op="and", operands=tuple(parts), at=at)

    def _is_missing(self, operand: Expression, at: int) -> Expression:
        inverted = self._accept("not")
        if not self._accept("missing"):
            raise _unexpected(self.token, "missing: is only tests whether a value is missing; write == to compare")
        test = MissingTest(operand=operand, at=at)
        return Inversion(operand=test, at=at) if inverted else test

    def _member(self, operand: Expression, operator: Token) -> Expression:
        if operator.text == "not":
            self._expect("in")
        if self._accept("list"):
            self._expect("(")
            name = self._take()
            if name.kind != "text":
                raise _unexpected(name, 'the name of a list in quotes, such as list("stolen-cards")')
            self._expect(")")
            found = Membership(operand=operand, list=_text(name), at=operator.at)
        else:
            found = Membership(operand=operand, items=self._items(), at=operator.at)
        return Inversion(operand=found, at=operator.at) if operator.text == "not" else found

    def _items(self) -> tuple[NumberLiteral | TextLiteral | Negation, ...]:
        start = self.token
        closing = {"(": ")", "[": "]"}.get(start.text, "")
        if start.kind != "sign" or not closing:
            raise _unexpected(start, 'values in brackets, such as ("a", "b"), or list("name")')
        self._take()
        items: list[NumberLiteral | TextLiteral | Negation] = []
        while not self._accept(closing):
            if items:
                self._expect(",")
                if self._accept(closing):
                    break
            item = self.expression(_SUM)
            negated = isinstance(item, Negation) and isinstance(item.operand, NumberLiteral)
            if not (negated or isinstance(item, NumberLiteral | TextLiteral)):
                raise ExpressionError(item.at, "only numbers and texts can be listed; join comparisons by or")
            items.append(item)  # type: ignore[arg-type]
        if not items:
            raise ExpressionError(start.at, "an empty list of values, in which nothing is")
        return tuple(items)


def _number(token: Token, text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ExpressionError(token.at, f"{printable(text, 30)} is too large; numbers go up to 1.8e308")
    return value


def _text(token: Token) -> str:
    text = _ESCAPE.sub(r"\1", token.text[1:-1])
    if not text.isprintable():
        raise ExpressionError(token.at, f"the text {printable(text, 30)!r} has a character that cannot be printed")
    return text
