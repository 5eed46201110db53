"""Evaluation of scores on held-out labelled rows: one record for metrics.json, the report and MLflow."""

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from scoring.arrays import Floats
from scoring.decision import OperatingPoints
from training.evaluation.bootstrap import CONFIDENCE, RESAMPLES, bootstrap_replicates, bounds
from training.evaluation.metrics import METRICS, CostMatrix, RankedRows, f_beta, losses, measure, rank
from training.evaluation.review_metrics import ReviewEvaluation, evaluate_reviews
from training.evaluation.review_ranking import REVIEWS_PER_DAY, ReviewRows

MIN_ROWS_PER_CLASS = 20  # with fewer, bootstrap intervals are meaningless: every resample repeats the same few rows
THRESHOLDS = (*(round(0.40 + 0.05 * i, 2) for i in range(12)), 0.97)


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A metric with its confidence interval. Undefined numbers are None, and `reason` states why."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """Confusion matrix; a row is alerted when its score is at or above the threshold."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def alerts(self) -> int:
        """Number of alerted rows."""
        return self.true_positives + self.false_positives


class ThresholdRow(msgspec.Struct, frozen=True, kw_only=True):
    """Results at one threshold. A ratio with denominator 0 is None."""

    threshold: float
    alerts: int
    precision: float | None
    recall: float | None
    f1: float | None
    f2: float | None
    false_positive_rate: float | None
    cost: float  # of all rows together, when every alert is reviewed and none is declined


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluation of scores on labelled rows. It holds no nan and no infinity, so it can be written as JSON."""

    n: int  # rows with a known label
    unlabelled: int  # rows without one, left out
    frauds: int
    base_rate: float | None
    points: OperatingPoints
    metrics: tuple[Metric, ...]
    at_review: Confusion
    at_f2: Confusion
    thresholds: tuple[ThresholdRow, ...]
    reviews: ReviewEvaluation | None = (
        None  # what a team with a fixed number of reviews a day finds; None: not computed
    )
    costs: CostMatrix
    confidence: float
    resamples: int
    seed: int

    def metric(self, name: str) -> Metric:
        """The named metric. Raises KeyError when there is none of that name."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)

    def metric_values(self, prefix: str = "") -> dict[str, float]:
        """All defined numbers by name, as MLflow logs them; bounds are named ``name_low`` and ``name_high``."""
        numbers: dict[str, float | None] = {"n": self.n, "frauds": self.frauds, "base_rate": self.base_rate}
        for metric in self.metrics:
            numbers |= {metric.name: metric.value, f"{metric.name}_low": metric.low, f"{metric.name}_high": metric.high}
        numbers |= self.reviews.metric_values() if self.reviews else {}
        return {prefix + name: float(number) for name, number in numbers.items() if number is not None}


