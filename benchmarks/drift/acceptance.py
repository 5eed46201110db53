"""Metrics of a drift detector and their acceptance bars."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from benchmarks.drift.drift_traffic import SHIFTS, InjectedShift
from scoring.arrays import Floats

MAX_FALSE_ALERTS = 0.5  # of 20 features in 30 days
MIN_MONTHS = 10


@dataclass(frozen=True, kw_only=True)
class FalseAlarmResult:
    """Result without drift."""

    habit: str
    detector: str
    alerts: int
    months: float  # observed, of a system of 20 features
    busy: float = 0.0  # share of the time in which it alarms

    @property
    def rate(self) -> float:
        """Alerts per system in 30 days."""
        return self.alerts / self.months

    @property
    def upper(self) -> float:
        """Upper bound of the rate with 95 % confidence, for Poisson alerts."""
        return float(chi2.ppf(0.95, 2 * self.alerts + 2) / 2 / self.months)


@dataclass(frozen=True, kw_only=True)
class DelayResult:
    """Delay of detection after a shift, in shifted events."""

    shift: str
    detector: str
    median: float  # infinite if most inputs never alarm
    ninth: float  # 90 % quantile

    @classmethod
    def of(cls, detector: str, shift: InjectedShift, delays: Floats) -> "DelayResult":
        """Aggregate delays; infinite without alarm."""
        median, ninth = (float(np.sort(delays)[math.ceil(q * len(delays)) - 1]) for q in (0.5, 0.9))
        return cls(shift=shift.name, detector=detector, median=median, ninth=ninth)


def failures(quiet: list[FalseAlarmResult], awake: list[DelayResult]) -> list[str]:
    """Bars that a detector misses, one line each."""
    bars = {s.name: s.bar for s in SHIFTS}
    loud = [
        f"{q.detector}, {q.habit}: {q.rate:,.2f} false alerts in 30 days, expected at most {MAX_FALSE_ALERTS}"
        for q in quiet
        if not q.rate <= MAX_FALSE_ALERTS
    ]
    slow = [
        f"{a.detector}, {a.shift}: median delay {a.median:,.0f} events, expected at most {bars[a.shift]:,}"
        for a in awake
        if not a.median <= bars[a.shift]
    ]
    return loud + slow


def too_short(quiet: list[FalseAlarmResult]) -> list[str]:
    """Traffic that was observed too briefly, one line each."""
    return [f"{q.habit}: {q.months:g} months, expected at least {MIN_MONTHS}" for q in quiet if q.months < MIN_MONTHS]
