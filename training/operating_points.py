"""Where review and decline begin: chosen on validation rows, never on those the model is judged by."""

import numpy as np
import numpy.typing as npt

from schemas.decision import OperatingPoints

REVIEW_BUDGET = 0.02
DECLINE_BUDGET = 0.002


def score_at_budget(scores: npt.NDArray[np.float64], share: float) -> float:
    """The lowest score that at most `share` of the rows reach.

    scores: shape (n,), n > 0. Equal scores stand or fall together; when already the highest is shared by more rows than
    the budget allows, the answer lies just above it.

    >>> score_at_budget(np.array([0.1, 0.2, 0.3, 0.4, 0.4]), 0.4)
    0.4
    >>> score_at_budget(np.array([0.1, 0.2, 0.3, 0.4, 0.4]), 0.39) > 0.4
    True
    """
    distinct, counts = np.unique(scores, return_counts=True)
    reached_by = np.cumsum(counts[::-1])[::-1]
    affordable = distinct[reached_by <= share * len(scores)]
    return float(affordable[0]) if len(affordable) else float(np.nextafter(distinct[-1], np.inf))


def points_by_budget(
    scores: npt.NDArray[np.float64], *, review: float = REVIEW_BUDGET, decline: float = DECLINE_BUDGET
) -> OperatingPoints:
    """Operating points that send at most `review` of the validation rows to people or refusal, `decline` to refusal."""
    return OperatingPoints(review=score_at_budget(scores, review), decline=score_at_budget(scores, decline))
