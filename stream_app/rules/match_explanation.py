"""The matches of a decision with the values that their rules and lists read. Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from schemas.dataset.declaration import Dataset
from schemas.records import Decision, RuleMatch
from scoring.arrays import Array
from scoring.input.cleaning import CleanedBatch
from scoring.rules.list_state import ListState
from scoring.rules.rule_state import RuleState
from scoring.rules.ruleset import CompiledRuleset
from scoring.rules.syntax_tree import FieldValue, field_values

ReadValue = str | float | None  # null: missing


class ExplainedMatch(msgspec.Struct, frozen=True, kw_only=True):
    """One match of a decision."""

    match: RuleMatch
    when: str | None  # condition of the rule; null: an entry of a list, or the ruleset is gone
    values: dict[str, ReadValue]  # by field and profile feature that the rule reads, or by field on the list


class DecidedTransaction(NamedTuple):
    """A decision, with what was decided again."""

    decision: Decision
    cleaned: CleanedBatch  # of one row
    profile_features: Mapping[str, float | None]
    rules: RuleState  # in force for it


def explain_matches(
    decision: Decision, found: DecidedTransaction | None, dataset: Dataset
) -> tuple[ExplainedMatch, ...]:
    """The matches that a decision names. found: None if the transaction, or the rules in force for it, are gone."""
    return tuple(_explained(match, found, dataset) for match in decision.matches)


def _explained(match: RuleMatch, found: DecidedTransaction | None, dataset: Dataset) -> ExplainedMatch:
    if found is None:
        return ExplainedMatch(match=match, when=None, values={})
    if match.kind == "list":
        return ExplainedMatch(match=match, when=None, values=dict(_on_list(match.name, found, dataset)))
    ruleset = found.rules.ruleset
    row = None if ruleset is None else ruleset.table.rows.get(match.name)
    if ruleset is None or row is None:
        return ExplainedMatch(match=match, when=None, values={})
    return ExplainedMatch(match=match, when=ruleset.rules[row].when, values=_read_values(ruleset, row, found))


def _read_values(ruleset: CompiledRuleset, row: int, found: DecidedTransaction) -> dict[str, ReadValue]:
    return {field.name: _value(field, found) for field in field_values(ruleset.conditions[row])}


def _value(field: FieldValue, found: DecidedTransaction) -> ReadValue:
    if field.source == "score":
        return found.decision.score
    if field.source == "key":
        return found.cleaned.keys[0]
    column = found.cleaned.columns.get(field.name)
    return found.profile_features.get(field.name) if column is None else _of_row(column)


def _of_row(column: Array) -> ReadValue:
    value = column[0]
    if value is None or isinstance(value, str):
        return value
    return None if math.isnan(value) else float(value)


def _on_list(name: str, found: DecidedTransaction, dataset: Dataset) -> Iterator[tuple[str, ReadValue]]:
    """The fields whose values are on a list."""
    if dataset.key is not None and _has(found.rules.lists, name, dataset.key, found.cleaned.keys[0]):
        yield dataset.key, found.cleaned.keys[0]
    for field, column in found.cleaned.columns.items():
        text = _of_row(column)
        if isinstance(text, str) and _has(found.rules.lists, name, field, text):
            yield field, text


def _has(lists: ListState, name: str, field: str, value: str) -> bool:
    return any(terms.list == name for terms in lists.find(field, value))
