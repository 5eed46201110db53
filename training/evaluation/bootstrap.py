"""Confidence intervals by the bootstrap: how much of a metric is luck of the draw.

Rows are resampled whole, not class by class: how many frauds a test period holds is itself luck, and precision, average
precision, cost and the scoring rules all move with it.
Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, ch. 13.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from scoring.arrays import Floats
from scoring.decision import OperatingPoints
from training.evaluation.metrics import METRICS, CostMatrix, Ranked, Tally, measure, rank

RESAMPLES = 1000
CONFIDENCE = 0.95
CELLS = 1_000_000  # resamples x rows held at once; beyond that the arrays leave the processor's cache for nothing


class Interval(NamedTuple):
    """A value with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def resample_weights(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each of n rows is drawn, in chunks of shape (b, n); the chunks' b sum to `resamples`."""
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // max(n, 1))
    for start in range(0, resamples, chunk):
        b = min(chunk, resamples - start)
        drawn = rng.integers(0, n, size=(b, n))
        drawn += np.arange(b)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n).astype(np.float64)


def bounds(value: float, replicates: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Bias-corrected percentile bounds around `value` from its bootstrap replicates, shape (b,).

    Ranking metrics are skewed and, average precision and KS above all, larger on a resample than on its parent, for the
    rows drawn twice. The percentiles move by twice the share of replicates below the value, in normal quantiles, which
    keeps bounds inside the metric's range. BCa's acceleration is left out: its jackknife means nothing on a step such
    as recall at a false positive rate. KS stays too high where there is little skill; nothing is decided by it.
    Replicates where the metric is undefined are left out; nan, nan when half of them are.

    >>> bounds(0.5, np.linspace(0, 1, 1001))
    (0.025, 0.975)
    """
    defined = replicates[~np.isnan(replicates)]
    if 2 * defined.size < replicates.size or not defined.size:
        return np.nan, np.nan
    below = (np.mean(defined < value) + np.mean(defined <= value)) / 2
    shift = 2 * norm.ppf(np.clip(below, 1 / defined.size, 1 - 1 / defined.size))
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, norm.cdf(shift + norm.ppf([tail, 1 - tail])))
    return float(low), float(high)


def replicate(
    ranked: Ranked, names: tuple[str, ...] = tuple(METRICS), *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Floats]:
    """The named metrics on `resamples` resamples, each of shape (resamples,)."""
    chunks = [measure(ranked, weights, names) for weights in resample_weights(ranked.n, resamples, seed)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}


def paired_difference(
    labels: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    metric: str = "average_precision",
    *,
    points: tuple[OperatingPoints, OperatingPoints] | None = None,
    costs: CostMatrix | None = None,
    amounts: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """How much more `metric` is for scores `a` than for scores `b` of the same rows, both on the same resamples.

    labels, a, b, amounts: shape (n,). metric: one of `training.evaluation.metrics.METRICS`. points: those of a and of
    b, for metrics that need them. Mind the sign: log_loss, brier and cost_per_transaction are better when lower.
    Raises ValueError when one class is absent.
    """
    y = np.asarray(labels, dtype=np.float64)
    if not 0 < y.sum() < y.size:
        raise ValueError("a difference needs fraud and good ones among the labels")
    of_a, of_b = points or (None, None)
    ranked_a = rank(y, a, points=of_a, costs=costs, amounts=amounts)
    ranked_b = rank(y, b, points=of_b, costs=costs, amounts=amounts)

    def difference(weights: Floats | None) -> Floats:
        return measure(ranked_a, weights, (metric,))[metric] - measure(ranked_b, weights, (metric,))[metric]

    value = float(difference(None)[0])
    replicates = np.concatenate([difference(weights) for weights in resample_weights(y.size, resamples, seed)])
    return Interval(value, *bounds(value, replicates, confidence))


def roc_band(
    ranked: Ranked, rates: Floats, *, resamples: int = 200, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Pointwise percentile band of the true positive rate at each false positive rate; two arrays like `rates`."""
    curves = []
    for weights in resample_weights(ranked.n, resamples, seed):
        tally = Tally(ranked, weights[:, ranked.order])
        for tp, fp in zip(tally.true_positives, tally.false_positives, strict=True):
            if tp[-1] and fp[-1]:
                curves.append(np.interp(rates, fp / fp[-1], tp / tp[-1]))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.array(curves), [tail, 1 - tail], axis=0)
    return low, high
