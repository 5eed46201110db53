"""Metrics of scores on labelled rows, vectorized over many row weightings at once.

All metrics follow from cumulative weights over the rows sorted by score, highest first. With weights of one this is
the plain metric; with bootstrap counts, a few array operations give a thousand resamples without sorting again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from scoring.arrays import Floats, Indices
from scoring.decision import OperatingPoints

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)


class CostMatrix(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of each outcome, in the currency of the amounts. Approved legitimate rows and declined frauds cost nothing.

    The defaults are assumptions; an issuer should set its own values. A missed fraud loses the whole amount and a
    chargeback fee. A review takes an analyst about ten minutes and always finds the truth. A declined legitimate
    transaction loses the margin of the purchase and sometimes the customer.
    """

    missed_fraud_share: float = 1.0  # share of the transaction's amount
    missed_fraud_fixed: float = 15.0
    review: float = 5.0
    wrong_decline: float = 50.0
    unknown_amount: float = 500.0  # assumed where the amount is not known


@dataclass(frozen=True)
class RankedRows:
    """Labelled rows sorted by score, highest first; made by `rank`. Arrays have shape (n,), except `ends`."""

    order: Indices  # rank -> row
    scores: Floats
    fraud: Floats  # 0 or 1
    ends: Indices  # the last rank of every group of equal scores, shape (n_groups,)
    points: OperatingPoints | None
    cost: Floats | None  # cost of each row under `points`

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.scores.size

    def alerts(self, threshold: float) -> int:
        """Number of rows that score at or above a threshold."""
        return int(np.searchsorted(-self.scores, -threshold, side="right"))


