"""What is measured of a detector, and the bar it is held to."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from benchmarks.drift.drift_traffic import SHIFTS, InjectedShift
from scoring.arrays import Floats

MAX_FALSE_ALERTS = 0.5  # of 20 features in 30 days
MIN_MONTHS = 10


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """Alerts without drift."""

    habit: str
    detector: str
    alerts: int
    months: float  # watched, of a system of 20 features
    busy: float = 0.0  # share of the time in which it says that something is wrong

    @property
    def rate(self) -> float:
        """Alerts of one system in 30 days."""
        return self.alerts / self.months

    @property
    def upper(self) -> float:
        """What the rate is below with 95 % confidence, alerts being Poisson."""
        return float(chi2.ppf(0.95, 2 * self.alerts + 2) / 2 / self.months)


@dataclass(frozen=True, kw_only=True)
class Awake:
    """Delay after a shift, in shifted events."""

    shift: str
    detector: str
    median: float  # infinite when most never alarm
    ninth: float  # what nine in ten stay below

    @classmethod
    def of(cls, detector: str, shift: InjectedShift, delays: Floats) -> "Awake":
        """From single delays, infinite where there was no alarm."""
        median, ninth = (float(np.sort(delays)[math.ceil(q * len(delays)) - 1]) for q in (0.5, 0.9))
        return cls(shift=shift.name, detector=detector, median=median, ninth=ninth)


def failures(quiet: list[Quiet], awake: list[Awake]) -> list[str]:
    """Which bars a detector misses, in words; empty when it clears them all."""
    bars = {s.name: s.bar for s in SHIFTS}
    loud = [
        f"{q.detector}, {q.habit}: {q.rate:,.2f} false alerts in 30 days, at most {MAX_FALSE_ALERTS} wanted"
        for q in quiet
        if not q.rate <= MAX_FALSE_ALERTS
    ]
    slow = [
        f"{a.detector}, {a.shift}: median delay {a.median:,.0f} events, at most {bars[a.shift]:,} wanted"
        for a in awake
        if not a.median <= bars[a.shift]
    ]
    return loud + slow


def too_short(quiet: list[Quiet]) -> list[str]:
    """Where too little was watched to call it quiet."""
    return [f"{q.habit}: {q.months:g} months, at least {MIN_MONTHS} wanted" for q in quiet if q.months < MIN_MONTHS]
