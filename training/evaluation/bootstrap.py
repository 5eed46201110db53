"""Bootstrap confidence intervals of metrics.

Resampling is not stratified by class: the number of frauds in a test period is random too, and precision, average
precision, cost, log loss and Brier score depend on it.
Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, ch. 13.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student_t

from scoring.arrays import Floats
from scoring.decision import OperatingPoints
from training.evaluation.metrics import METRICS, CostMatrix, RankedRows, Tally, measure, rank

RESAMPLES = 1000
CONFIDENCE = 0.95
MAX_CHUNK_CELLS = 1_000_000  # resamples × rows per chunk; larger arrays leave the processor's cache


class Interval(NamedTuple):
    """A value with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def resample_weights(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Bootstrap counts of n rows, in chunks of shape (b, n); the chunks' b add up to `resamples`."""
    rng = np.random.default_rng(seed)
    chunk = max(1, MAX_CHUNK_CELLS // max(n, 1))
    for start in range(0, resamples, chunk):
        b = min(chunk, resamples - start)
        drawn = rng.integers(0, n, size=(b, n))
        drawn += np.arange(b)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n).astype(np.float64)


def bounds(value: float, replicates: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Bias-corrected percentile (BC) bounds of `value`.

    replicates: shape (b,), the metric on bootstrap resamples; nan is left out. Returns nan, nan when fewer than half of
    the replicates are defined.
    Ranking metrics are skewed, and rows that are drawn twice make them larger on a resample; average precision and KS
    most of all. The correction shifts the percentiles by twice the normal quantile of the share of replicates below
    `value`, which keeps the bounds in the metric's range. BCa's acceleration is not used: its jackknife has no meaning
    for step functions such as recall at a false positive rate. KS stays biased upwards for models with little skill; no
    decision depends on it.
    Source: Efron & Tibshirani (1993), ch. 14.

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


def small_sample_confidence(confidence: float, n: int) -> float:
    """The confidence to pass to `bounds` so that an interval from n independent units covers at its nominal rate.

    A percentile interval of few units is too narrow: it has the width of a normal distribution with the variance of
    the sample divided by n, not of Student's t with n - 1 degrees of freedom. n: at least 2.
    Source: Hesterberg (2015), What Teachers Should Know About the Bootstrap (expanded percentile interval).

    >>> round(small_sample_confidence(0.95, 7), 4), round(small_sample_confidence(0.95, 1000), 4)
    (0.9918, 0.9504)
    """
    quantile = np.sqrt(n / (n - 1)) * student_t.ppf((1 + confidence) / 2, n - 1)
    return float(1 - 2 * norm.cdf(-quantile))


def bootstrap_replicates(
    ranked: RankedRows, names: tuple[str, ...] = tuple(METRICS), *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Floats]:
    """The named metrics on `resamples` bootstrap resamples; each result has shape (resamples,)."""
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
    """Paired bootstrap: `metric` of scores `a` minus `metric` of scores `b` on the same rows.

    labels, a, b, amounts: shape (n,). metric: one of `training.evaluation.metrics.METRICS`. points: of a and of b, for
    metrics that need them. For log_loss, brier and cost_per_transaction, a negative difference means that a is better.
    Raises ValueError when one class is absent.
    """
    y = np.asarray(labels, dtype=np.float64)
    if not 0 < y.sum() < y.size:
        raise ValueError("labels must hold fraud and legitimate rows; a difference needs both classes")
    of_a, of_b = points or (None, None)
    ranked_a = rank(y, a, points=of_a, costs=costs, amounts=amounts)
    ranked_b = rank(y, b, points=of_b, costs=costs, amounts=amounts)

    def difference(weights: Floats | None) -> Floats:
        return measure(ranked_a, weights, (metric,))[metric] - measure(ranked_b, weights, (metric,))[metric]

    value = float(difference(None)[0])
    replicates = np.concatenate([difference(weights) for weights in resample_weights(y.size, resamples, seed)])
    return Interval(value, *bounds(value, replicates, confidence))


def roc_band(
    ranked: RankedRows, rates: Floats, *, resamples: int = 200, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Pointwise percentile band of a ROC curve.

    rates: false positive rates, shape (k,). Returns the lower and upper true positive rates, each of shape (k,).
    """
    curves = []
    for weights in resample_weights(ranked.n, resamples, seed):
        tally = Tally(ranked, weights[:, ranked.order])
        for tp, fp in zip(tally.true_positives, tally.false_positives, strict=True):
            if tp[-1] and fp[-1]:
                curves.append(np.interp(rates, fp / fp[-1], tp / tp[-1]))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.array(curves), [tail, 1 - tail], axis=0)
    return low, high
