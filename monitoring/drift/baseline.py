"""Baseline: normal variation of the traffic, fitted in training on the reference.

Contains the distribution of each feature per hour of the week, the dispersion of clustered events, and the normal
difference between days. Without it, a detector reports drift every night. Shares per hour of the week are shrunk
towards those per hour of the day, and these towards the whole reference, if there is little evidence.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoring.arrays import Array, Flags, Floats, Ints

HOURS_OF_WEEK = 168
MIN_TOLERANCE = 0.005  # nats per event; a smaller difference is never drift
DAYS_FACTOR = 23.0  # chi-squared with one degree exceeds 23 times its mean once in 600,000 days
REFERENCE_FACTOR = 3.0  # allows for the sampling error of the reference
MIN_REPEATS = 30  # hours beyond the first of each kind that are needed to estimate the mean of the kind


@dataclass(frozen=True, eq=False, kw_only=True)
class Baseline:
    """The baseline in the form that the detector uses."""

    # Expected share of each bin by hour of the week, Monday 0 h UTC first; shape (168, n_features, n_bins).
    shares: Floats
    rows: Floats  # shape (n_features,): number of events whose sampling error equals that of an hour's shares
    dispersion: Floats  # shape (n_features,), phi: 1 for independent events, k for groups of k equal events
    tolerance: Floats  # shape (n_features,), delta: normal difference of a day from the baseline, in nats per event

    def expected_counts(self, rows_by_hour: Ints) -> Floats:
        """Expected counts per bin, shape (..., n_features, n_bins).

        rows_by_hour: rows of each window by hour of the week, shape (..., 168).
        """
        flat = rows_by_hour.astype(np.float64) @ self.shares.reshape(HOURS_OF_WEEK, -1)
        return np.asarray(flat.reshape(*rows_by_hour.shape[:-1], *self.shares.shape[1:]))


def hour_of_week(hours: npt.ArrayLike) -> Ints:
    """Hour of the week, from 0 (Monday 0 h UTC) to 167. hours: since the epoch, which was a Thursday.

    >>> hour_of_week([0, 4 * 24]).tolist()
    [72, 0]
    """
    return (np.asarray(hours, dtype=np.int64) + 72) % HOURS_OF_WEEK


def estimate_baseline(counts: Ints, hours: Ints, occupied: Flags | None = None) -> Baseline:
    """Fit the baseline to hourly counts of the reference.

    counts: shape (n_hours, n_features, n_bins), padded with zeros; hours: since the epoch, shape (n_hours,), distinct.
    occupied: mask of the elements that are bins, shape (n_features, n_bins); None: all.
    Raises ValueError when a feature has no counts.
    """
    total = counts.sum(axis=0)
    if not (total.sum(axis=-1) > 0).all():
        raise ValueError("a feature without a single event in the reference has no shares")
    bins = np.maximum((total > 0).sum(axis=-1), 2)
    week = hour_of_week(hours)
    dispersion = np.maximum(1.0, _dispersion(counts, (week, week % 24, np.zeros_like(week)), bins))
    # A bin that is empty in the reference needs a share above zero, or its first event would have infinite evidence.
    padded = total + (0.5 if occupied is None else 0.5 * occupied)
    whole = padded / padded.sum(axis=-1, keepdims=True)
    by_day_hour, day_noise = _shrunk(counts, week % 24, 24, whole[None], 1 / total.sum(axis=-1), dispersion, bins)
    parents, noise = np.tile(by_day_hour, (7, 1, 1)), np.tile(day_noise, (7, 1))
    shares, noise = _shrunk(counts, week, HOURS_OF_WEEK, parents, noise, dispersion, bins)
    rows = 1 / noise.mean(axis=0)
    between = _between_days(counts, hours, shares[week], dispersion, bins)
    reference = REFERENCE_FACTOR * dispersion * (bins - 1) / rows
    tolerance = np.maximum.reduce([np.full(len(rows), MIN_TOLERANCE), DAYS_FACTOR * between, reference])
    return Baseline(shares=shares, rows=rows, dispersion=dispersion, tolerance=tolerance)


def pearson(counts: Ints, shares: Floats) -> Floats:
    """Pearson's chi-squared statistic of counts against shares, over the last axis; bins with share 0 are ignored."""
    expected = counts.sum(axis=-1, keepdims=True) * shares
    return np.asarray(np.where(expected > 0, (counts - expected) ** 2 / np.where(expected > 0, expected, 1), 0).sum(-1))


