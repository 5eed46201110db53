"""Rolling metrics of decisions with final labels, and the performance alarm.

The metrics of ranking and recall are over all transactions: an explored one counts by its weight
(`monitoring.performance.label_weights`). Observed and expected frauds are those of the labelled transactions.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from river import metrics
from river.utils import Rolling
from scipy.stats import chi2, norm

from scoring.arrays import Flags, Floats

MAX_DAYS = 35  # of transactions, reported per day


@dataclass(frozen=True, kw_only=True)
class PerformancePolicy:
    """When labels are final, limits of memory, and thresholds of the performance alarm."""

    maturity_ms: int = 0  # age of a transaction from which its label is final
    window: int = 5_000  # number of latest matured and labelled transactions of a version that metrics cover
    remembered: int = 200_000  # maximum number of decisions kept, about 300 bytes each
    early: int = 50_000  # maximum number of labels that wait for their decision
    coverage: float = 0.5  # minimum share of matured transactions with a label; fewer may be a biased selection
    min_frauds: int = 30
    observed_expected: float = 1.5  # alarm if the ratio of observed to expected frauds exceeds this, or its inverse
    auc_loss: float = 0.05  # alarm if the ROC AUC is this much below the one that the scores claim
    false_alarm: float = 0.1 / 30 / 3  # error of each bound: one false alarm in ten months of daily checks of three


class Measures(NamedTuple):
    """Metrics over the window; None if undefined, because the window lacks a class or is empty."""

    rows: int
    frauds: int
    expected: float  # expected number of frauds: the sum of the scores
    roc_auc: float | None
    claimed_roc_auc: float | None  # expected ROC AUC if every score were the true probability of fraud
    average_precision: float | None
    recall: float | None  # share of the frauds that the model did not approve
    effective_frauds: float  # as many frauds of weight 1 vary as the weighted ones do
    effective_legitimate: float
    delay_ms: int | None  # median time from transaction to label


class _LabelledRow(NamedTuple):
    score: float
    fraud: bool
    flagged: bool
    weight: float
    delay_ms: int


class RollingPerformance:
    """Latest labelled rows of one model version. Rows are added in the order in which they mature."""

    def __init__(self, window: int) -> None:
        self.matured = self.labelled = 0
        self.days: dict[int, tuple[int, int, float]] = {}  # by UTC day: labelled rows, frauds, expected frauds
        self._rows: deque[_LabelledRow] = deque(maxlen=window)
        self._roc_auc = metrics.RollingROCAUC(window_size=window)
        self._average_precision = metrics.RollingPRAUC(window_size=window)
        self._recall = Rolling(metrics.Recall, window_size=window)
        self._measures: Measures | None = None  # until the next row

    def update(self, *, score: float, fraud: bool, flagged: bool, delay_ms: int, day: int, weight: float = 1.0) -> None:
        """Add a matured, labelled decision. day: of the transaction, days since 1970. weight: see `label_weight`."""
        self.labelled += 1
        self._measures = None
        self._rows.append(_LabelledRow(score, fraud, flagged, weight, delay_ms))
        self._roc_auc.update(fraud, score)
        self._average_precision.update(fraud, score)
        self._recall.update(fraud, flagged, weight)
        rows, frauds, expected = self.days.get(day, (0, 0, 0.0))
        self.days[day] = rows + 1, frauds + fraud, expected + score
        if len(self.days) > MAX_DAYS:
            del self.days[min(self.days)]

    def measures(self) -> Measures:
        """Metrics over the current window."""
        if self._measures is None:
            self._measures = self._measured()
        return self._measures

    def _measured(self) -> Measures:
        rows = self._rows
        scores, fraud = np.array([r.score for r in rows]), np.array([r.fraud for r in rows], np.bool_)
        weights = np.array([r.weight for r in rows])
        frauds = int(fraud.sum())
        both = 0 < frauds < len(rows)
        is_weighted = bool((weights != 1.0).any())  # river's ranking metrics take no weights
        roc_auc = average_precision = None
        if both:
            roc_auc = weighted_roc_auc(fraud, scores, weights) if is_weighted else float(self._roc_auc.get())
        if frauds:
            average_precision = (
                weighted_average_precision(fraud, scores, weights)
                if is_weighted
                else float(self._average_precision.get())
            )
        return Measures(
            rows=len(rows),
            frauds=frauds,
            expected=float(scores.sum()),
            roc_auc=roc_auc,
            claimed_roc_auc=claimed_roc_auc(scores, weights) if both else None,
            average_precision=average_precision,
            recall=float(self._recall.get()) if frauds else None,
            effective_frauds=_effective_number(weights[fraud]),
            effective_legitimate=_effective_number(weights[~fraud]),
            delay_ms=int(np.median([r.delay_ms for r in rows])) if rows else None,
        )


def weighted_roc_auc(fraud: Flags, scores: Floats, weights: Floats) -> float | None:
    """ROC AUC of weighted rows; ties count half. None without both classes. All of shape (n,)."""
    of_fraud, of_legitimate = _weights_by_score(scores, weights * fraud, weights * ~fraud)
    return _area(of_fraud, of_legitimate, 0.0)


def weighted_average_precision(fraud: Flags, scores: Floats, weights: Floats) -> float:
    """Average precision of weighted rows with at least one fraud. All of shape (n,)."""
    of_fraud, of_legitimate = _weights_by_score(scores, weights * fraud, weights * ~fraud)
    caught, alerted = of_fraud[::-1].cumsum(), (of_fraud + of_legitimate)[::-1].cumsum()
    return float((of_fraud[::-1] * caught / alerted).sum() / caught[-1])


def claimed_roc_auc(scores: Floats, weights: Floats | None = None) -> float | None:
    """Expected ROC AUC if each score is the true probability of fraud; ties count half.

    scores: shape (n,), probabilities. weights: shape (n,); None: all 1. None if all scores are 0 or all are 1.

    >>> round(claimed_roc_auc(np.array([0.1, 0.9])), 4)
    0.9878
    """
    w = np.ones(len(scores)) if weights is None else weights
    of_fraud, of_legitimate = _weights_by_score(scores, w * scores, w * (1 - scores))
    return _area(of_fraud, of_legitimate, float((w**2 * scores * (1 - scores)).sum()))


def _weights_by_score(scores: Floats, fraud: Floats, legitimate: Floats) -> tuple[Floats, Floats]:
    """The weights of both classes, summed by distinct score, ascending."""
    values, places = np.unique(scores, return_inverse=True)
    of_fraud, of_legitimate = (
        np.bincount(places, weights, len(values)).astype(np.float64) for weights in (fraud, legitimate)
    )
    return of_fraud, of_legitimate


def _area(fraud: Floats, legitimate: Floats, of_pairs_with_themselves: float) -> float | None:
    """Share of the pairs of a fraud and a legitimate row in which the fraud scores higher; None without pairs."""
    below = np.cumsum(legitimate) - legitimate
    pairs = fraud.sum() * legitimate.sum() - of_pairs_with_themselves
    if pairs <= 0:
        return None
    return float((fraud @ below + (fraud @ legitimate - of_pairs_with_themselves) / 2) / pairs)


def _effective_number(weights: Floats) -> float:
    """Kish's effective sample size."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def performance_alarm(rolling: RollingPerformance, policy: PerformancePolicy) -> str | None:
    """Reason of a performance alarm, in one sentence, or None. Bounds are one-sided, with error `policy.false_alarm`.

    Sources: frauds: Garwood's exact Poisson interval; ROC AUC: Hanley & McNeil (1982), The Meaning and Use of the Area
    under a Receiver Operating Characteristic (ROC) Curve.
    """
    if rolling.labelled < policy.coverage * rolling.matured:
        return None
    m = rolling.measures()
    if max(m.frauds, m.expected) < policy.min_frauds or m.expected <= 0:
        return None
    low = chi2.ppf(policy.false_alarm, 2 * m.frauds) / 2 if m.frauds else 0.0
    high = chi2.ppf(1 - policy.false_alarm, 2 * m.frauds + 2) / 2
    limit = policy.observed_expected
    if low > limit * m.expected or high < m.expected / limit:
        word, bound = ("at least", low) if m.frauds > m.expected else ("at most", high)
        return (
            f"{m.frauds} frauds among the last {m.rows} matured transactions, but the scores predict "
            f"{m.expected:.0f}: {word} {bound / m.expected:.2f} times as many"
        )
    if m.roc_auc is None or m.claimed_roc_auc is None or m.frauds < policy.min_frauds:
        return None
    high = m.roc_auc + norm.isf(policy.false_alarm) * _hanley_mcneil(
        m.roc_auc, m.effective_frauds, m.effective_legitimate
    )
    if high < m.claimed_roc_auc - policy.auc_loss:
        return (
            f"ROC AUC {m.roc_auc:.3f} on the last {m.rows} matured transactions ({m.frauds} frauds), upper bound "
            f"{high:.3f}; the scores predict {m.claimed_roc_auc:.3f}"
        )
    return None


def _hanley_mcneil(auc: float, frauds: float, legitimate: float) -> float:
    """Standard error of an area under the curve."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (frauds - 1) * (q1 - auc**2) + (legitimate - 1) * (q2 - auc**2)
    return math.sqrt(max(0.0, spread) / (frauds * legitimate))
