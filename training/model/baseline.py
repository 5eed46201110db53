"""Fits a model's drift baseline: the reference distribution and normal variation that live traffic is compared with."""

import numpy as np
import xgboost as xgb

from monitoring.counting.bins import NOT_COUNTED, FrozenBins
from monitoring.counting.counted_features import counted_bins, encode_dead_letters, encode_transactions
from monitoring.counting.reference_profile import ALERT, SCORE
from monitoring.drift.baseline import estimate_baseline
from monitoring.drift.reference import DriftReference
from schemas.time_units import HOUR_MS
from scoring.arrays import Columns, Flags, Floats, Indices, Ints, Matrix
from scoring.bundle.manifest import Manifest
from scoring.decision import outcome_codes

HOURS_PER_CHUNK = 200  # limits memory: each hour has a histogram of fine codes


def fit_baseline(
    manifest: Manifest,
    booster: xgb.Booster,
    columns: Columns,
    matrix: Matrix,
    scores: Floats,
    event_times_ms: Ints,
    held_out: Flags,
    rejected: int,
) -> DriftReference:
    """Fit the baseline to a history.

    columns: cleaned, each of shape (n,), in order of event time; matrix: the same rows featurized, shape
    (n, n_features); scores, event_times_ms and held_out: shape (n,). held_out: rows that the trees were not fitted to;
    only these count for score and alert, because scores of training rows are too good. rejected: number of rows that
    could not be scored; their times are unknown, so they are spread evenly.
    """
    bins = counted_bins(manifest)
    outcomes = outcome_codes(scores, manifest.points)
    codes = encode_transactions(bins, manifest, columns, matrix, scores, outcomes)
    for name in (SCORE, ALERT):
        codes[~held_out, bins.names.index(name)] = NOT_COUNTED
    places = np.linspace(0, len(codes) - 1, rejected).astype(np.intp)
    codes = np.concatenate([codes, encode_dead_letters(bins, rejected)])
    hours, groups = np.unique(np.append(event_times_ms, event_times_ms[places]) // HOUR_MS, return_inverse=True)
    return DriftReference(
        bins=bins,
        baseline=estimate_baseline(_hourly(bins, codes, groups, len(hours)), hours, bins.bin_mask),
        importance=_importance(booster, bins),
        correlation=_correlation(manifest, bins, matrix[held_out], scores[held_out], outcomes[held_out]),
    )


def _hourly(bins: FrozenBins, codes: Indices, groups: Indices, n_hours: int) -> Ints:
    found = np.zeros((n_hours, len(bins.names), bins.n_bins), dtype=np.int64)
    for start in range(0, n_hours, HOURS_PER_CHUNK):
        stop = min(n_hours, start + HOURS_PER_CHUNK)
        mine = (groups >= start) & (groups < stop)
        found[start:stop] = bins.counts_by_bin(bins.count(codes[mine], groups[mine] - start, stop - start))
    return found


def _importance(booster: xgb.Booster, bins: FrozenBins) -> Floats:
    gain = booster.get_score(importance_type="total_gain")
    total = sum(gain.values()) or 1.0
    return np.array([gain.get(name, 0.0) / total for name in bins.names])


def _correlation(manifest: Manifest, bins: FrozenBins, matrix: Matrix, scores: Floats, outcomes: Indices) -> Floats:
    """Pearson correlations of numbers, score and alert; nan for categories (codes have no order) and constants."""
    columns = np.full((len(bins.names), len(matrix)), np.nan)
    for j, f in enumerate(manifest.features):
        if f.kind != "category":
            columns[j] = matrix[:, j]
    columns[bins.names.index(SCORE)] = scores
    columns[bins.names.index(ALERT)] = outcomes > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.corrcoef(columns))
