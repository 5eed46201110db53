"""From cleaned rows to outcomes and reasons: what the stream and a batch do alike."""

from typing import NamedTuple

import numpy as np

from schemas.records import Reason
from scoring.arrays import Floats, Indices, Matrix
from scoring.decision import outcome_codes
from scoring.explanations import strongest_reasons
from scoring.features import featurize
from scoring.input.cleaning import Cleaned
from scoring.model import ScoringModel


class ScoredRows(NamedTuple):
    """What a model says of the n accepted rows of a cleaned batch."""

    matrix: Matrix  # shape (n, n_features)
    scores: Floats  # shape (n,), in [0, 1]
    outcomes: Indices  # shape (n,), places in `scoring.decision.OUTCOMES`
    reasons: list[tuple[Reason, ...]]  # of the rows that are not approved, in their order


def decide(model: ScoringModel, cleaned: Cleaned) -> ScoredRows:
    """Featurize, score, decide and explain.

    Raises ModelIncompatibleError when the model wants features that the columns do not hold.
    """
    matrix = featurize(model.encoding, cleaned.columns)
    scores = model.score(matrix)
    outcomes = outcome_codes(scores, model.manifest.points)
    # Contributions cost many times a score: they are computed for what is not approved, and for nothing else.
    flagged = np.flatnonzero(outcomes)
    reasons = (
        strongest_reasons(model.manifest.features, model.contributions(matrix[flagged]), cleaned.columns, flagged)
        if len(flagged)
        else []
    )
    return ScoredRows(matrix, scores, outcomes, reasons)