def evaluate(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    points: OperatingPoints,
    f2_threshold: float,
    costs: CostMatrix | None = None,
    amounts: npt.ArrayLike | None = None,
    reviews: ReviewRows | None = None,
    reviews_per_day: int = REVIEWS_PER_DAY,
    thresholds: tuple[float, ...] = THRESHOLDS,
    min_per_class: int = MIN_ROWS_PER_CLASS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Evaluation:
    """Evaluate scores against labels, at operating points that were chosen on other rows.

    labels: shape (n,), 1 fraud, 0 legitimate, nan not known. scores: shape (n,), calibrated probabilities of fraud.
    points, f2_threshold: chosen on earlier rows, see `training.model.operating_points`. amounts: shape (n,), nan
    where unknown. reviews: of the same n rows; None leaves the metrics by day out. With fewer than `min_per_class` rows
    of a class, the other metrics are None and have a reason.
    Raises ValueError when shapes differ or a score is not finite.
    """
    costs = costs or CostMatrix()
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.shape != s.shape:
        raise ValueError(f"labels and scores must have one shape (n,), not {y.shape} and {s.shape}")
    all_amounts = np.full(y.shape, np.nan) if amounts is None else np.asarray(amounts, dtype=np.float64)
    if all_amounts.shape != y.shape:
        raise ValueError(f"labels and amounts must have one shape (n,), not {y.shape} and {all_amounts.shape}")
    known = ~np.isnan(y)
    ranked = rank(y[known], s[known], points=points, costs=costs, amounts=all_amounts[known])
    frauds = int(ranked.fraud.sum())
    loss = losses(costs, ranked.n, all_amounts[known])[ranked.order]
    return Evaluation(
        n=ranked.n,
        unlabelled=int((~known).sum()),
        frauds=frauds,
        base_rate=frauds / ranked.n if ranked.n else None,
        points=points,
        metrics=_metrics(ranked, frauds, min_per_class, resamples, seed, confidence),
        at_review=confusion_at(ranked, points.review),
        at_f2=confusion_at(ranked, f2_threshold),
        thresholds=tuple(_row(ranked, threshold, costs, loss) for threshold in thresholds),
        reviews=None
        if reviews is None
        else evaluate_reviews(reviews, s, reviews_per_day, resamples=resamples, seed=seed, confidence=confidence),
        costs=costs,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def confusion_at(ranked: RankedRows, threshold: float) -> Confusion:
    """The confusion matrix at a threshold."""
    k = ranked.alerts(threshold)
    tp, frauds = int(ranked.fraud[:k].sum()), int(ranked.fraud.sum())
    return Confusion(
        threshold=threshold,
        true_positives=tp,
        false_positives=k - tp,
        true_negatives=ranked.n - k - (frauds - tp),
        false_negatives=frauds - tp,
    )


def _metrics(
    ranked: RankedRows, frauds: int, minimum: int, resamples: int, seed: int, confidence: float
) -> tuple[Metric, ...]:
    rows: Mapping[str, int] = {"fraud": frauds, "legitimate": ranked.n - frauds}
    too_few = [
        f"{count} {name} rows with a known label, at least {minimum} are needed"
        for name, count in rows.items()
        if count < max(minimum, 1)
    ]
    if too_few:
        reason = "; ".join(too_few)
        return tuple(Metric(name=name, value=None, low=None, high=None, reason=reason) for name in METRICS)
    values = measure(ranked)
    replicates = bootstrap_replicates(ranked, resamples=resamples, seed=seed)
    return tuple(_metric(name, float(values[name][0]), replicates[name], confidence) for name in METRICS)


def _metric(name: str, value: float, replicates: Floats, confidence: float) -> Metric:
    if np.isnan(value):
        return Metric(name=name, value=None, low=None, high=None, reason="no row scores at or above the review point")
    low, high = bounds(value, replicates, confidence)
    if np.isnan(low):
        return Metric(name=name, value=value, low=None, high=None, reason="undefined on half of the resamples")
    return Metric(name=name, value=value, low=low, high=high)


def _row(ranked: RankedRows, threshold: float, costs: CostMatrix, loss: Floats) -> ThresholdRow:
    counts = confusion_at(ranked, threshold)
    tp, fp, fn = (np.array([float(c)]) for c in (counts.true_positives, counts.false_positives, counts.false_negatives))
    legitimate = counts.false_positives + counts.true_negatives
    missed = float((loss * ranked.fraud)[counts.alerts :].sum())
    return ThresholdRow(
        threshold=threshold,
        alerts=counts.alerts,
        precision=counts.true_positives / counts.alerts if counts.alerts else None,
        recall=_number(tp / (tp + fn)) if counts.true_positives + counts.false_negatives else None,
        f1=_number(f_beta(tp, fp, fn, 1.0)),
        f2=_number(f_beta(tp, fp, fn, 2.0)),
        false_positive_rate=counts.false_positives / legitimate if legitimate else None,
        cost=costs.review * counts.alerts + missed,
    )


def _number(values: Floats) -> float | None:
    return None if np.isnan(values[0]) else float(values[0])
