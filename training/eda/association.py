"""How strongly two columns hang together, with an interval for each, and how surprising that is when many are asked.

Intervals are of 95 % and take rows as independent: where one card holder has many, columns that belong to the holder
(a city, a credit line) vary more than they say.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import chi2, ncx2, norm, pearsonr

CONFIDENCE = 0.95
MIN_EXPECTED = 5  # Cochran's rule: below it in any cell the chi-squared distribution is no good guide
DRAWS = 10_000
ROUNDING = 1e-12  # a column that varies by less, as a share of its size, does not vary

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Strength(NamedTuple):
    """A measure of association, the bounds of its interval and the p-value of there being none."""

    value: float
    low: float
    high: float
    p_value: float


def correlation(a: Floats, b: Floats) -> Strength | None:
    """Pearson's r of two columns, shape (n,), over the rows where both are known; Fisher's z interval.

    None when fewer than 4 rows are left or a column does not vary.
    Source: Fisher (1921), On the "probable error" of a coefficient of correlation.

    >>> correlation(np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 2, 3, 5, 4])).value
    0.9
    """
    known = ~(np.isnan(a) | np.isnan(b))
    # Within float32, squares stay within float64: an amount of 1e300 may come, see `scoring.features`.
    x, y = (np.clip(column[known], -3e38, 3e38) for column in (a, b))
    if len(x) < 4 or any(np.ptp(column) <= ROUNDING * np.abs(column).max() for column in (x, y)):
        return None
    found = pearsonr(x / np.abs(x).max(), y / np.abs(y).max())
    r = float(found.statistic)
    reach = norm.ppf((1 + CONFIDENCE) / 2) / np.sqrt(len(x) - 3)
    # 1 - r is 0 for two columns that say the same; the largest float below 1 keeps arctanh finite.
    low, high = np.tanh(np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15)) + np.array([-reach, reach]))
    return Strength(round(r, 12), float(low), float(high), float(found.pvalue))


def cramers_v(table: Counts) -> Strength | None:
    """Bias-corrected Cramér's V of a contingency table, shape (r, c): 0 unrelated, 1 when one tells the other.

    The interval inverts the noncentral chi-squared distribution; its lower bound is 0 where chance would do as well.
    None when a side has fewer than two levels that occur.
    Sources: Bergsma (2013), A bias-correction for Cramér's V and Tschuprow's T; Smithson (2003), Confidence Intervals.

    >>> cramers_v(np.array([[50, 50], [50, 50]])).value, round(cramers_v(np.array([[100, 0], [0, 100]])).value, 6)
    (0.0, 1.0)
    """
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    r, c = table.shape
    if min(r, c) < 2:
        return None
    n, degrees = int(table.sum()), (r - 1) * (c - 1)
    statistic = _chi_squared(table)
    excess = max(0.0, statistic / n - degrees / (n - 1))
    rows, columns = (k - (k - 1) ** 2 / (n - 1) for k in (r, c))
    value = np.sqrt(excess / max(min(rows, columns) - 1, 1e-12))
    tail = (1 - CONFIDENCE) / 2
    low, high = (np.sqrt(_noncentrality(statistic, degrees, p) / (n * (min(r, c) - 1))) for p in (1 - tail, tail))
    return Strength(min(float(value), 1.0), min(float(low), 1.0), min(float(high), 1.0), independence(table))


def independence(table: Counts, seed: int = 0) -> float:
    """The p-value of Pearson's chi-squared test on a contingency table, shape (r, c), whose margins are all positive.

    Where a cell expects fewer than 5 and one side has two levels, it is found by drawing 10,000 tables with the same
    margins. Raises ValueError for a table without two levels on each side.

    >>> round(independence(np.array([[30, 70], [50, 50]])), 4), independence(np.array([[1, 3], [2, 3]])) > 0.5
    (0.0039, True)
    """
    if min(table.shape) < 2:
        raise ValueError(f"a table of shape {table.shape} has nothing to be independent of")
    statistic = _chi_squared(table)
    if _expected(table).min() >= MIN_EXPECTED or min(table.shape) > 2:
        return float(chi2.sf(statistic, (table.shape[0] - 1) * (table.shape[1] - 1)))
    two = table if table.shape[1] == 2 else table.T
    levels, hits = two.sum(axis=1), int(two[:, 1].sum())
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(levels, hits, size=DRAWS, method="marginals")
    expected = levels * hits / levels.sum()
    # With the margins fixed, a cell's two squares are proportional: the column of hits orders the tables as all do.
    spread, seen = (((h - expected) ** 2 / expected).sum(axis=-1) for h in (drawn, two[:, 1]))
    return float((1 + np.sum(spread >= seen * (1 - 1e-9))) / (1 + DRAWS))


def holm(p_values: Sequence[float]) -> list[float]:
    """What each p-value is worth when all of them were looked at: the chance of even one false alarm is bounded.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * np.asarray(p_values)[order]), 1.0)
    return [float(p) for p in adjusted]


def _expected(table: Counts) -> Floats:
    return np.asarray(np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum(), dtype=np.float64)


def _chi_squared(table: Counts) -> float:
    expected = _expected(table)
    return float(((table - expected) ** 2 / expected).sum())


def _noncentrality(statistic: float, degrees: int, p: float) -> float:
    """The noncentrality under which a statistic so small has probability p; 0 when none is small enough."""
    if chi2.cdf(statistic, degrees) <= p:
        return 0.0
    top = 2 * statistic + 10 * degrees + 100
    return float(brentq(lambda nc: ncx2.cdf(statistic, degrees, nc) - p, 0, top))