def rank(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    points: OperatingPoints | None = None,
    costs: CostMatrix | None = None,
    amounts: npt.ArrayLike | None = None,
) -> RankedRows:
    """Sort labelled rows once for all metrics.

    labels: shape (n,), 1 fraud, 0 legitimate. scores: shape (n,), finite. amounts: shape (n,), nan where unknown.
    points, costs: needed by the metrics of decisions; without them these metrics raise ValueError.
    Raises ValueError when shapes differ, a label is neither 0 nor 1, or a score is not finite.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise ValueError(f"labels and scores must have one shape (n,), not {y.shape} and {s.shape}")
    if not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1; leave out rows without a known label")
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite")
    order = np.argsort(-s, kind="stable")
    s, y = s[order], y[order]
    ends = np.append(np.flatnonzero(s[1:] != s[:-1]), s.size - 1) if s.size else np.empty(0, dtype=np.intp)
    cost = None
    if points is not None and costs is not None:
        cost = outcome_costs(y, s, points, costs, losses(costs, y.size, amounts)[order])
    return RankedRows(order=order, scores=s, fraud=y, ends=ends, points=points, cost=cost)


def losses(costs: CostMatrix, n: int, amounts: npt.ArrayLike | None = None) -> Floats:
    """Loss per row if it is a fraud and gets approved, shape (n,).

    amounts: shape (n,), nan where unknown. Raises ValueError for another shape.
    """
    known = np.full(n, np.nan) if amounts is None else np.asarray(amounts, dtype=np.float64)
    if known.shape != (n,):
        raise ValueError(f"amounts must have shape ({n},), not {known.shape}")
    amount = np.where(np.isfinite(known), known, costs.unknown_amount)
    return costs.missed_fraud_share * amount + costs.missed_fraud_fixed


def outcome_costs(fraud: Floats, scores: Floats, points: OperatingPoints, costs: CostMatrix, loss: Floats) -> Floats:
    """Cost per row when decided at these points; a challenge costs what a review does.

    fraud, scores, loss: shape (n,); so is the result.
    """
    wrong = costs.wrong_decline * (1 - fraud)
    return np.where(scores >= points.decline, wrong, np.where(scores >= points.review, costs.review, loss * fraud))


@dataclass(frozen=True)
class Tally:
    """RankedRows rows under b weightings. Cumulative weights have shape (b, n_groups + 1), with a leading zero."""

    ranked: RankedRows
    weights: Floats  # (b, n), by rank

    @cached_property
    def true_positives(self) -> Floats:
        """Weight of fraud at or above each distinct score, highest first."""
        return self._cumulate(self.weights * self.ranked.fraud)

    @cached_property
    def false_positives(self) -> Floats:
        """Weight of legitimate rows at or above each distinct score, highest first."""
        return self._cumulate(self.weights * (1.0 - self.ranked.fraud))

    @cached_property
    def frauds(self) -> Floats:
        """Weight of all fraud, (b,)."""
        return self.weights @ self.ranked.fraud

    @cached_property
    def total(self) -> Floats:
        """Weight of all rows, (b,)."""
        return np.asarray(self.weights.sum(axis=1))

    @cached_property
    def confusion(self) -> tuple[Floats, Floats, Floats, Floats]:
        """True positives, false positives, true negatives, false negatives at the review point, each (b,)."""
        if self.ranked.points is None:
            raise ValueError("this metric needs operating points; pass `points` to `rank`")
        k = self.ranked.alerts(self.ranked.points.review)
        tp = self.weights[:, :k] @ self.ranked.fraud[:k]
        alerts = self.weights[:, :k].sum(axis=1)
        fn = self.frauds - tp
        return tp, alerts - tp, self.total - alerts - fn, fn

    def mean(self, values: Floats) -> Floats:
        """Weighted mean of values by rank, shape (n,); the result has shape (b,)."""
        return _ratio(self.weights @ values, self.total)

    def _cumulate(self, weights: Floats) -> Floats:
        sums = np.cumsum(weights, axis=1)
        if self.ranked.ends.size < self.ranked.n:
            sums = sums[:, self.ranked.ends]
        return np.pad(sums, ((0, 0), (1, 0)))


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


def roc_auc(t: Tally) -> Floats:
    """Probability that a fraud scores above a legitimate row; a tie counts half (Mann-Whitney)."""
    tp, fp = t.true_positives, t.false_positives
    area = np.einsum("ij,ij->i", tp[:, 1:] + tp[:, :-1], np.diff(fp, axis=1)) / 2
    return _ratio(area, t.frauds * (t.total - t.frauds))


def average_precision(t: Tally) -> Floats:
    """Precision at every distinct score, weighted by the increase of recall; without interpolation."""
    tp, alerts = t.true_positives, t.true_positives[:, 1:] + t.false_positives[:, 1:]
    precision = np.divide(tp[:, 1:], alerts, out=np.zeros_like(alerts), where=alerts > 0)
    return _ratio(np.einsum("ij,ij->i", np.diff(tp, axis=1), precision), t.frauds)


def ks(t: Tally) -> Floats:
    """Kolmogorov-Smirnov distance: the maximum of true minus false positive rate."""
    tpr = _ratio(t.true_positives, np.broadcast_to(t.frauds[:, None], t.true_positives.shape))
    fpr = _ratio(t.false_positives, np.broadcast_to((t.total - t.frauds)[:, None], t.false_positives.shape))
    return np.asarray((tpr - fpr).max(axis=1))


def recall_at(limit: float) -> Callable[[Tally], Floats]:
    """A metric: the highest recall with a false positive rate of at most `limit`."""

    def recall_at_limit(t: Tally) -> Floats:
        allowed = t.false_positives <= (limit * (t.total - t.frauds) + 1e-9)[:, None]
        best = allowed.sum(axis=1) - 1
        return _ratio(t.true_positives[np.arange(best.size), best], t.frauds)

    return recall_at_limit


def log_loss(t: Tally) -> Floats:
    """Mean negative log-likelihood, in nats; scores are clipped one float64 epsilon away from 0 and 1."""
    epsilon = np.finfo(np.float64).eps
    p = np.clip(t.ranked.scores, epsilon, 1 - epsilon)
    return t.mean(-np.log(np.where(t.ranked.fraud == 1, p, 1 - p)))


def brier(t: Tally) -> Floats:
    """Brier score: mean squared difference of score and label."""
    return t.mean((t.ranked.scores - t.ranked.fraud) ** 2)


def accuracy(t: Tally) -> Floats:
    """Share of rows on the correct side of the review point."""
    tp, _, tn, _ = t.confusion
    return _ratio(tp + tn, t.total)


def precision(t: Tally) -> Floats:
    """Share of fraud among the alerts at the review point; nan without alerts."""
    tp, fp, _, _ = t.confusion
    return _ratio(tp, tp + fp)


def recall(t: Tally) -> Floats:
    """Share of fraud that scores at or above the review point."""
    tp, _, _, fn = t.confusion
    return _ratio(tp, tp + fn)


def f_beta(tp: Floats, fp: Floats, fn: Floats, beta: float) -> Floats:
    """F = (1 + β²)·tp / ((1 + β²)·tp + β²·fn + fp): recall has β times the weight of precision.

    tp, fp, fn: shape (b,). With β = 2, a missed fraud weighs as much as four false alerts.
    Source: van Rijsbergen (1979), Information Retrieval, ch. 7.

    >>> f_beta(np.array([30.0]), np.array([70.0]), np.array([20.0]), 2.0).round(4).tolist()  # 150 / (150 + 80 + 70)
    [0.5]
    """
    gain = (1 + beta**2) * tp
    return _ratio(gain, gain + beta**2 * fn + fp)


def f1(t: Tally) -> Floats:
    """Harmonic mean of precision and recall at the review point."""
    tp, fp, _, fn = t.confusion
    return f_beta(tp, fp, fn, 1.0)


def f2(t: Tally) -> Floats:
    """F score with β = 2 at the review point."""
    tp, fp, _, fn = t.confusion
    return f_beta(tp, fp, fn, 2.0)


def cost_per_transaction(t: Tally) -> Floats:
    """Mean cost under the cost matrix, at both operating points."""
    if t.ranked.cost is None:
        raise ValueError("this metric needs operating points and a cost matrix; pass `points` and `costs` to `rank`")
    return t.mean(t.ranked.cost)


RANKING_METRICS: Mapping[str, Callable[[Tally], Floats]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "ks": ks,
    **{f"recall_at_fpr_{limit:g}": recall_at(limit) for limit in FALSE_POSITIVE_RATES},
    "log_loss": log_loss,
    "brier": brier,
}
DECISION_METRICS: Mapping[str, Callable[[Tally], Floats]] = {
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "f2": f2,
    "cost_per_transaction": cost_per_transaction,
}
METRICS = {**RANKING_METRICS, **DECISION_METRICS}


def measure(
    ranked: RankedRows, weights: Floats | None = None, names: tuple[str, ...] = tuple(METRICS)
) -> dict[str, Floats]:
    """Compute the named metrics under b weightings of the rows; each result has shape (b,), nan where undefined.

    weights: shape (b, n), by row (not by rank); None is one weighting with all ones.
    """
    by_rank = np.ones((1, ranked.n)) if weights is None else weights[:, ranked.order]
    tally = Tally(ranked, by_rank)
    return {name: METRICS[name](tally) for name in names}
