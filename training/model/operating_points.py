"""Where review and decline begin: chosen on validation rows, never on those the model is judged by.

Scores are calibrated: where 3 % are fraud, most lie near 0.03 and hardly any reaches 0.5, so nothing here leans on a
round threshold but the policy that says so. A threshold is always a score that a validation row has, or lies above all.
"""

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from schemas.configuration.settings import Settings
from schemas.errors import ConfigError
from scoring.arrays import Floats
from scoring.decision import UNREACHABLE_THRESHOLD as UNREACHABLE_THRESHOLD
from scoring.decision import OperatingPoints
from training.evaluation.metrics import CostMatrix, Ranked, f_beta, losses, rank

REVIEW_BUDGET = 0.02
DECLINE_BUDGET = 0.002


class PointPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How the operating points are chosen.

    f2: review where F2 is highest; decline from the lowest score whose alerts are, with confidence, mostly fraud.
    cost: both where the cost matrix is cheapest. budget: both by the share of transactions they take. fixed: as given.
    """

    by: Literal["f2", "cost", "budget", "fixed"] = "budget"
    review_budget: float = REVIEW_BUDGET  # budget: share of rows reviewed or declined
    decline_budget: float = DECLINE_BUDGET  # budget: share of rows declined
    max_alerts: float = 0.2  # f2, cost: share of rows beyond which no reviewers are there to look
    decline_precision: float = 0.5  # f2: the Wilson lower bound of precision that allows a decline
    min_declines: int = 20  # cost: a decline point rests on at least so many validation rows
    review_threshold: float = 0.5
    decline_threshold: float = 0.9
    costs: CostMatrix = CostMatrix()

    @classmethod
    def of(cls, settings: Settings) -> "PointPolicy":
        """What the settings ask for.

        Raises ConfigError when a decline would come before a review.
        """
        s = settings
        if s.decline_budget > s.review_budget:
            raise ConfigError(
                f"setting decline_budget is {s.decline_budget}, wanted at most {s.review_budget}: the review"
            )
        if s.decline_threshold < s.review_threshold:
            raise ConfigError(
                f"setting decline_threshold is {s.decline_threshold}, wanted at least {s.review_threshold}: the review"
            )
        return cls(
            by=settings.threshold_policy,
            review_budget=settings.review_budget,
            decline_budget=settings.decline_budget,
            review_threshold=settings.review_threshold,
            decline_threshold=settings.decline_threshold,
            costs=CostMatrix(
                missed_fraud_share=settings.cost_missed_fraud_share,
                missed_fraud_fixed=settings.cost_missed_fraud,
                review=settings.cost_review,
                wrong_decline=settings.cost_wrong_decline,
            ),
        )


class ChosenPoints(msgspec.Struct, frozen=True, kw_only=True):
    """Operating points and how they came about."""

    points: OperatingPoints
    f2_threshold: float  # where F2 is highest on the validation rows, whatever the policy
    policy: PointPolicy
    why: str


def choose_points(
    labels: npt.ArrayLike, scores: npt.ArrayLike, policy: PointPolicy, amounts: npt.ArrayLike | None = None
) -> ChosenPoints:
    """Operating points from validation rows.

    labels: shape (n,), 1 or 0, nan rows are left out. scores: shape (n,), calibrated. amounts: shape (n,), for `cost`.
    Without fraud among the rows nothing can be weighed and the budget decides; with equal scores nothing is alerted.
    Raises ValueError when no row has a known label.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(y)
    if not known.any():
        raise ValueError("operating points need validation rows with a known label")
    money = None if amounts is None else np.asarray(amounts, dtype=np.float64)[known]
    ranked = rank(y[known], s[known])
    by = policy.by
    preface = ""
    if by in ("f2", "cost") and not ranked.fraud.any():
        by, preface = "budget", f"No fraud among the {ranked.n} validation rows, so {policy.by} cannot be weighed. "
    if by == "fixed":
        points = OperatingPoints(review=policy.review_threshold, decline=policy.decline_threshold)
        why = f"Fixed: review from {points.review:.4f}, decline from {points.decline:.4f}."
    elif by == "budget":
        points = points_by_budget(ranked.scores, review=policy.review_budget, decline=policy.decline_budget)
        why = (
            f"Budget: at most {policy.review_budget:.2%} of the transactions reviewed or declined, "
            f"at most {policy.decline_budget:.2%} declined"
        )
        why = f"{why}; {_shares(ranked, points)}."
    elif by == "f2":
        points, why = _by_f2(ranked, policy)
    else:
        points, why = _by_cost(ranked, policy, losses(policy.costs, ranked.n, money)[ranked.order])
    return ChosenPoints(points=points, f2_threshold=f2_optimum(ranked), policy=policy, why=preface + why)