def _dispersion(counts: Ints, kinds: tuple[Ints, ...], bins: Ints) -> Floats:
    """Dispersion phi: variance between hours of one kind, relative to independent events.

    Uses the finest kind of hours with enough repeats.
    Source: McCullagh & Nelder (1989), Generalized Linear Models, 4.5: X squared over its degrees of freedom.
    """
    filled = counts.sum(axis=-1) > 0
    for kind in kinds:
        groups = int(kind.max()) + 1
        repeats = filled.sum(axis=0) - (_summed(filled, kind, groups) > 0).sum(axis=0)
        if (repeats >= MIN_REPEATS).all() or kind is kinds[-1]:
            sums = _summed(counts, kind, groups)
            own = sums / np.maximum(sums.sum(axis=-1, keepdims=True), 1)
            return np.asarray(pearson(counts, own[kind]).sum(axis=0) / (np.maximum(repeats, 1) * (bins - 1)))
    raise AssertionError("the last kind is always used")


def _shrunk(
    counts: Ints,
    kind: Ints,
    groups: int,
    parents: Floats,
    parents_noise: Floats,
    dispersion: Floats,
    bins: Ints,
) -> tuple[Floats, Floats]:
    """Shares per kind of hour, shrunk towards their parents', and the inverse of their weight in events.

    Empirical Bayes by moments: X squared of a kind over its degrees is phi + n s, s being the true relative variance,
    so the parent has the weight of phi / s events.
    Source: Efron & Morris (1973), Stein's Estimation Rule and Its Competitors.
    """
    sums = _summed(counts, kind, groups)
    n = sums.sum(axis=-1)
    seen = np.maximum((n > 0).sum(axis=0), 1)
    ratio = pearson(sums, np.broadcast_to(parents, sums.shape)) / (bins - 1)
    chance = dispersion * seen * (1 + 2 * np.sqrt(2 / (seen * (bins - 1))))  # two standard errors above its mean
    variance = np.maximum(ratio.sum(axis=0) - chance, 0) / n.sum(axis=0)
    with np.errstate(divide="ignore"):
        own = n / (n + dispersion / variance)  # weight of the kind's own shares; 0 if there is no variance
    mean = sums / np.maximum(n, 1)[..., None]
    noise = own**2 / np.maximum(n, 1) + (1 - own) ** 2 * parents_noise
    return own[..., None] * mean + (1 - own[..., None]) * parents, noise


def _between_days(
    counts: Ints,
    hours: Ints,
    shares: Floats,
    dispersion: Floats,
    bins: Ints,
) -> Floats:
    """Mean KL of the days from the shares expected for their hours, minus its value by chance; nats per event."""
    days, place = np.unique(hours // 24, return_inverse=True)
    seen = _summed(counts, place, len(days))
    expected = _summed(counts.sum(axis=-1, keepdims=True) * shares, place, len(days))
    n = seen.sum(axis=-1)
    ratio = np.where((seen > 0) & (expected > 0), seen / np.where(expected > 0, expected, 1.0), 1.0)
    divergence = (seen * np.log(np.where(ratio > 0, ratio, 1.0))).sum(axis=-1) / np.maximum(n, 1)
    chance = dispersion * (bins - 1) / (2 * np.maximum(n, 1))
    error = np.sqrt((2 / (bins - 1)) * (chance**2).sum(axis=0)) / len(days)
    return np.asarray(np.maximum((divergence - chance).mean(axis=0) - 2 * error, 0.0))


def _summed(values: Array, kind: Ints, groups: int) -> Array:
    sums = np.zeros((groups, *values.shape[1:]), dtype=np.int64 if values.dtype == bool else values.dtype)
    np.add.at(sums, kind, values)
    return sums
