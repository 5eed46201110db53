"""Measures of association between two columns, with confidence intervals, tests and Holm's correction.

Intervals are at 95 % and assume independent rows. Where one card holder has many rows, intervals of columns that belong
to the holder (a city, a credit line) are too narrow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, ncx2, norm, pearsonr

from scoring.arrays import Floats, Ints
from training.evaluation.bootstrap import CONFIDENCE

MIN_EXPECTED_COUNT = 5  # per cell, Cochran's rule: below it the chi-squared approximation is poor
N_RANDOM_TABLES = 10_000  # of the permutation test that replaces the approximation
MIN_RELATIVE_RANGE = 1e-12  # a column whose range is a smaller share of its largest value counts as constant


class Strength(NamedTuple):
    """A measure of association, its confidence interval and the p-value under independence."""

    value: float
    low: float
    high: float
    p_value: float


def correlation(a: Floats, b: Floats) -> Strength | None:
    """Pearson's r of two columns with Fisher's z interval, over the rows where both have a value.

    a, b: shape (n,), nan where missing. Returns None when fewer than 4 rows remain or a column is constant.
    Source: Fisher (1921), On the "probable error" of a coefficient of correlation; r and p-value by
    `scipy.stats.pearsonr`.

    >>> correlation(np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 2, 3, 5, 4])).value
    0.9
    """
    known = ~(np.isnan(a) | np.isnan(b))
    x, y = a[known], b[known]
    if len(x) < 4 or any(np.ptp(column) <= MIN_RELATIVE_RANGE * np.abs(column).max() for column in (x, y)):
        return None
    found = pearsonr(x / np.abs(x).max(), y / np.abs(y).max())
    r = float(found.statistic)
    margin = norm.ppf((1 + CONFIDENCE) / 2) / np.sqrt(len(x) - 3)
    # r is 1 for two equal columns; the clip keeps arctanh finite.
    low, high = np.tanh(np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15)) + np.array([-margin, margin]))
    return Strength(round(r, 12), float(low), float(high), float(found.pvalue))


def cramers_v(table: Ints) -> Strength | None:
    """Bias-corrected Cramér's V of a contingency table: 0 for independence, 1 when one column determines the other.

    table: counts, shape (r, c). The interval inverts the noncentral chi-squared distribution; its lower bound is 0
    where the table does not differ significantly from independence.
    Returns None when fewer than two rows or columns have counts.
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
    return Strength(min(float(value), 1.0), min(float(low), 1.0), min(float(high), 1.0), independence_p_value(table))


def independence_p_value(table: Ints, seed: int = 0) -> float:
    """The p-value of Pearson's chi-squared test of independence.

    table: counts, shape (r, c), every row and column sum positive. When a cell's expected count is below
    `MIN_EXPECTED_COUNT` and one side has two levels, the p-value comes from `N_RANDOM_TABLES` random tables with the
    same row and column sums.
    Raises ValueError when a side has fewer than two levels.

    >>> table = np.array([[30, 70], [50, 50]])
    >>> round(independence_p_value(table), 4), independence_p_value(np.array([[1, 3], [2, 3]])) > 0.5
    (0.0039, True)
    """
    if min(table.shape) < 2:
        raise ValueError(f"table has shape {table.shape}; a test of independence needs at least (2, 2)")
    statistic = _chi_squared(table)
    if _expected(table).min() >= MIN_EXPECTED_COUNT or min(table.shape) > 2:
        return float(chi2.sf(statistic, (table.shape[0] - 1) * (table.shape[1] - 1)))
    two = table if table.shape[1] == 2 else table.T
    levels, hits = two.sum(axis=1), int(two[:, 1].sum())
    rng = np.random.default_rng(seed)
    random_hits = rng.multivariate_hypergeometric(levels, hits, size=N_RANDOM_TABLES, method="marginals")
    expected = levels * hits / levels.sum()
    # With fixed margins, the squares of a row's two cells are proportional: one column is enough to order the tables.
    random, observed = (((h - expected) ** 2 / expected).sum(axis=-1) for h in (random_hits, two[:, 1]))
    return float((1 + np.sum(random >= observed * (1 - 1e-9))) / (1 + N_RANDOM_TABLES))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple tests, so that the chance of one or more false positives stays bounded.

    Returns the adjusted p-values in the given order.
    Source: Holm (1979), A simple sequentially rejective multiple test procedure.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * np.asarray(p_values)[order]), 1.0)
    return [float(p) for p in adjusted]


def _expected(table: Ints) -> Floats:
    return np.asarray(np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum(), dtype=np.float64)


def _chi_squared(table: Ints) -> float:
    expected = _expected(table)
    return float(((table - expected) ** 2 / expected).sum())


def _noncentrality(statistic: float, degrees: int, p: float) -> float:
    """The noncentrality at which the distribution function at `statistic` equals p; 0 when there is none."""
    if chi2.cdf(statistic, degrees) <= p:
        return 0.0
    top = 2 * statistic + 10 * degrees + 100
    return float(brentq(lambda nc: ncx2.cdf(statistic, degrees, nc) - p, 0, top))