def score_at_budget(scores: Floats, share: float) -> float:
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
    scores: Floats, *, review: float = REVIEW_BUDGET, decline: float = DECLINE_BUDGET
) -> OperatingPoints:
    """Operating points that send at most `review` of the validation rows to people or refusal, `decline` to refusal."""
    return OperatingPoints(
        review=score_at_budget(scores, review), decline=score_at_budget(scores, min(decline, review))
    )


def f2_optimum(ranked: Ranked, max_alerts: float = 1.0) -> float:
    """Score from which alerting gives the highest F2, the highest of equal ones; UNREACHABLE_THRESHOLD without fraud.

    max_alerts: share of the rows that may be alerted; UNREACHABLE_THRESHOLD when not even the highest score fits.
    """
    alerts = (ranked.ends + 1).astype(np.float64)
    tp = np.cumsum(ranked.fraud)[ranked.ends]
    allowed = (alerts <= max_alerts * ranked.n) & (tp > 0)
    if not allowed.any():
        return UNREACHABLE_THRESHOLD
    f2 = f_beta(tp, alerts - tp, ranked.fraud.sum() - tp, 2.0)
    return float(ranked.scores[ranked.ends[np.argmax(np.where(allowed, f2, -1.0))]])


def _by_f2(ranked: Ranked, policy: PointPolicy) -> tuple[OperatingPoints, str]:
    review = f2_optimum(ranked, policy.max_alerts)
    alerts = (ranked.ends + 1).astype(np.float64)
    assured = wilson(np.cumsum(ranked.fraud)[ranked.ends], alerts)[0] >= policy.decline_precision
    decline = float(ranked.scores[ranked.ends[np.flatnonzero(assured)[-1]]]) if assured.any() else UNREACHABLE_THRESHOLD
    points = OperatingPoints(review=min(review, decline), decline=decline)
    why = f"F2: review where it is highest{_cap(ranked, points.review, f2_optimum(ranked), policy)}, decline " + (
        f"where precision is above {policy.decline_precision:.0%} with confidence"
        if assured.any()
        else f"never, for at no score is precision above {policy.decline_precision:.0%} with confidence"
    )
    return points, f"{why}; {_shares(ranked, points)}."


def _by_cost(ranked: Ranked, policy: PointPolicy, loss: Floats) -> tuple[OperatingPoints, str]:
    """Cost splits in two sums, one for each point; what is best for both follows from running minima."""
    costs = policy.costs
    ends = np.append(-1, ranked.ends)  # last rank alerted; -1 alerts nobody
    alerts = ends + 1.0
    missed = np.append(0.0, np.cumsum(loss * ranked.fraud))
    wrong = np.append(0.0, np.cumsum(costs.wrong_decline * (1 - ranked.fraud)))
    reviewing = costs.review * alerts + missed[-1] - missed[ends + 1]  # as if all alerts were reviewed
    declining = wrong[ends + 1] - costs.review * alerts  # what turning reviews into declines adds
    fits = alerts <= policy.max_alerts * ranked.n
    reviewing_within = np.where(fits, reviewing, np.inf)
    supported = (alerts == 0) | (alerts >= policy.min_declines)
    best_review = np.minimum.accumulate(reviewing_within[::-1])[::-1]  # over points that alert as many or more
    decline_at = int(np.argmin(np.where(supported & fits, declining + best_review, np.inf)))
    review_at = decline_at + int(np.argmin(reviewing_within[decline_at:]))
    unbound = int(np.argmin(reviewing))

    def score(at: int) -> float:
        return float(ranked.scores[ends[at]]) if at else UNREACHABLE_THRESHOLD

    points = OperatingPoints(review=score(review_at), decline=score(decline_at))
    cap = _cap(ranked, points.review, score(unbound), policy)
    return points, f"Cost: review and decline where the cost matrix is cheapest{cap}; {_shares(ranked, points)}."


def _cap(ranked: Ranked, chosen: float, unbound: float, policy: PointPolicy) -> str:
    if chosen <= unbound:
        return ""
    return (
        f" among those that alert at most {policy.max_alerts:.0%} "
        f"(without that limit {ranked.alerts(unbound) / ranked.n:.0%} of the transactions would be alerted)"
    )


def _shares(ranked: Ranked, points: OperatingPoints) -> str:
    alerted, declined = ranked.alerts(points.review), ranked.alerts(points.decline)
    said = (
        f"on {ranked.n} validation rows with {int(ranked.fraud.sum())} frauds {alerted - declined} are reviewed "
        f"and {declined} declined"
    )
    if ranked.ends.size == 1:
        return f"{said} (all scores are equal, so no threshold separates anything)"
    return said


def wilson(successes: Floats, trials: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's score interval of a share: bounds of shape (k,). Source: Wilson (1927), JASA 22.

    >>> [round(float(b[0]), 3) for b in wilson(np.array([0.0]), np.array([10.0]))]
    [0.0, 0.278]
    """
    z = float(norm.ppf((1 + confidence) / 2))
    share = successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
