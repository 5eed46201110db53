"""The program of a ruleset: operations over columns, in which equal parts of all rules occur once.

Registers hold numbers (NaN: missing) or truths. A register is used again after the last operation that reads it, so
that a block of rows and all registers stay in the processor's cache.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from schemas.errors import RuleError
from scoring.arrays import Array, Floats
from scoring.rules.syntax_tree import (
    Arithmetic,
    Call,
    Expression,
    FieldSource,
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

MAX_OPERATIONS = 10_000  # of all rules; 20 for each of 500
MAX_TEXT_TESTS = 1_000  # of categories, in all rules; each has a truth for every level
FALSE, UNKNOWN, TRUE = 0, 1, 2  # `and` is the minimum, `or` the maximum, `not` the complement
SNOOZED = 3  # of a rule that would match, but is snoozed for the transaction

# Operations. a, b: registers, unless stated otherwise; c: a constant.
LOAD, CONSTANT, ADD, SUBTRACT, MULTIPLY, DIVIDE, NEGATE, ABSOLUTE, MINIMUM, MAXIMUM, COALESCE = range(11)  # to numbers
IS_LESS, IS_AT_MOST, IS_EQUAL = range(20, 23)  # of two numbers
IS_BELOW_C, IS_AT_MOST_C, IS_ABOVE_C, IS_AT_LEAST_C, EQUALS_C = range(30, 35)  # a number and a constant
IS_MISSING, LEVEL_TRUTH, ROW_TRUTH, TRUTH_C, NOT, AND, OR, IS_SAME, STORE = range(40, 49)
_TO_NUMBER = frozenset(range(LOAD, COALESCE + 1))
_NO_REGISTER = frozenset((LOAD, CONSTANT, LEVEL_TRUTH, ROW_TRUTH, TRUTH_C))  # a and b are inputs, or nothing
_ARITHMETIC = {"+": ADD, "-": SUBTRACT, "*": MULTIPLY, "/": DIVIDE}
_FUNCTIONS = {"min": MINIMUM, "max": MAXIMUM, "coalesce": COALESCE}
_WITH_CONSTANT = {"<": IS_BELOW_C, "<=": IS_AT_MOST_C, ">": IS_ABOVE_C, ">=": IS_AT_LEAST_C, "==": EQUALS_C}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_COMMUTATIVE = frozenset((ADD, MULTIPLY, MINIMUM, MAXIMUM, IS_EQUAL, AND, OR, IS_SAME))

TextTest = Literal["in", "starts_with", "ends_with", "contains", "missing"]


class NumberInput(NamedTuple):
    """A column of numbers; booleans are 0 and 1."""

    name: str
    source: FieldSource | Literal["event time"]


class TextPredicate(NamedTuple):
    """A test of a text field against texts of the ruleset."""

    field: str
    source: FieldSource
    test: TextTest
    texts: tuple[str, ...]

    def holds(self, text: str | None) -> int:
        """Truth of the test for a value."""
        if text is None:
            return TRUE if self.test == "missing" else UNKNOWN
        match self.test:
            case "in":
                found = text in self.texts
            case "starts_with":
                found = text.startswith(self.texts)
            case "ends_with":
                found = text.endswith(self.texts)
            case "contains":
                found = self.texts[0] in text
            case _:
                found = False
        return TRUE if found else FALSE


class ListPredicate(NamedTuple):
    """Whether the value of a text field is on a list."""

    field: str
    source: FieldSource
    list: str


class SameText(NamedTuple):
    """Whether two text fields have one value."""

    left: tuple[str, FieldSource]
    right: tuple[str, FieldSource]


class Program(NamedTuple):
    """Operations and what they read."""

    code: Array  # int32, shape (n_operations, 4): operation, target, a, b
    constants: Floats  # shape (n_operations,)
    numbers: tuple[NumberInput, ...]
    texts: tuple[str, ...]  # categories of which the levels are read
    levels: tuple[TextPredicate, ...]  # computed for each level of a category
    rows: tuple[TextPredicate | ListPredicate | SameText, ...]  # computed for each row
    n_number_registers: int
    n_truth_registers: int


class _Operation(NamedTuple):
    op: int
    a: int = -1
    b: int = -1
    c: float = 0.0


def compile_program(conditions: Sequence[tuple[Expression | None, float | None]]) -> Program:
    """The program of rules. conditions: of each rule, and the event time (ms) from which on it does not match.

    A condition of None is never true. Raises RuleError for too many operations or tests of texts.
    """
    lowering = _Lowering()
    for rule, (condition, until_ms) in enumerate(conditions):
        lowering.add_rule(rule, condition, until_ms)
    return lowering.program()


class _Lowering:
    """Turns trees into operations. A value is the index of the operation that computes it."""

    def __init__(self) -> None:
        self._operations: list[_Operation] = []
        self._values: dict[_Operation, int] = {}
        self._numbers: dict[NumberInput, int] = {}
        self._texts: dict[str, int] = {}
        self._levels: dict[TextPredicate, int] = {}
        self._rows: dict[TextPredicate | ListPredicate | SameText, int] = {}
        self._rules: list[int] = []

    def add_rule(self, rule: int, condition: Expression | None, until_ms: float | None) -> None:
        if condition is None:
            truth = self._value(TRUTH_C, c=FALSE)
        else:
            truth = self._truth(condition)
            if until_ms is not None:
                time = self._input(NumberInput("", "event time"))
                truth = self._value(AND, truth, self._value(IS_BELOW_C, time, c=until_ms))
        self._operations.append(_Operation(STORE, truth, rule))

    def program(self) -> Program:
        code, n_numbers, n_truths = _allocate(self._operations)
        return Program(
            code=code,
            constants=np.array([operation.c for operation in self._operations], np.float64),
            numbers=tuple(self._numbers),
            texts=tuple(self._texts),
            levels=tuple(self._levels),
            rows=tuple(self._rows),
            n_number_registers=n_numbers,
            n_truth_registers=n_truths,
        )

    def _value(self, op: int, a: int = -1, b: int = -1, c: float = 0.0) -> int:
        if op in _COMMUTATIVE and a > b:
            a, b = b, a
        operation = _Operation(op, a, b, c)
        found = self._values.get(operation)
        if found is None:
            if len(self._values) == MAX_OPERATIONS:
                raise RuleError(f"more than {MAX_OPERATIONS} different operations in all rules; shorten or remove some")
            found = self._values[operation] = len(self._operations)
            self._operations.append(operation)
        return found

    def _input(self, number: NumberInput) -> int:
        return self._value(LOAD, self._numbers.setdefault(number, len(self._numbers)))

    def _number(self, node: Expression) -> int:
        constant = _constant(node)
        if constant is not None:
            return self._value(CONSTANT, c=constant)
        match node:
            case FieldValue():
                return self._input(NumberInput(node.name, node.source))
            case Negation():
                return self._value(NEGATE, self._number(node.operand))
            case Arithmetic():
                return self._value(_ARITHMETIC[node.op], self._number(node.left), self._number(node.right))
            case Call(function="abs"):
                return self._value(ABSOLUTE, self._number(node.arguments[0]))
            case Call():
                found = self._number(node.arguments[0])
                for argument in node.arguments[1:]:
                    found = self._value(_FUNCTIONS[node.function], found, self._number(argument))
                return found
        raise AssertionError(node)

    def _truth(self, node: Expression) -> int:
        match node:
            case TruthLiteral():
                return self._value(TRUTH_C, c=TRUE if node.value else FALSE)
            case FieldValue():
                return self._not(self._value(EQUALS_C, self._number(node), c=0.0))
            case Inversion():
                return self._not(self._truth(node.operand))
            case Logical():
                parts = [self._truth(operand) for operand in node.operands]
                found = parts[0]
                for part in parts[1:]:
                    found = self._value(AND if node.op == "and" else OR, found, part)
                return found
            case ValueComparison():
                return self._comparison(node)
            case Membership():
                return self._membership(node)
            case MissingTest(operand=FieldValue(kind="text") as field):
                return self._text(field, "missing", ())
            case MissingTest():
                return self._value(IS_MISSING, self._number(node.operand))
            case Call(arguments=(FieldValue() as field, TextLiteral(value=text))):
                return self._text(field, node.function, (text,))  # type: ignore[arg-type]
        raise AssertionError(node)

    def _not(self, truth: int) -> int:
        operation = self._operations[truth]
        return operation.a if operation.op == NOT else self._value(NOT, truth)

    def _comparison(self, node: ValueComparison) -> int:
        if node.op == "!=":
            return self._not(self._comparison(ValueComparison(op="==", left=node.left, right=node.right, at=node.at)))
        left, right = node.left, node.right
        if isinstance(left, FieldValue) and left.kind == "text":
            if isinstance(right, TextLiteral):
                return self._text(left, "in", (right.value,))
            assert isinstance(right, FieldValue)
            pair = sorted([(left.name, left.source), (right.name, right.source)])
            return self._row(SameText(pair[0], pair[1]))
        if _is_truth(left):
            return self._value(IS_SAME, self._truth(left), self._truth(right))
        op: str = node.op
        if _constant(left) is not None and _constant(right) is None:
            left, right, op = right, left, _MIRRORED[op]
        a, constant = self._number(left), _constant(right)
        if constant is not None:
            return self._value(_WITH_CONSTANT[op], a, c=constant)
        b = self._number(right)
        if op == "==":
            return self._value(IS_EQUAL, a, b)
        if op in (">", ">="):
            a, b = b, a
        return self._value(IS_LESS if op in ("<", ">") else IS_AT_MOST, a, b)

    def _membership(self, node: Membership) -> int:
        if node.list is not None:
            assert isinstance(node.operand, FieldValue)
            return self._row(ListPredicate(node.operand.name, node.operand.source, node.list))
        if isinstance(node.operand, FieldValue) and node.operand.kind == "text":
            texts = {item.value for item in node.items if isinstance(item, TextLiteral)}
            return self._text(node.operand, "in", tuple(sorted(texts)))
        number = self._number(node.operand)
        constants = dict.fromkeys(_constant(item) for item in node.items)
        truths = [self._value(EQUALS_C, number, c=constant) for constant in constants if constant is not None]
        found = truths[0]
        for truth in truths[1:]:
            found = self._value(OR, found, truth)
        return found

    def _text(self, field: FieldValue, test: TextTest, texts: tuple[str, ...]) -> int:
        predicate = TextPredicate(field.name, field.source, test, texts)
        if field.source == "key":  # hardly a key occurs twice in a batch
            return self._row(predicate)
        if predicate not in self._levels and len(self._levels) == MAX_TEXT_TESTS:
            raise RuleError(f"more than {MAX_TEXT_TESTS} different tests of texts in all rules; write lists instead")
        column = self._texts.setdefault(field.name, len(self._texts))
        return self._value(LEVEL_TRUTH, self._levels.setdefault(predicate, len(self._levels)), column)

    def _row(self, predicate: TextPredicate | ListPredicate | SameText) -> int:
        return self._value(ROW_TRUTH, self._rows.setdefault(predicate, len(self._rows)))


def _constant(node: Expression) -> float | None:
    if isinstance(node, NumberLiteral):
        return node.value
    if isinstance(node, Negation) and isinstance(node.operand, NumberLiteral):
        return -node.operand.value
    return None


def _is_truth(node: Expression) -> bool:
    match node:
        case FieldValue():
            return node.kind == "boolean"
        case Call():
            return node.function not in ("abs", *_FUNCTIONS)
    return isinstance(node, TruthLiteral | Inversion | Logical | ValueComparison | Membership | MissingTest)


def _allocate(operations: Sequence[_Operation]) -> tuple[Array, int, int]:
    """Operations with registers in place of values, and the numbers of registers of each type."""
    last_read: dict[int, int] = {}
    for place, operation in enumerate(operations):
        for value in _read(operation):
            last_read[value] = place
    free: dict[bool, list[int]] = {True: [], False: []}  # by whether they hold numbers
    n_registers = {True: 0, False: 0}
    registers: dict[int, int] = {}
    code = np.empty((len(operations), 4), np.int32)
    for place, operation in enumerate(operations):
        read = _read(operation)
        a, b = (registers[v] if v in read else v for v in (operation.a, operation.b))
        if operation.op == STORE:
            target, a, b = operation.b, registers[operation.a], -1
        else:
            is_number = operation.op in _TO_NUMBER
            if free[is_number]:
                target = free[is_number].pop()
            else:
                target = n_registers[is_number]
                n_registers[is_number] += 1
            registers[place] = target
        # The target is none of the operands: the loop over a block can then be vectorized.
        for value in set(read):
            if last_read[value] == place:
                free[operations[value].op in _TO_NUMBER].append(registers[value])
        code[place] = operation.op, target, a, b
    return code, n_registers[True], n_registers[False]


def _read(operation: _Operation) -> tuple[int, ...]:
    """The values that an operation reads."""
    if operation.op in _NO_REGISTER:
        return ()
    if operation.op == STORE or operation.b < 0:
        return (operation.a,)
    return (operation.a, operation.b)
