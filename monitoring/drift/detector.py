"""Drift detector: two layers over the same panes, both with a bounded rate of false alarms.

1. One e-CUSUM per feature, which detects a sudden change within minutes: an e-detector (Shin, Ramdas & Rinaldo 2024,
   E-detectors: a Nonparametric Framework for Sequential Change Detection). In each pane it bets that the distribution
   is that of *past* panes rather than that of the reference. The bet is fixed before the pane is seen, so a large gain
   by chance is rare.
2. Sliding windows, which detect a slow change: they alarm only if the lower confidence bound of PSI exceeds the
   tolerance.
"""

import math
from dataclasses import dataclass

import numpy as np

from monitoring.counting.bins import FrozenBins
from monitoring.drift.baseline import Baseline
from monitoring.statistics.divergence import jensen_shannon, kullback_leibler
from monitoring.statistics.ks import ks_p_value, ks_statistic
from monitoring.statistics.psi import (
    MIN_EFFECTIVE_ROWS,
    classic_psi,
    degrees_of_freedom,
    effective_rows,
    population_stability_index,
    psi_exceeds,
    psi_lower_bound,
)
from scoring.arrays import Flags, Floats, Ints


@dataclass(frozen=True, kw_only=True)
class DetectorPolicy:
    """False-alarm budget and parameters of both layers. The benchmarks use the defaults."""

    half_lives: tuple[float, ...] = (
        300.0,
        2_000.0,
        15_000.0,
    )  # half-life of the weight of past panes, in events: for sharp, medium and slow changes
    pseudo_rows: float = 100.0  # weight of the reference against past panes, in rows
    budget: float = 0.1  # expected false alarms over the horizon, for each of the two layers
    horizon_panes: int = 43_200  # 30 days of minutes
    window_tolerance: float = 0.02  # minimum tolerance of PSI, delta_0
    windows: int = 5

    def log_threshold(self, n_features: int) -> float:
        """Threshold of ln M at which a feature alarms.

        >>> round(DetectorPolicy().log_threshold(20), 2)
        15.97
        """
        return math.log(self.horizon_panes * n_features / self.budget)

    def alpha(self, n_features: int) -> float:
        """Error of each confidence bound."""
        return self.budget / (n_features * self.windows * self.horizon_panes)

    def tolerances(self, baseline: Baseline) -> Floats:
        """Tolerated PSI of a window, shape (n_features,): twice the tolerated KL, because PSI is about twice KL."""
        return np.maximum(self.window_tolerance, 2 * baseline.tolerance)


class ECusum:
    """First layer: a fold over panes. Uses no clock."""

    def __init__(self, baseline: Baseline, policy: DetectorPolicy, n_features: int | None = None) -> None:
        """n_features: number of features that share the budget; None: all features of the baseline."""
        shape = (len(policy.half_lives), *baseline.shares.shape[1:])
        self._baseline = baseline
        self._prior = policy.pseudo_rows * baseline.dispersion[:, None]
        self._fading = -np.log(2) / np.array(policy.half_lives)[:, None]
        self._threshold = policy.log_threshold(n_features or shape[1])
        # Weighted sums over past panes: observed and expected counts. The expectation differs by hour of the week.
        self.seen = np.zeros(shape)
        self.expected = np.zeros(shape)
        self.log_evidence = np.zeros(shape[:2])  # ln M of each half-life

    def update(self, counts: Ints, hour_of_week: int) -> Flags:
        """Add one closed pane; returns which features alarm, shape (n_features,). An alarm resets its feature.

        counts: shape (n_features, n_bins); each pane once, in order of time.
        """
        p = self._baseline.shares[hour_of_week]
        prior = self._prior * p
        bet = p * (self.seen + prior) / np.where(prior > 0, self.expected + prior, 1.0)
        bet /= bet.sum(axis=-1, keepdims=True)
        ratio = np.log(np.where(p > 0, bet / np.where(p > 0, p, 1.0), 1.0))
        n = counts.sum(axis=-1)
        gain = ((counts * ratio).sum(axis=-1) - n * self._baseline.tolerance) / self._baseline.dispersion
        self.log_evidence = np.maximum(self.log_evidence, 0.0) + gain
        kept = np.exp(self._fading * n)[..., None]
        self.seen = self.seen * kept + counts
        self.expected = self.expected * kept + n[:, None] * p
        alarms = np.asarray(self.log_e_value() >= self._threshold)
        self.log_evidence[:, alarms] = 0.0
        return alarms

    def log_e_value(self) -> Floats:
        """ln of the mean of M over the half-lives, shape (n_features,)."""
        top = self.log_evidence.max(axis=0)
        return np.asarray(top + np.log(np.exp(self.log_evidence - top).mean(axis=0)))


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowStatistics:
    """Statistics of the sliding windows; each array has shape (n_windows, n_features)."""

    rows: Ints
    psi: Floats
    psi_corrected: Floats
    psi_decile: Floats  # classic PSI over deciles, for comparison with other tools
    psi_lower_bound: Floats
    kl: Floats
    js: Floats
    ks: Floats  # NaN for categories, which have no order
    ks_p_value: Floats
    enough_rows: Flags  # whether the window has enough rows for a meaningful PSI
    exceeds: Flags  # whether the lower bound exceeds the tolerance: an alarm


