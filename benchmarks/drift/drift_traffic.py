"""Seeded traffic for the drift benchmark: panes of counts, drawn from the detector's bins.

Every input is standard normal, 1 % missing; a minute brings Poisson(60) events. A histogram of independent events is
multinomial with the bins' true shares, so panes are drawn as such and a month takes seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from monitoring.counting.bins import FeatureBins, number_bins
from monitoring.drift.baseline import Baseline, estimate_baseline
from scoring.arrays import Floats, Ints

EVENTS_A_MINUTE = 60
MISSING = 0.01
REFERENCE_DAYS = 28
REFERENCE_ROWS = 100_000  # values that the bin edges are computed from
DAY = 1440


@dataclass(frozen=True, kw_only=True)
class TrafficPattern:
    """Normal traffic without drift."""

    name: str
    clump: int = 1  # number of equal events at once: the dispersion phi
    night: float = 0.0  # mean shift by day, and its opposite by night, in sigma
    wobble: float = 0.0  # standard deviation of each day's own mean shift, in sigma


@dataclass(frozen=True, kw_only=True)
class InjectedShift:
    """An injected shift of the distribution."""

    name: str
    mean: float = 0.0  # in sigma
    outliers: float = 0.0  # share of events that move to 4 sigma
    missing: float = MISSING
    bar: int = 0  # median delay in events


HABITS = (
    TrafficPattern(name="iid"),
    TrafficPattern(name="clustered, φ = 3", clump=3),
    TrafficPattern(name="day/night ±.2σ", night=0.2),
    TrafficPattern(name="daily wobble .05σ", wobble=0.05),
)
SHIFTS = (
    InjectedShift(name="mean .25σ", mean=0.25, bar=2_000),
    InjectedShift(name="mean .5σ", mean=0.5, bar=500),
    InjectedShift(name="mean 1σ", mean=1.0, bar=250),
    InjectedShift(name="5 % of events at 4σ", outliers=0.05, bar=500),
    InjectedShift(name="missing 1 → 10 %", missing=0.1, bar=400),
)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Independent inputs, each with bins from its own reference."""

    features: tuple[FeatureBins, ...]
    grain: str  # "bins" or "codes"

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int, grain: str = "bins") -> "Inputs":
        """Draw references of n inputs and compute their bins."""
        return cls(tuple(number_bins(f"x{i}", _values(rng)) for i in range(n)), grain)

    @property
    def width(self) -> int:
        """Maximum number of bins, or codes, of any input."""
        return max(f.n_bins if self.grain == "bins" else len(f.reference) for f in self.features)

    def shares(self, mean: Floats, shift: InjectedShift | None = None) -> Floats:
        """True share of each bin, shape (n_inputs, width). mean: of each input, shape (n_inputs,)."""
        found = np.zeros((len(self.features), self.width))
        outliers, missing = (shift.outliers, shift.missing) if shift else (0.0, MISSING)
        for i, f in enumerate(self.features):
            edges = np.concatenate([[-np.inf], f.edges, [np.inf]])
            usual, far = np.diff(norm.cdf(edges - mean[i])), np.diff(norm.cdf(edges - 4.0, scale=0.1))
            codes = np.append((1 - missing) * ((1 - outliers) * usual + outliers * far), missing)
            kept = codes if self.grain == "codes" else np.bincount(f.bin_of_code, codes, f.n_bins)
            found[i, : len(kept)] = kept
        return found / found.sum(axis=1, keepdims=True)


def panes(rng: np.random.Generator, inputs: Inputs, habit: TrafficPattern, days: int) -> Iterator[tuple[int, Ints]]:
    """Hour since the epoch and its 60 panes, shape (60, n_inputs, width), in order of time from a Monday."""
    n = len(inputs.features)
    for day in range(days):
        own = habit.wobble * rng.normal(size=n)
        by_day, by_night = (inputs.shares(own + side * habit.night) for side in (1, -1))
        for hour in range(24):
            rows = rng.poisson(EVENTS_A_MINUTE / habit.clump, (60, 1))
            shares = by_day if 8 <= hour < 20 else by_night
            yield (4 + day) * 24 + hour, habit.clump * rng.multinomial(rows, shares)


def reference(rng: np.random.Generator, inputs: Inputs, habit: TrafficPattern) -> Baseline:
    """Baseline fitted to four weeks of such traffic."""
    hours, counts = zip(*((hour, found.sum(axis=0)) for hour, found in _hourly(rng, inputs, habit)), strict=True)
    return estimate_baseline(np.stack(counts), np.array(hours))


def shifted_panes(
    rng: np.random.Generator, inputs: Inputs, shift: InjectedShift, before: int, after: int
) -> tuple[Ints, Ints]:
    """Panes of iid traffic that shifts within pane `before`, shape (before + after, n_inputs, width).

    Also the shifted events up to the end of each pane, shape (before + after, n_inputs): each input shifts at a random
    moment within that minute.
    """
    n = len(inputs.features)
    usual, moved = inputs.shares(np.zeros(n)), inputs.shares(np.full(n, shift.mean), shift)
    rows = rng.poisson(EVENTS_A_MINUTE, (before + after, n))
    still = np.where(np.arange(before + after)[:, None] < before, rows, 0)
    still[before] = rng.binomial(rows[before], rng.random(n))
    counts = rng.multinomial(still, usual) + rng.multinomial(rows - still, moved)
    return counts, (rows - still).cumsum(axis=0)


def values(rng: np.random.Generator, shift: InjectedShift | None, n: int) -> Floats:
    """Single values, NaN if missing, for detectors that read event by event."""
    drawn = _values(rng, n, shift.missing if shift else MISSING)
    if shift is None:
        return drawn
    return np.where(rng.random(n) < shift.outliers, rng.normal(4, 0.1, n), drawn + shift.mean)


def stream(rng: np.random.Generator, habit: TrafficPattern, days: float) -> Floats:
    """Single values of one input of such traffic without drift."""
    a_day = EVENTS_A_MINUTE * DAY
    n = round(days * a_day) // habit.clump
    hour = np.arange(n) * habit.clump / a_day * 24 % 24
    side = np.where((hour >= 8) & (hour < 20), habit.night, -habit.night)
    own = rng.normal(0, habit.wobble, int(days) + 1)
    drawn = _values(rng, n) + side + own[np.arange(n) * habit.clump // a_day]
    return np.repeat(drawn, habit.clump)


def _values(rng: np.random.Generator, n: int = REFERENCE_ROWS, missing: float = MISSING) -> Floats:
    return np.where(rng.random(n) < missing, np.nan, rng.normal(size=n))


def _hourly(rng: np.random.Generator, inputs: Inputs, habit: TrafficPattern) -> Iterator[tuple[int, Ints]]:
    yield from panes(rng, inputs, habit, REFERENCE_DAYS)
