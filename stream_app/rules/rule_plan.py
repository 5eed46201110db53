"""A batch and the rules that its records meet."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from monitoring.counting.monitored_model import MonitoredModel
from scoring.rules.rule_state import RuleState
from stream_app.decisions.handler import (
    HandlerPolicy,
    HandlerResult,
    HandlerState,
    concatenate_results,
    handle_with_isolation,
)
from stream_app.output.outgoing_records import NO_RECORDS, OutgoingRecords


class RulePlan(NamedTuple):
    """The records of a batch, in the order in which they are decided."""

    records: Sequence[Any]
    states: Sequence[tuple[RuleState | None, int]]  # and the number of records that meet it, in order
    stamps: OutgoingRecords = NO_RECORDS  # to be written before the decisions

    @classmethod
    def without_rules(cls, records: Sequence[Any]) -> "RulePlan":
        """The model decides alone."""
        return cls(records, [(None, len(records))])


def handle_plan(plan: RulePlan, model: MonitoredModel, policy: HandlerPolicy, state: HandlerState) -> HandlerResult:
    """Decide a batch. Its records meet one state, except after a takeover."""
    if len(plan.states) == 1:
        return handle_with_isolation(plan.records, model, policy, state._replace(rules=plan.states[0][0]))
    parts, start = [], 0
    for rules, n in plan.states:
        own = plan.records[start : start + n]
        parts.append(handle_with_isolation(own, model, policy, state._replace(rules=rules)))
        start += n
    return concatenate_results(parts)
