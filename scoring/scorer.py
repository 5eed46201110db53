"""Scoring of cleaned rows: matrix, scores, outcomes and reasons. Used by the worker and by `tamiz score`."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from schemas.records import Reason
from scoring.arrays import Floats, Indices, Matrix
from scoring.decision import outcome_codes
from scoring.explanations import strongest_reasons
from scoring.features import featurize
from scoring.input.cleaning import CleanedBatch
from scoring.model import ScoringModel
from scoring.rules.precedence import Ruling

if TYPE_CHECKING:  # imported only where rules are in force
    from scoring.rules.rule_decision import RuleContext


class ScoredRows(NamedTuple):
    """Result for the n accepted rows of a cleaned batch."""

    matrix: Matrix  # shape (n, n_features)
    scores: Floats  # shape (n,), in [0, 1]
    model_outcomes: Indices  # of the scores alone, shape (n,), indices into `scoring.decision.OUTCOMES`
    reasons: list[tuple[Reason, ...]]  # one element per row that the model does not approve, in order of the rows
    ruling: Ruling  # of model, rules and lists


def decide(model: ScoringModel, cleaned: CleanedBatch, rules: "RuleContext | None" = None) -> ScoredRows:
    """Encode, score, decide and explain cleaned rows. Without rules, the model decides alone.

    Raises ModelIncompatibleError if the columns lack a feature of the model.
    """
    matrix = featurize(model.encoding, cleaned.columns)
    scores = model.score(matrix)
    outcomes = outcome_codes(scores, model.manifest.points)
    # Contributions cost many times as much as a score, so approvals of the model get none.
    flagged = np.flatnonzero(outcomes)
    reasons: list[tuple[Reason, ...]] = []
    if len(flagged):
        manifest = model.manifest
        contributions = model.contributions(matrix[flagged])
        profiles = manifest.definitions.profile_features()
        reasons = strongest_reasons(manifest.features, contributions, cleaned.columns, flagged, profiles)
    return ScoredRows(matrix, scores, outcomes, reasons, _ruling(cleaned, scores, outcomes, rules))


def _ruling(cleaned: CleanedBatch, scores: Floats, outcomes: Indices, rules: "RuleContext | None") -> Ruling:
    if rules is None:
        return Ruling.of_model(outcomes)
    from scoring.rules.rule_decision import apply_rules

    return apply_rules(rules, cleaned, scores, outcomes)
