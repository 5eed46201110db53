"""The drift detector of Tamiz, and two controls that must fail the benchmark."""

from typing import Protocol

import numpy as np

from monitoring.drift.baseline import Baseline, hour_of_week
from monitoring.drift.detector import DetectorPolicy, ECusum, window_alarms
from scoring.arrays import Flags, Ints

FEATURES = 20  # of one system, over which budgets are shared
WINDOW_MINUTES = (15, 60, 360, 1440, 10_080)


class BenchmarkMonitor(Protocol):
    """Reads panes in order and returns which inputs alarm; supports many systems of 20 inputs in parallel."""

    def step(self, counts: Ints, hour: int) -> Flags: ...


class Tamiz:
    """Both layers, evaluated every minute. Keeps sums of the windows as the rings do in production."""

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self._policy = DetectorPolicy()
        self._cusum = ECusum(baseline, self._policy, FEATURES)
        shape = baseline.shares.shape[1:]
        self._past = np.zeros((max(WINDOW_MINUTES), *shape), dtype=np.uint8)
        self._hours = np.zeros(max(WINDOW_MINUTES), dtype=np.int64)
        self._counts = np.zeros((len(WINDOW_MINUTES), *shape), dtype=np.int64)
        self._expected = np.zeros(self._counts.shape)
        self._rows = np.zeros((len(WINDOW_MINUTES), 168), dtype=np.int64)
        self._minute = 0

    def step(self, counts: Ints, hour: int) -> Flags:
        week = int(hour_of_week(hour))
        alarms = self._cusum.update(counts, week)
        self._slide(counts, week)
        return alarms | window_alarms(self._counts, self._expected, self._baseline, self._policy, FEATURES).any(axis=0)

    def _slide(self, counts: Ints, week: int) -> None:
        size = len(self._past)
        shares = self._baseline.shares
        for w, minutes in enumerate(WINDOW_MINUTES):
            if self._minute >= minutes:
                place = (self._minute - minutes) % size
                gone, then = self._past[place], int(self._hours[place])
                self._counts[w] -= gone
                self._rows[w, then] -= int(gone[0].sum())
                self._expected[w] -= gone.sum(axis=-1, keepdims=True) * shares[then]
        self._counts += counts
        self._expected += counts.sum(axis=-1, keepdims=True) * shares[week]
        self._rows[:, week] += int(counts[0].sum())
        assert counts.max() < 256, "a pane's bin does not fit into a byte"
        self._past[self._minute % size] = counts
        self._hours[self._minute % size] = week
        self._minute += 1
        if self._minute % 1440 == 0:  # corrects the rounding errors of adding and subtracting floats
            self._expected = self._baseline.expected_counts(self._rows)


class AlwaysFire:
    """Control: must fail the bar on traffic without drift."""

    def step(self, counts: Ints, hour: int) -> Flags:
        return np.ones(len(counts), dtype=bool)


class NeverFire:
    """Control: must fail the bar on every shift."""

    def step(self, counts: Ints, hour: int) -> Flags:
        return np.zeros(len(counts), dtype=bool)
