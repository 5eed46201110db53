"""What rules and lists make of the model's outcomes for a batch. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.records import RuleMatch
from scoring.arrays import Floats, Indices
from scoring.input.cleaning import CleanedBatch
from scoring.rules.exploration import explore
from scoring.rules.list_state import NO_HITS, ListHit
from scoring.rules.precedence import NO_RULES, EntryMatch, Ruling, decide_by_rules
from scoring.rules.rule_state import RuleState
from scoring.rules.ruleset import RuleInputs


class RuleContext(NamedTuple):
    """What rules need in addition to the batch."""

    state: RuleState  # in force for all transactions of the batch
    dataset: Dataset
    ids: Sequence[str]  # transaction ids of the accepted rows


def apply_rules(context: RuleContext, cleaned: CleanedBatch, scores: Floats, model_outcomes: Indices) -> Ruling:
    """The outcomes of a batch. scores, model_outcomes: of the model, shape (n,)."""
    state, dataset = context.state, context.dataset
    ruleset, n = state.ruleset, len(model_outcomes)
    ruling = Ruling.of_model(model_outcomes)
    if n and not state.is_empty:
        hits = NO_HITS
        if state.lists.n_entries:
            hits = state.lists.lookup(dataset.key, cleaned.keys, cleaned.columns, cleaned.event_time_ms)
        truth, table = np.empty((0, n), np.uint8), NO_RULES
        if ruleset is not None:
            inputs = RuleInputs(cleaned.columns, cleaned.keys, scores, cleaned.event_time_ms, hits)
            truth, table = ruleset.evaluate(inputs), ruleset.table
        ruling = decide_by_rules(model_outcomes, truth, table, _entry_matches(hits.effects))
    exploration = None if ruleset is None else ruleset.content.explore
    if exploration is not None and dataset.amount is not None:
        ruling = explore(ruling, exploration, cleaned.columns[dataset.amount], context.ids.__getitem__)
    return ruling._replace(ruleset=state.number)


def _entry_matches(hits: Sequence[ListHit]) -> list[EntryMatch]:
    return [
        EntryMatch(
            hit.rows,
            RuleMatch(
                kind="list",
                name=hit.terms.list,
                version=None,
                effect=hit.terms.effect,  # type: ignore[arg-type]  # `ListHits.effects` holds no snooze
                mode="live",
                reason=hit.terms.reason,
            ),
        )
        for hit in hits
    ]
