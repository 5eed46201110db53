"""Rules and lists: the file that people write, and the records of `rules`, `lists` and `rule-activations`.

The state of rules is a fold over the records of `rules` and `lists`, each a topic of one partition, up to an offset
each. `RuleActivation` states from which input offset of a partition which offsets hold. So a replay, an explanation and
a restart after a crash apply the same rules to the same transaction.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.log_chain import START, Head
from schemas.records import MAX_REASON_LENGTH, Count, Effect, Id, Name, Offset, TimeMs

MAX_RULES = 500  # of a ruleset
MAX_EXPRESSION_LENGTH = 4_000  # characters

RuleName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]  # of a rule or a list
Text = Annotated[str, Meta(max_length=MAX_REASON_LENGTH)]  # for people: a reason
Mode = Literal["live", "shadow", "off"]  # shadow: matches are recorded and have no effect


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule, as its owner writes it in a TOML file."""

    id: RuleName
    version: Annotated[int, Meta(ge=1, le=1_000_000)]  # its owner raises it with each change
    when: Annotated[str, Meta(min_length=1, max_length=MAX_EXPRESSION_LENGTH)]  # expression (`scoring/rules/`)
    effect: Effect
    reason: Text
    mode: Mode = "shadow"
    owner: Name = ""
    valid_until: Annotated[str, Meta(max_length=40)] | None = None  # ISO 8601, UTC; by event time, exclusive


class Exploration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The random share of would-be declines that goes to review, so that declines get labels, too."""

    share: Annotated[float, Meta(gt=0, le=1)]
    below: Annotated[float, Meta(gt=0)]  # amount; larger transactions are declined as usual
    seed: Annotated[str, Meta(max_length=100)] = ""


class RulesFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of a rules file: a whole ruleset."""

    rules: Annotated[tuple[Rule, ...], Meta(max_length=MAX_RULES)] = ()
    explore: Exploration | None = None


class RulesEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """The test on logged values that a ruleset passed before its activation."""

    from_ms: TimeMs
    until_ms: TimeMs
    transactions: Count
    matches: dict[RuleName, Count]  # by rule


class RulesetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A ruleset that a person proposed or activated. The topic `rules` is the append-only history of all of them."""

    number: Annotated[int, Meta(ge=1)]  # of the record in the history, from 1
    change: Literal["proposed", "activated"]
    content: RulesFile
    by: Name  # in the form of `schemas.security.actor`
    at_ms: TimeMs
    reason: Text
    evidence: RulesEvidence | None = None  # null: activated without a test, for the reason given
    proposal: int | None = None  # number of the record that this one approves; the content is equal
    # A rollback: number of the activation whose content is in force again; 0: no rules, as before the first one.
    restores: Annotated[int, Meta(ge=0)] | None = None
    after: Head = START  # the record before; of two records after the same one, the later one is refused


def ruleset_key(number: int, sha256: str) -> str:
    """Kafka key of a record of `rules`. Unique, so that compaction deletes none of them.

    sha256: `schemas.log_chain.entry_sha256` of number and value.
    """
    return f"{number}.{sha256[:16]}"


class ListEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a field on a list: of a card, a merchant, a device. A later entry of the same key replaces it."""

    list: RuleName
    field: Name  # declared field, such as the card holder
    value: Id
    effect: Effect | Literal["snooze"] | None  # snooze: `rule` does not match this value; null: only rules look it up
    rule: RuleName | None = None  # that is snoozed
    reason: Text
    by: Name
    at_ms: TimeMs
    until_ms: TimeMs | None = None  # by event time, exclusive; null: until it is removed
    removed: bool = False  # the entry is no longer on the list


def list_entry_key(entry: ListEntry) -> str:
    """Kafka key of an entry: a JSON array, since list, field and value may contain any character."""
    return msgspec.json.encode((entry.list, entry.field, entry.value, entry.rule)).decode()


class RuleActivation(msgspec.Struct, frozen=True, kw_only=True):
    """From which input offset on a partition's transactions meet which rules and lists.

    The input partition is that of the record.
    """

    from_offset: Offset  # of the first transaction
    topic_id: Name  # Kafka's id of the input topic
    group: Name  # consumer group of the worker
    ruleset: Annotated[int, Meta(ge=1)] | None  # number of the record in force; null: none
    rules_offset: Offset  # records of `rules` before this offset hold
    rules_topic_id: Name  # Kafka's id of `rules`, with @ and the first offset if records before it were deleted
    lists_offset: Offset  # records of `lists` before this offset hold
    lists_topic_id: Name  # as `rules_topic_id`
