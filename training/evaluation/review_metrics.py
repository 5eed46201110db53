"""What a review team finds: precision among the k highest-ranked cards or transactions of a day, and value detected.

Each metric is a ratio of two sums over days. Its confidence interval comes from a bootstrap that resamples whole days,
because rows of one day, and of one card, are not independent.
"""

from collections.abc import Mapping

import msgspec
import numpy as np

from scoring.arrays import Floats, Ints
from training.evaluation.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    Interval,
    bounds,
    resample_weights,
    small_sample_confidence,
)
from training.evaluation.review_ranking import (
    REVIEWS_PER_DAY,
    DayTotals,
    RankedDays,
    ReviewRows,
    card_totals,
    rank_days,
    transaction_totals,
    value_totals,
)

MIN_DAYS = 3  # with fewer, a bootstrap by day has no meaning
NO_KEY, NO_AMOUNT = "the data set declares no key", "the data set declares no amount"
BUDGETS = (1, 2, 5)  # review budgets of the curve are these, times powers of ten
TITLES: Mapping[str, str] = {
    "card_precision": "Card precision@{}",
    "transaction_precision": "Transaction precision@{}",
    "value_detected": "Value detected at {} reviews a day",
}


class ReviewMetric(msgspec.Struct, frozen=True, kw_only=True):
    """A metric with its interval by day. Undefined numbers are None, and `reason` states why."""

    name: str  # "card_precision", "transaction_precision", "value_detected"
    value: float | None
    low: float | None
    high: float | None
    attainable: float | None  # of a score that ranks every fraud first
    random: float | None  # expected of a random order
    reason: str | None = None


class ReviewDay(msgspec.Struct, frozen=True, kw_only=True):
    """What the reviews of one day find, and the most they could find. None where the data set has no key or amount."""

    day: str  # UTC date
    cards_found: int | None
    cards_attainable: int | None
    frauds_found: int
    frauds_attainable: int
    amount_found: float | None
    amount_attainable: float | None
    fraud_amount: float | None  # of the whole day


class BudgetPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Value detected at another number of reviews a day."""

    per_day: int
    value: float
    low: float | None  # None: fewer than `MIN_DAYS` days
    high: float | None
    attainable: float
    random: float


class ReviewEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What a team that reviews `per_day` cards or transactions a day finds."""

    per_day: int
    metrics: tuple[ReviewMetric, ...]
    days: tuple[ReviewDay, ...]
    budgets: tuple[BudgetPoint, ...]  # value detected by review budget; empty without amounts or fraud

    def metric(self, name: str) -> ReviewMetric:
        """The named metric. Raises KeyError when there is none of that name."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)

    def metric_values(self) -> dict[str, float | None]:
        """All numbers by name, as MLflow logs them, such as ``card_precision_at_100_low``."""
        return {
            f"{m.name}_at_{self.per_day}{ending}": number
            for m in self.metrics
            for ending, number in (
                ("", m.value), ("_low", m.low), ("_high", m.high), ("_attainable", m.attainable), ("_random", m.random)
            )
        }  # fmt: skip


def metric_title(name: str, per_day: int) -> str:
    """A metric's name for people.

    >>> metric_title("card_precision", 100)
    'Card precision@100'
    """
    return TITLES[name].format(f"{per_day:,}")


def evaluate_reviews(
    rows: ReviewRows,
    scores: Floats,
    per_day: int = REVIEWS_PER_DAY,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> ReviewEvaluation:
    """What a team that reviews `per_day` cards or transactions a day finds with these scores.

    scores: shape (n,), finite. Rows without a known label, and days that the rows hold only in part, are left out.
    """
    kept = rows.whole & ~np.isnan(rows.fraud)
    rows, scores = rows.at(kept), scores[kept]
    if not len(scores):
        reason = "no whole day with known labels"
        return ReviewEvaluation(per_day=per_day, metrics=tuple(_undefined(n, reason) for n in TITLES), days=(),
                                budgets=())  # fmt: skip
    ranked = rank_days(rows, scores, seed)
    cards, transactions = card_totals(rows, scores, per_day, seed), transaction_totals(ranked, per_day)
    value = value_totals(ranked, per_day)
    weights = _day_weights(len(ranked.days), resamples, seed)
    metrics = (
        _metric("card_precision", cards, weights, confidence) if cards else _undefined("card_precision", NO_KEY),
        _metric("transaction_precision", transactions, weights, confidence),
        _metric("value_detected", value, weights, confidence) if value else _undefined("value_detected", NO_AMOUNT),
    )
    return ReviewEvaluation(
        per_day=per_day,
        metrics=metrics,
        days=_days(ranked.days, cards, transactions, value),
        budgets=_budgets(ranked, weights, confidence),
    )


def review_differences(
    rows: ReviewRows,
    a: Floats,
    b: Floats,
    per_day: int = REVIEWS_PER_DAY,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> dict[str, tuple[float, float, Interval]]:
    """Paired bootstrap by day: every defined metric of scores `a`, of scores `b`, and a minus b.

    a, b: shape (n,). Returns {} with fewer than `MIN_DAYS` days.
    """
    kept = rows.whole & ~np.isnan(rows.fraud)
    rows, a, b = rows.at(kept), a[kept], b[kept]
    ranked = [rank_days(rows, scores, seed) for scores in (a, b)]
    weights = _day_weights(len(ranked[0].days), resamples, seed)
    if weights is None:
        return {}
    totals: dict[str, list[DayTotals | None]] = {
        "card_precision": [card_totals(rows, scores, per_day, seed) for scores in (a, b)],
        "transaction_precision": [transaction_totals(of, per_day) for of in ranked],
        "value_detected": [value_totals(of, per_day) for of in ranked],
    }
    differences = {}
    for name, (of_a, of_b) in totals.items():
        if of_a is not None and of_b is not None and of_a.of.any():
            difference = of_a.found - of_b.found
            interval = Interval(_ratio(difference, of_a.of), *_bounds(difference, of_a.of, weights, confidence))
            differences[name] = _ratio(of_a.found, of_a.of), _ratio(of_b.found, of_b.of), interval
    return differences


def _day_weights(days: int, resamples: int, seed: int) -> Floats | None:
    """Bootstrap counts of the days, shape (resamples, d); None with fewer than `MIN_DAYS` days."""
    return None if days < MIN_DAYS else np.concatenate(list(resample_weights(days, resamples, seed)))


def _metric(name: str, totals: DayTotals, weights: Floats | None, confidence: float) -> ReviewMetric:
    if not totals.of.any():
        return _undefined(name, "no fraud with a known amount")
    low = high = reason = None
    if weights is None:
        reason = f"no interval: {len(totals.of)} whole days, at least {MIN_DAYS} are needed"
    else:
        low, high = _bounds(totals.found, totals.of, weights, confidence)
        if np.isnan(low):
            low = high = None
            reason = "undefined on half of the resamples"
    return ReviewMetric(
        name=name,
        value=_ratio(totals.found, totals.of),
        low=low,
        high=high,
        attainable=_ratio(totals.attainable, totals.of),
        random=_ratio(totals.random, totals.of),
        reason=reason,
    )


def _undefined(name: str, reason: str) -> ReviewMetric:
    return ReviewMetric(name=name, value=None, low=None, high=None, attainable=None, random=None, reason=reason)


def _ratio(part: Floats, of: Floats) -> float:
    return float(part.sum() / of.sum())


def _bounds(part: Floats, of: Floats, weights: Floats, confidence: float) -> tuple[float, float]:
    whole = weights @ of
    replicates = np.divide(weights @ part, whole, out=np.full(len(weights), np.nan), where=whole > 0)
    return bounds(_ratio(part, of), replicates, small_sample_confidence(confidence, len(of)))


def _budgets(ranked: RankedDays, weights: Floats | None, confidence: float) -> tuple[BudgetPoint, ...]:
    points = []
    for per_day in _budget_grid(int(ranked.rows.max())):
        totals = value_totals(ranked, per_day)
        if totals is None or not totals.of.any():
            return ()
        metric = _metric("value_detected", totals, weights, confidence)
        points.append(
            BudgetPoint(
                per_day=per_day,
                value=_ratio(totals.found, totals.of),
                low=metric.low,
                high=metric.high,
                attainable=_ratio(totals.attainable, totals.of),
                random=_ratio(totals.random, totals.of),
            )
        )
    return tuple(points)


def _budget_grid(most: int) -> list[int]:
    """1, 2, 5, 10, … up to the first number that covers every transaction of a day."""
    grid = [step * 10**power for power in range(len(str(most)) + 1) for step in BUDGETS]
    return grid[: next(i for i, per_day in enumerate(grid) if per_day >= most) + 1]


def _days(
    days: Ints, cards: DayTotals | None, transactions: DayTotals, value: DayTotals | None
) -> tuple[ReviewDay, ...]:
    return tuple(
        ReviewDay(
            day=str(day),
            cards_found=int(cards.found[i]) if cards else None,
            cards_attainable=int(cards.attainable[i]) if cards else None,
            frauds_found=int(transactions.found[i]),
            frauds_attainable=int(transactions.attainable[i]),
            amount_found=float(value.found[i]) if value else None,
            amount_attainable=float(value.attainable[i]) if value else None,
            fraud_amount=float(value.of[i]) if value else None,
        )
        for i, day in enumerate(days.astype("datetime64[D]"))
    )
