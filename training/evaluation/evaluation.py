"""What a scorer is worth on rows it has never seen: one record for metrics.json, the report and MLflow."""

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from scoring.arrays import Floats
from scoring.decision import OperatingPoints
from training.evaluation.bootstrap import CONFIDENCE, RESAMPLES, bounds, replicate
from training.evaluation.metrics import METRICS, CostMatrix, Ranked, f_beta, losses, measure, rank

MIN_PER_CLASS = 20  # below, a bootstrap of the rarer class repeats the same few rows, and its interval is fiction
THRESHOLDS = (*(round(0.40 + 0.05 * i, 2) for i in range(12)), 0.97)


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One measure with its confidence interval; None where it cannot be had, and then a reason."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """The four kinds of rows when an alert is a score at or above the threshold."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def alerts(self) -> int:
        """Rows at or above the threshold."""
        return self.true_positives + self.false_positives


class ThresholdRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one threshold would mean; None where nothing is there to divide by."""

    threshold: float
    alerts: int
    precision: float | None
    recall: float | None
    f1: float | None
    f2: float | None
    false_positive_rate: float | None
    cost: float  # of all rows, when every alert is reviewed and none declined


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A scorer judged on labelled rows. JSON-able: no nan, no infinity."""

    n: int  # rows whose label is known
    unlabelled: int  # rows left out because theirs is not, yet
    frauds: int
    base_rate: float | None
    points: OperatingPoints
    metrics: tuple[Metric, ...]
    at_review: Confusion
    at_f2: Confusion
    thresholds: tuple[ThresholdRow, ...]
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

    def flat(self, prefix: str = "") -> dict[str, float]:
        """Every known number under its name, bounds as ``name_low`` and ``name_high``: what MLflow logs."""
        numbers: dict[str, float | None] = {"n": self.n, "frauds": self.frauds, "base_rate": self.base_rate}
        for metric in self.metrics:
            numbers |= {metric.name: metric.value, f"{metric.name}_low": metric.low, f"{metric.name}_high": metric.high}
        return {prefix + name: float(number) for name, number in numbers.items() if number is not None}


def evaluate(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    points: OperatingPoints,
    f2_threshold: float,
    costs: CostMatrix | None = None,
    amounts: npt.ArrayLike | None = None,
    thresholds: tuple[float, ...] = THRESHOLDS,
    fewest_per_class: int = MIN_PER_CLASS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Evaluation:
    """Judge scores by labels at thresholds that were chosen elsewhere.

    labels: shape (n,), 1 fraud, 0 good, nan not known yet. scores: shape (n,), calibrated probabilities of fraud.
    points, f2_threshold: chosen on validation rows, see `training.model.operating_points`. amounts: shape (n,), nan
    unknown. Metrics are None, with the reason, when fewer than `fewest_per_class` rows of a class are there.
    Raises ValueError when shapes differ or a score is not finite.
    """
    costs = costs or CostMatrix()
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if y.shape != s.shape:
        raise ValueError(f"labels and scores must have one shape (n,), not {y.shape} and {s.shape}")
    money = np.full(y.shape, np.nan) if amounts is None else np.asarray(amounts, dtype=np.float64)
    if money.shape != y.shape:
        raise ValueError(f"labels and amounts must have one shape (n,), not {y.shape} and {money.shape}")
    known = ~np.isnan(y)
    ranked = rank(y[known], s[known], points=points, costs=costs, amounts=money[known])
    frauds = int(ranked.fraud.sum())
    loss = losses(costs, ranked.n, money[known])[ranked.order]
    return Evaluation(
        n=ranked.n,
        unlabelled=int((~known).sum()),
        frauds=frauds,
        base_rate=frauds / ranked.n if ranked.n else None,
        points=points,
        metrics=_metrics(ranked, frauds, fewest_per_class, resamples, seed, confidence),
        at_review=confusion_at(ranked, points.review),
        at_f2=confusion_at(ranked, f2_threshold),
        thresholds=tuple(_row(ranked, threshold, costs, loss) for threshold in thresholds),
        costs=costs,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def confusion_at(ranked: Ranked, threshold: float) -> Confusion:
    """Count the four kinds of rows at a threshold."""
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
    ranked: Ranked, frauds: int, fewest: int, resamples: int, seed: int, confidence: float
) -> tuple[Metric, ...]:
    rows: Mapping[str, int] = {"fraud": frauds, "good": ranked.n - frauds}
    short = [
        f"{count} {kind} rows with a known label, {fewest} are needed"
        for kind, count in rows.items()
        if count < max(fewest, 1)
    ]
    if short:
        reason = "; ".join(short)
        return tuple(Metric(name=name, value=None, low=None, high=None, reason=reason) for name in METRICS)
    values = measure(ranked)
    replicates = replicate(ranked, resamples=resamples, seed=seed)
    return tuple(_metric(name, float(values[name][0]), replicates[name], confidence) for name in METRICS)


def _metric(name: str, value: float, replicates: Floats, confidence: float) -> Metric:
    if np.isnan(value):
        return Metric(name=name, value=None, low=None, high=None, reason="no row scores at or above the review point")
    low, high = bounds(value, replicates, confidence)
    if np.isnan(low):
        return Metric(name=name, value=value, low=None, high=None, reason="undefined on half of the resamples")
    return Metric(name=name, value=value, low=low, high=high)


def _row(ranked: Ranked, threshold: float, costs: CostMatrix, loss: Floats) -> ThresholdRow:
    counts = confusion_at(ranked, threshold)
    tp, fp, fn = (np.array([float(c)]) for c in (counts.true_positives, counts.false_positives, counts.false_negatives))
    goods = counts.false_positives + counts.true_negatives
    missed = float((loss * ranked.fraud)[counts.alerts :].sum())
    return ThresholdRow(
        threshold=threshold,
        alerts=counts.alerts,
        precision=counts.true_positives / counts.alerts if counts.alerts else None,
        recall=_number(tp / (tp + fn)) if counts.true_positives + counts.false_negatives else None,
        f1=_number(f_beta(tp, fp, fn, 1.0)),
        f2=_number(f_beta(tp, fp, fn, 2.0)),
        false_positive_rate=counts.false_positives / goods if goods else None,
        cost=costs.review * counts.alerts + missed,
    )


def _number(one: Floats) -> float | None:
    return None if np.isnan(one[0]) else float(one[0])