def window_alarms(
    counts: Ints,
    expected: Floats,
    baseline: Baseline,
    policy: DetectorPolicy,
    n_features: int | None = None,
) -> Flags:
    """Whether the lower bound of each window exceeds the tolerance, shape (n_windows, n_features).

    Faster than `window_statistics`, because it computes nothing else.
    counts, expected: shape (n_windows, n_features, n_bins). n_features: as for `ECusum`.
    """
    found = np.zeros(counts.shape[:-1], dtype=bool)
    rows = counts.sum(axis=-1)
    enough = rows / baseline.dispersion >= MIN_EFFECTIVE_ROWS
    if not enough.any():
        return found
    feature = np.nonzero(enough)[1]
    seen = counts[enough]
    reference = _reference_counts(expected[enough], baseline.rows[feature])
    psi = population_stability_index(reference, seen)
    found[enough] = psi_exceeds(
        psi,
        degrees_of_freedom(reference, seen),
        effective_rows(reference, seen, dispersion=baseline.dispersion[feature]),
        policy.alpha(n_features or counts.shape[1]),
        policy.tolerances(baseline)[feature],
    )
    return found


def window_statistics(
    bins: FrozenBins,
    counts: Ints,
    rows_by_hour: Ints,
    baseline: Baseline,
    policy: DetectorPolicy,
) -> WindowStatistics:
    """All statistics of the windows, for a report.

    counts: by code, shape (n_windows, n_codes); rows_by_hour: rows by hour of the week, shape (n_windows, 168).
    A window or feature without rows has NaN statistics and does not alarm.
    """
    binned = bins.counts_by_bin(counts)
    rows = binned.sum(axis=-1)
    some = rows > 0
    dispersion = np.broadcast_to(baseline.dispersion, rows.shape)
    expected = baseline.expected_counts(rows_by_hour)
    # Without rows, the expected counts replace the observed ones to avoid division by zero; NaN replaces them below.
    seen = np.where(some[..., None], binned, expected + (expected.sum(axis=-1, keepdims=True) == 0))
    reference = _reference_counts(np.where(expected.sum(-1, keepdims=True) > 0, expected, 1.0), baseline.rows)
    psi = population_stability_index(reference, seen)
    degrees = degrees_of_freedom(reference, seen)
    worth = effective_rows(reference, seen, dispersion=dispersion)
    enough_rows = rows / dispersion >= MIN_EFFECTIVE_ROWS
    bound = psi_lower_bound(psi, degrees, worth, policy.alpha(rows.shape[1]))
    ks, ks_p = _ks(bins, counts, baseline)

    def of_some(values: Floats) -> Floats:
        return np.where(some, values, np.nan)

    return WindowStatistics(
        rows=rows,
        psi=of_some(psi),
        psi_corrected=of_some(psi - degrees / worth),
        psi_decile=_decile_psi(bins, counts),
        psi_lower_bound=of_some(bound),
        kl=of_some(kullback_leibler(reference, seen)),
        js=of_some(jensen_shannon(reference, seen)),
        ks=ks,
        ks_p_value=ks_p,
        enough_rows=enough_rows,
        exceeds=enough_rows & some & (bound > policy.tolerances(baseline)),
    )


