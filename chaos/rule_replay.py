"""Replays decisions offline with the rules and lists that were stamped for their offsets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.records import Decision
from scoring.rules.rule_state import RuleState
from stream_app.decisions.handler import HandlerPolicy, HandlerState, handle
from stream_app.rules.activation_log import RuleVersion
from stream_app.rules.rule_history import RuleHistory

Place = tuple[int, int]  # partition, offset


class RuleReplay(NamedTuple):
    """Decisions against their replay."""

    equal: Sequence[bool]  # of each decision
    unequal: int  # transactions without a decision that equals the replay
    by_zombies: int  # other decisions that differ from it
    states: int  # of rules and lists that were stamped
    stamps: int


def replay_decisions(
    settings: Settings,
    inputs: Sequence[Any],
    decisions: Sequence[tuple[Place, bytes, Decision]],
    models: Mapping[int, MonitoredModel],
    topic_id: str,
) -> RuleReplay:
    """Decide every transaction again by the model of its decision and the rules of its stamp, and compare the bytes.

    models: by version. topic_id: of the input topic. The model uses no profile features.
    """
    dataset = load_dataset(settings.dataset)
    policy = HandlerPolicy.from_settings(settings, dataset, counting=False)._replace(topic_id=topic_id)
    history = RuleHistory(settings, dataset)
    logs = history.stamps(dict.fromkeys(range(settings.partitions)), topic_id)
    records = {(r.partition, r.offset): r for r in inputs}
    groups: dict[tuple[RuleVersion | None, int], list[int]] = {}
    for row, ((partition, offset), _, decision) in enumerate(decisions):
        stamp = logs[partition].at(offset)
        groups.setdefault((None if stamp is None else stamp.version, decision.model_version), []).append(row)
    equal = [False] * len(decisions)
    states: dict[RuleVersion, RuleState | None] = {}
    for (version, model_version), rows in groups.items():
        if version is not None and version not in states:
            states[version] = history.state_of(version)
        rules = None if version is None else states[version]
        if version is not None and rules is None:
            continue  # a state that is gone cannot be replayed
        if version is not None and version.is_empty:
            rules = None
        state = HandlerState(rules=rules)
        replayed = handle([records[decisions[row][0]] for row in rows], models[model_version], policy, state).decisions
        for row, made in zip(rows, replayed, strict=True):
            equal[row] = made.value == decisions[row][1]
    right = {place for (place, _, _), same in zip(decisions, equal, strict=True) if same}
    wrong = [place for (place, _, _), same in zip(decisions, equal, strict=True) if not same]
    return RuleReplay(
        equal=equal,
        unequal=len(set(wrong) - right),
        by_zombies=sum(place in right for place in wrong),
        states=len(states),
        stamps=sum(len(log.stamps) for log in logs.values()),
    )
