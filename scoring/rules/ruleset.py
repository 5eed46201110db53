"""A ruleset: compiled from the content of a rules file, evaluated on the columns of a batch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.time_formats import NO_OFFSET, parse_iso
from schemas.errors import RuleError
from schemas.records import MAX_TIME_MS, MIN_TIME_MS
from schemas.rules import Rule, RulesFile
from scoring.arrays import Bytes, Columns, Floats, Ints
from scoring.rules.expression_parser import parse_expression
from scoring.rules.list_state import NO_HITS, ListHits
from scoring.rules.precedence import RuleTable
from scoring.rules.program import SNOOZED, TRUE, compile_program
from scoring.rules.program_loop import run_program
from scoring.rules.syntax_tree import Expression, ExpressionError
from scoring.rules.text_truths import LevelPredicates, row_truths
from scoring.rules.type_check import check_expression


class RuleInputs(NamedTuple):
    """What rules read of n transactions."""

    columns: Columns  # of cleaning and of profiles
    keys: Sequence[str]  # the key's texts; empty for a data set without a key
    scores: Floats  # shape (n,), of the model
    event_time_ms: Ints  # shape (n,)
    lists: ListHits = NO_HITS  # `ListState.lookup` of this batch


class CompiledRuleset:
    """Rules ready to be evaluated, in any thread. Created by `compile_ruleset`."""

    def __init__(self, content: RulesFile, conditions: Sequence[Expression], until_ms: Sequence[int | None]) -> None:
        self.content = content
        self.rules = content.rules
        self.conditions = tuple(conditions)  # checked trees, in the order of the rules
        self.until_ms = tuple(until_ms)  # event times from which on the rules do not match
        used = [
            None if rule.mode == "off" else condition for rule, condition in zip(self.rules, conditions, strict=True)
        ]
        self.program = compile_program(list(zip(used, until_ms, strict=True)))
        self._levels = LevelPredicates(self.program.texts, self.program.levels)
        self.table = RuleTable.of(self.rules)

    def evaluate(self, inputs: RuleInputs) -> Bytes:
        """Truth of each rule for each transaction, shape (n_rules, n): 0 false, 1 unknown, 2 true, 3 snoozed.

        A rule that is off or no longer valid at the event time is false.
        """
        program, n = self.program, len(inputs.scores)
        out = np.empty((len(self.rules), n), np.uint8)
        numbers = np.empty((len(program.numbers), n), np.float64)
        for row, number in enumerate(program.numbers):
            match number.source:
                case "score":
                    numbers[row] = inputs.scores
                case "event time":
                    numbers[row] = inputs.event_time_ms
                case _:
                    numbers[row] = inputs.columns[number.name]
        level_truths, levels = self._levels.evaluate(inputs.columns, n)
        run_program(
            program.code,
            program.constants,
            numbers,
            level_truths,
            levels,
            row_truths(program.rows, inputs.columns, inputs.keys, inputs.lists, n),
            program.n_number_registers,
            program.n_truth_registers,
            out,
        )
        for hit in inputs.lists.snoozes:
            rule = self.table.rows.get(hit.terms.rule or "", -1)
            if rule >= 0:
                out[rule, hit.rows[out[rule, hit.rows] == TRUE]] = SNOOZED
        return out


def compile_ruleset(content: RulesFile, dataset: Dataset) -> CompiledRuleset:
    """Compile the rules for a data set.

    Raises RuleError, one line that names the rule, the position in its condition and the remedy.
    """
    seen: set[str] = set()
    conditions: list[Expression] = []
    until_ms: list[int | None] = []
    for rule in content.rules:
        if rule.id in seen:
            raise RuleError(f"rule {rule.id!r} occurs twice; give each rule an id of its own")
        seen.add(rule.id)
        conditions.append(_condition(rule, dataset))
        until_ms.append(None if rule.valid_until is None else _until_ms(rule, rule.valid_until))
    if content.explore is not None and dataset.amount is None:
        raise RuleError(f"[explore] needs an amount: the data set {dataset.name!r} declares none; declare `amount`")
    return CompiledRuleset(content, conditions, until_ms)


def _condition(rule: Rule, dataset: Dataset) -> Expression:
    try:
        return check_expression(parse_expression(rule.when), dataset)
    except ExpressionError as error:
        before = rule.when[: error.at]
        line, column = before.count("\n") + 1, error.at - before.rfind("\n")
        place = f"column {column}" if "\n" not in rule.when else f"line {line}, column {column}"
        raise RuleError(f"rule {rule.id!r}, {place}: {error}") from None


def _until_ms(rule: Rule, text: str) -> int:
    parsed = parse_iso(text)
    if parsed is None:
        shown = repr(text)
        raise RuleError(f"rule {rule.id!r}: valid_until {shown} is no time; write one such as 2026-12-31T00:00:00Z")
    until_ms = parsed.local_ms - (0 if parsed.offset_ms == NO_OFFSET else parsed.offset_ms)
    if not MIN_TIME_MS <= until_ms <= MAX_TIME_MS:
        raise RuleError(f"rule {rule.id!r}: valid_until {text!r} is out of range; write a year from 1970 to 2199")
    return until_ms