def lower_bounds_without_share(
    counts: Ints,
    expected: Floats,
    shares: Floats,
    baseline: Baseline,
    policy: DetectorPolicy,
) -> Floats:
    """Lower bounds of PSI without the rows of few cards, shape (n_windows, n_features); NaN for a window without rows.

    counts, expected: shape (n_windows, n_features, n_bins); shares: share of each window's rows that few cards sent,
    shape (n_windows,). The bins of these rows are unknown. They are removed from the bins with the largest excess over
    the expectation, so that these cards cannot cause a bound above the tolerance.
    """
    rows = counts.sum(axis=-1, keepdims=True).astype(np.float64)
    some = (rows > 0) & (expected.sum(axis=-1, keepdims=True) > 0)
    reference = np.where(some, expected, 1.0)
    reference = reference / reference.sum(axis=-1, keepdims=True)
    kept_rows = rows * (1 - shares[:, None, None])
    # The remaining counts are min(counts, level * reference), with the level at which they sum to `kept_rows`.
    low, high = np.zeros(rows.shape), np.max(counts / np.where(reference > 0, reference, 1.0), axis=-1, keepdims=True)
    for _ in range(50):
        level = (low + high) / 2
        enough = np.where(reference > 0, np.minimum(counts, level * reference), 0).sum(axis=-1, keepdims=True)
        low, high = np.where(enough < kept_rows, level, low), np.where(enough < kept_rows, high, level)
    left = np.where(some, np.minimum(counts, high * reference), reference)
    whole = _reference_counts(reference, baseline.rows)
    dispersion = np.broadcast_to(baseline.dispersion, left.shape[:-1])
    bound = psi_lower_bound(
        population_stability_index(whole, left),
        degrees_of_freedom(whole, left),
        effective_rows(whole, left, dispersion=dispersion),
        policy.alpha(counts.shape[1]),
    )
    return np.where(some[..., 0], bound, np.nan)


def _reference_counts(expected: Floats, rows: Floats) -> Floats:
    """Expected shares, scaled to counts of a reference with `rows` events."""
    return np.asarray(expected / expected.sum(axis=-1, keepdims=True) * rows[..., None])


def _decile_psi(bins: FrozenBins, counts: Ints) -> Floats:
    current, reference = bins.counts_by_decile(counts), bins.counts_by_decile(bins.reference_codes)
    some = current.sum(axis=-1, keepdims=True) > 0
    psi = classic_psi(np.where(reference.sum(axis=-1, keepdims=True) > 0, reference, 1), np.where(some, current, 1))
    return np.where(some[..., 0], psi, np.nan)


def _ks(bins: FrozenBins, counts: Ints, baseline: Baseline) -> tuple[Floats, Floats]:
    """KS statistic and its p-value against the whole reference, without missing values."""
    statistic = np.full((len(counts), len(bins.features)), np.nan)
    p_value = statistic.copy()
    for i, feature in enumerate(bins.features):
        reference = feature.reference[:-1]
        current = counts[:, bins.offsets[i] : bins.offsets[i + 1] - 1]
        some = current.sum(axis=-1) > 0
        if feature.kind == "number" and reference.any() and some.any():
            statistic[some, i] = ks_statistic(reference, current[some])
            worth = effective_rows(reference, current[some], dispersion=baseline.dispersion[i])
            p_value[some, i] = ks_p_value(statistic[some, i], worth)
    return statistic, p_value
