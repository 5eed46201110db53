"""Rolling metrics of decisions with final labels, and the performance alarm."""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from river import metrics
from river.utils import Rolling
from scipy.stats import chi2, norm

from scoring.arrays import Floats

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
    recall: float | None  # share of the frauds that were reviewed or declined
    delay_ms: int | None  # median time from transaction to label


class RollingPerformance:
    """Latest labelled rows of one model version. Rows are added in the order in which they mature."""

    def __init__(self, window: int) -> None:
        self.matured = self.labelled = 0
        self.days: dict[int, tuple[int, int, float]] = {}  # by UTC day: labelled rows, frauds, expected frauds
        self._rows: deque[tuple[float, bool, int]] = deque(maxlen=window)
        self._roc_auc = metrics.RollingROCAUC(window_size=window)
        self._average_precision = metrics.RollingPRAUC(window_size=window)
        self._recall = Rolling(metrics.Recall, window_size=window)
        self._measures: Measures | None = None  # until the next row

    def update(self, *, score: float, fraud: bool, flagged: bool, delay_ms: int, day: int) -> None:
        """Add a matured, labelled decision. day: of the transaction, days since 1970."""
        self.labelled += 1
        self._measures = None
        self._rows.append((score, fraud, delay_ms))
        self._roc_auc.update(fraud, score)
        self._average_precision.update(fraud, score)
        self._recall.update(fraud, flagged)
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
        scores = np.array([score for score, _, _ in self._rows])
        frauds = sum(fraud for _, fraud, _ in self._rows)
        both = 0 < frauds < len(scores)
        return Measures(
            rows=len(scores),
            frauds=frauds,
            expected=float(scores.sum()),
            roc_auc=float(self._roc_auc.get()) if both else None,
            claimed_roc_auc=claimed_roc_auc(scores) if both else None,
            average_precision=float(self._average_precision.get()) if frauds else None,
            recall=float(self._recall.get()) if frauds else None,
            delay_ms=int(np.median([delay for _, _, delay in self._rows])) if self._rows else None,
        )


def claimed_roc_auc(scores: Floats) -> float | None:
    """Expected ROC AUC if each score is the true probability of fraud; ties count half.

    scores: shape (n,), probabilities. None if all scores are 0 or all are 1.

    >>> round(claimed_roc_auc(np.array([0.1, 0.9])), 4)
    0.9878
    """
    values, places = np.unique(scores, return_inverse=True)
    fraud = np.bincount(places, weights=scores, minlength=len(values))
    legitimate = np.bincount(places, weights=1 - scores, minlength=len(values))
    # Exclude the pair of a row with itself.
    alone = np.bincount(places, weights=scores * (1 - scores), minlength=len(values))
    below = np.cumsum(legitimate) - legitimate
    pairs = fraud.sum() * legitimate.sum() - alone.sum()
    if pairs <= 0:
        return None
    return float((fraud @ below + (fraud @ legitimate - alone.sum()) / 2) / pairs)


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
    high = m.roc_auc + norm.isf(policy.false_alarm) * _hanley_mcneil(m.roc_auc, m.frauds, m.rows - m.frauds)
    if high < m.claimed_roc_auc - policy.auc_loss:
        return (
            f"ROC AUC {m.roc_auc:.3f} on the last {m.rows} matured transactions ({m.frauds} frauds), upper bound "
            f"{high:.3f}; the scores predict {m.claimed_roc_auc:.3f}"
        )
    return None


def _hanley_mcneil(auc: float, frauds: int, legitimate: int) -> float:
    """Standard error of an area under the curve."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (frauds - 1) * (q1 - auc**2) + (legitimate - 1) * (q2 - auc**2)
    return math.sqrt(max(0.0, spread) / (frauds * legitimate))
