"""Operating points: the score thresholds of review, challenge and decline, chosen on held-out scores only.

Scores are calibrated probabilities: with 3 % fraud, most lie near 0.03 and few exceed 0.5. Round thresholds therefore
make no sense, except for the policy "fixed". A chosen threshold is the score of a held-out row, or lies above all.
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
from training.evaluation.metrics import CostMatrix, RankedRows, f_beta, losses, rank

REVIEW_BUDGET = 0.02  # share of transactions
DECLINE_BUDGET = 0.002  # share of transactions


class PointPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How the operating points are chosen.

    f2: review at the maximum of F2; decline from the lowest score at which the lower bound of precision is at
    least `decline_precision`. cost: both at the minimum of the cost matrix. budget: both by the share of alerted rows.
    fixed: as configured. Challenge is chosen by its budget, or is configured, and lies between the two.
    """

    method: Literal["f2", "cost", "budget", "fixed"] = "budget"
    review_budget: float = REVIEW_BUDGET  # budget: share of rows reviewed or declined
    decline_budget: float = DECLINE_BUDGET  # budget: share of rows declined
    challenge_budget: float | None = None  # all but fixed: share of rows challenged or declined; None: no challenge
    max_alerts: float = 0.2  # f2, cost: maximum share of alerted rows, the capacity of the reviewers
    decline_precision: float = 0.5  # f2: minimum of precision's Wilson lower bound for a decline
    min_declines: int = 20  # cost: minimum number of held-out rows at or above the decline point
    review_threshold: float = 0.5
    decline_threshold: float = 0.9
    challenge_threshold: float | None = None  # fixed
    costs: CostMatrix = CostMatrix()

    @classmethod
    def from_settings(cls, settings: Settings) -> "PointPolicy":
        """The policy that the settings configure.

        Raises ConfigError when the points would be out of order.
        """
        s = settings
        if s.decline_budget > s.review_budget:
            raise ConfigError(
                f"setting decline_budget is {s.decline_budget}; it must be at most review_budget, {s.review_budget}"
            )
        if s.decline_threshold < s.review_threshold:
            raise ConfigError(
                f"setting decline_threshold is {s.decline_threshold}; it must be at least review_threshold, "
                f"{s.review_threshold}"
            )
        budget, threshold = s.challenge_budget, s.challenge_threshold
        if budget is not None and not s.decline_budget <= budget <= s.review_budget:
            raise ConfigError(
                f"setting challenge_budget is {budget}; it must lie between decline_budget, {s.decline_budget}, and "
                f"review_budget, {s.review_budget}"
            )
        if threshold is not None and not s.review_threshold <= threshold <= s.decline_threshold:
            raise ConfigError(
                f"setting challenge_threshold is {threshold}; it must lie between review_threshold, "
                f"{s.review_threshold}, and decline_threshold, {s.decline_threshold}"
            )
        return cls(
            method=settings.threshold_policy,
            review_budget=settings.review_budget,
            decline_budget=settings.decline_budget,
            challenge_budget=settings.challenge_budget,
            review_threshold=settings.review_threshold,
            decline_threshold=settings.decline_threshold,
            challenge_threshold=settings.challenge_threshold,
            costs=CostMatrix(
                missed_fraud_share=settings.cost_missed_fraud_share,
                missed_fraud_fixed=settings.cost_missed_fraud,
                review=settings.cost_review,
                wrong_decline=settings.cost_wrong_decline,
            ),
        )


class PointChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Operating points and the reason for them; the run's `operating_points.json`."""

    points: OperatingPoints
    f2_threshold: float  # the maximum of F2 on the held-out rows, independent of the policy
    policy: PointPolicy
    reason: str


