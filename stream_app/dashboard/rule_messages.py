"""What the page answers about rules and lists, and what people send. Times are in milliseconds since 1970 (UTC)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.records import Effect, Id, Name, TimeMs
from schemas.rule_report import MatchCounts
from schemas.rules import ListEntry, Mode, Rule, RulesEvidence, Text

Reason = Annotated[Text, Meta(min_length=1)]
MAX_VALUES = 500  # of one request


class RuleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of the ruleset in force."""

    rule: Rule
    statistics: MatchCounts | None  # null: the monitor has not counted it yet


class RulesetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the history of rulesets."""

    number: int
    change: Literal["proposed", "activated"]
    by: str
    at_ms: int
    reason: str
    refused: str | None  # why it has no effect, in one line
    proposal: int | None  # that it approves
    restores: int | None  # a rollback: number of the ruleset that is in force again; 0: none
    evidence: RulesEvidence | None  # of the test
    differences: tuple[str, ...]  # from the ruleset in force before, a sentence each


class RulesView(msgspec.Struct, frozen=True, kw_only=True):
    """The ruleset in force, what waits for approval, and the history."""

    number: int | None  # of the record in force; null: no ruleset
    rules: tuple[RuleRow, ...]
    exploration: str | None  # in one sentence
    proposals: tuple[RulesetRow, ...]  # that wait for approval, newest first
    history: tuple[RulesetRow, ...]  # newest first
    list_statistics: tuple[MatchCounts, ...]  # of lists
    counted_until_ms: int | None  # event time of the statistics


class ListSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One list."""

    name: str
    entries: int  # that are not removed; expired ones included


class ListsView(msgspec.Struct, frozen=True, kw_only=True):
    """All lists, and some entries."""

    lists: tuple[ListSummary, ...]
    entries: tuple[ListEntry, ...]  # newest first
    matching: int  # entries that match the filter
    cut: int  # entries that the page does not hold, because of their number
    key: str | None  # field of the card


class ModeForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a change of a rule's mode."""

    mode: Mode
    reason: Reason
    force: Reason | None = None  # why it goes live without a test


class ApprovalForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of an approval of a proposed ruleset."""

    number: Annotated[int, Meta(ge=1)]
    reason: Reason


class RollbackForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a rollback."""

    reason: Reason


class EntriesForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a change of a list."""

    field: Name | None = None  # null: the card
    values: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=MAX_VALUES)]
    effect: Effect | None = "block"  # null: only rules look the values up
    reason: Reason
    until_ms: TimeMs | None = None  # by event time; null: until it is removed
    removed: bool = False  # take the values off the list


class ChangeReply(msgspec.Struct, frozen=True, kw_only=True):
    """A change that was recorded."""

    text: str  # what holds now, in one sentence


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are listed."""

    list: str = ""  # empty: all
    value: str = ""  # part of a value
    limit: int = 50
