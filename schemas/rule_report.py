"""Live statistics of rules and lists: the record of `rule-statistics`.

The last record is the state of the monitor's sums: after a restart it continues from there.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.records import Count, Effect, Id, Name, Offset, TimeMs, Version

MAX_REPORTED_RULES = 1_000  # rules and lists, by version and mode
MAX_OVERLAPS = 10  # of a rule
MAX_REPORTED_PARTITIONS = 10_000

RuleProblem = Literal["precision-fell", "no-matches"]
Weight = Annotated[float, Meta(ge=0, le=1e30)]
NextOffsets = Annotated[dict[Annotated[str, Meta(max_length=10)], Offset], Meta(max_length=MAX_REPORTED_PARTITIONS)]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class LabelWeights(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the weights of labelled matches, and over their squares."""

    rows: Count = 0  # number of labelled matches
    frauds: Weight = 0.0
    fraud_squares: Weight = 0.0
    legitimate: Weight = 0.0
    legitimate_squares: Weight = 0.0


class MatchCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of a rule, or one list, matched in one mode.

    Labels count once they are final (`label_delay_days`) and honest: not of declined transactions.
    """

    kind: Literal["rule", "list"]
    name: Name  # id of the rule, or name of the list
    version: Version | None  # of the rule; null: a list
    mode: Literal["live", "shadow"]
    effect: Effect
    in_force: bool  # whether the ruleset in force contains this version in this mode; true for a list
    since_ms: TimeMs  # event time from which its matches are counted
    last_match_ms: TimeMs | None  # event time
    matches: Count
    by_model: Count  # matches that the model alone would have reviewed, challenged or declined
    alone: Count  # matches that neither the model nor another live rule or list flags
    frauds_alone: Count  # among these, by label
    legitimate_alone: Count
    declined: Count  # matches that were declined
    precision: Estimate | None  # share of frauds among the labelled matches; null: none is labelled
    first_precision: Estimate | None  # of its first labelled matches
    recent_precision: Estimate | None  # of its latest ones, each weighing 2 % less than the next
    # By other rule or list, the number of matches that both have; the largest ones.
    overlaps: Annotated[dict[Name, Count], Meta(max_length=MAX_OVERLAPS)]
    problem: RuleProblem | None
    problem_since_ms: TimeMs | None  # event time
    incident_id: Id | None  # of the problem
    labels: LabelWeights  # of `precision`
    first_labels: LabelWeights  # of `first_precision`
    recent_labels: LabelWeights  # of `recent_precision`


class RuleReport(msgspec.Struct, frozen=True, kw_only=True):
    """Live statistics of all rules and lists at one evaluation of the monitor."""

    model: Name
    model_version: Version  # of the latest decision
    until_ms: TimeMs  # event time of the evaluation
    ruleset: Annotated[int, Meta(ge=1)] | None  # number of the ruleset in force; null: none
    # By partition of `decisions` and `labels`: offset of the first record that is not counted.
    decisions: NextOffsets
    labels: NextOffsets
    rules: Annotated[tuple[MatchCounts, ...], Meta(max_length=MAX_REPORTED_RULES)]  # those in force first