def choose_points(
    labels: npt.ArrayLike, scores: npt.ArrayLike, policy: PointPolicy, amounts: npt.ArrayLike | None = None
) -> PointChoice:
    """Choose the operating points on rows that the scoring trees have not seen.

    labels: shape (n,), 1 or 0; rows with nan are left out. scores: shape (n,), calibrated. amounts: shape (n,), nan
    where unknown, for the method "cost". Without fraud, "f2" and "cost" fall back to "budget". When all scores are
    equal, nothing is alerted.
    Raises ValueError when no row has a known label.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(y)
    if not known.any():
        raise ValueError("operating points need held-out rows with a known label")
    known_amounts = None if amounts is None else np.asarray(amounts, dtype=np.float64)[known]
    ranked = rank(y[known], s[known])
    method = policy.method
    preface = ""
    if method in ("f2", "cost") and not ranked.fraud.any():
        method, preface = "budget", f"No fraud among the {ranked.n} held-out rows: budget instead of {method}. "
    if method == "fixed":
        points = OperatingPoints(review=policy.review_threshold, decline=policy.decline_threshold)
        reason = f"Fixed: review from {points.review:.4f}, decline from {points.decline:.4f}."
    elif method == "budget":
        points = points_by_budget(ranked.scores, review=policy.review_budget, decline=policy.decline_budget)
        reason = (
            f"Budget: at most {policy.review_budget:.2%} of the transactions reviewed or declined, "
            f"at most {policy.decline_budget:.2%} declined; {_shares(ranked, points)}."
        )
    elif method == "f2":
        points, reason = _points_by_f2(ranked, policy)
    else:
        loss = losses(policy.costs, ranked.n, known_amounts)[ranked.order]
        points, reason = _points_by_cost(ranked, policy, loss)
    challenge = _challenge_point(ranked, points, policy)
    if challenge is not None:
        points = msgspec.structs.replace(points, challenge=challenge)
        challenged = ranked.alerts(challenge) - ranked.alerts(points.decline)
        reason += f" Challenge from {challenge:.4f}: {challenged} of the alerted rows are challenged."
    return PointChoice(points=points, f2_threshold=f2_optimum(ranked), policy=policy, reason=preface + reason)


def _challenge_point(ranked: RankedRows, points: OperatingPoints, policy: PointPolicy) -> float | None:
    if policy.method == "fixed":
        return policy.challenge_threshold
    if policy.challenge_budget is None:
        return None
    return min(max(score_at_budget(ranked.scores, policy.challenge_budget), points.review), points.decline)


def score_at_budget(scores: Floats, share: float) -> float:
    """The lowest threshold that at most `share` of the rows score at or above.

    scores: shape (n,), n > 0. Equal scores are alerted together. When more rows share the highest score than the
    budget allows, the threshold lies just above it.

    >>> score_at_budget(np.array([0.1, 0.2, 0.3, 0.4, 0.4]), 0.4)
    0.4
    >>> score_at_budget(np.array([0.1, 0.2, 0.3, 0.4, 0.4]), 0.39) > 0.4
    True
    """
    distinct, counts = np.unique(scores, return_counts=True)
    alerts = np.cumsum(counts[::-1])[::-1]
    within_budget = distinct[alerts <= share * len(scores)]
    return float(within_budget[0]) if len(within_budget) else float(np.nextafter(distinct[-1], np.inf))


def points_by_budget(
    scores: Floats, *, review: float = REVIEW_BUDGET, decline: float = DECLINE_BUDGET
) -> OperatingPoints:
    """Operating points by budget: at most `review` of the rows reviewed or declined, at most `decline` declined.

    scores: shape (n,), n > 0.
    """
    return OperatingPoints(
        review=score_at_budget(scores, review), decline=score_at_budget(scores, min(decline, review))
    )


def f2_optimum(ranked: RankedRows, max_alerts: float = 1.0) -> float:
    """The threshold with the highest F2; of equal ones, the highest threshold.

    max_alerts: maximum share of alerted rows. Returns UNREACHABLE_THRESHOLD when
    there is no fraud or no threshold meets `max_alerts`.
    """
    alerts = (ranked.ends + 1).astype(np.float64)
    tp = np.cumsum(ranked.fraud)[ranked.ends]
    allowed = (alerts <= max_alerts * ranked.n) & (tp > 0)
    if not allowed.any():
        return UNREACHABLE_THRESHOLD
    f2 = f_beta(tp, alerts - tp, ranked.fraud.sum() - tp, 2.0)
    return float(ranked.scores[ranked.ends[np.argmax(np.where(allowed, f2, -1.0))]])


def _points_by_f2(ranked: RankedRows, policy: PointPolicy) -> tuple[OperatingPoints, str]:
    review = f2_optimum(ranked, policy.max_alerts)
    alerts = (ranked.ends + 1).astype(np.float64)
    precise = wilson(np.cumsum(ranked.fraud)[ranked.ends], alerts)[0] >= policy.decline_precision
    decline = float(ranked.scores[ranked.ends[np.flatnonzero(precise)[-1]]]) if precise.any() else UNREACHABLE_THRESHOLD
    points = OperatingPoints(review=min(review, decline), decline=decline)
    reason = f"F2: review at its maximum{_limit_note(ranked, points.review, f2_optimum(ranked), policy)}, decline " + (
        f"where the lower bound of precision is at least {policy.decline_precision:.0%}"
        if precise.any()
        else f"never: at no score is the lower bound of precision at least {policy.decline_precision:.0%}"
    )
    return points, f"{reason}; {_shares(ranked, points)}."


def _points_by_cost(ranked: RankedRows, policy: PointPolicy, loss: Floats) -> tuple[OperatingPoints, str]:
    """The cost is a sum of two terms, one per point; running minima give the optimum of both in one pass."""
    costs = policy.costs
    ends = np.append(-1, ranked.ends)  # rank of the last alerted row; -1: no alerts
    alerts = ends + 1.0
    missed = np.append(0.0, np.cumsum(loss * ranked.fraud))
    wrong = np.append(0.0, np.cumsum(costs.wrong_decline * (1 - ranked.fraud)))
    review_cost = costs.review * alerts + missed[-1] - missed[ends + 1]  # when every alert is reviewed
    decline_cost = wrong[ends + 1] - costs.review * alerts  # added by declining instead of reviewing
    allowed = alerts <= policy.max_alerts * ranked.n
    allowed_review_cost = np.where(allowed, review_cost, np.inf)
    supported = (alerts == 0) | (alerts >= policy.min_declines)
    best_review = np.minimum.accumulate(allowed_review_cost[::-1])[::-1]  # over points with as many alerts or more
    decline_at = int(np.argmin(np.where(supported & allowed, decline_cost + best_review, np.inf)))
    review_at = decline_at + int(np.argmin(allowed_review_cost[decline_at:]))
    unlimited = int(np.argmin(review_cost))

    def score(at: int) -> float:
        return float(ranked.scores[ends[at]]) if at else UNREACHABLE_THRESHOLD

    points = OperatingPoints(review=score(review_at), decline=score(decline_at))
    limit = _limit_note(ranked, points.review, score(unlimited), policy)
    return points, f"Cost: review and decline at the minimum of the cost matrix{limit}; {_shares(ranked, points)}."


def _limit_note(ranked: RankedRows, chosen: float, unlimited: float, policy: PointPolicy) -> str:
    if chosen <= unlimited:
        return ""
    return (
        f" with at most {policy.max_alerts:.0%} alerts "
        f"(without that limit, {ranked.alerts(unlimited) / ranked.n:.0%} of the transactions would be alerted)"
    )


def _shares(ranked: RankedRows, points: OperatingPoints) -> str:
    alerted, declined = ranked.alerts(points.review), ranked.alerts(points.decline)
    counts = (
        f"of {ranked.n} held-out rows with {int(ranked.fraud.sum())} frauds, {alerted - declined} are reviewed "
        f"and {declined} declined"
    )
    if ranked.ends.size == 1:
        return f"{counts} (all scores are equal: no threshold separates the classes)"
    return counts


def wilson(successes: Floats, trials: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's score interval of a share.

    successes, trials: shape (k,), trials positive. Returns the lower and upper bounds, each of shape (k,).
    Source: Wilson (1927), Probable Inference, the Law of Succession, and Statistical Inference, JASA 22.

    >>> [round(float(b[0]), 3) for b in wilson(np.array([0.0]), np.array([10.0]))]
    [0.0, 0.278]
    """
    z = float(norm.ppf((1 + confidence) / 2))
    share = successes / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
