"""The detectors the drift benchmark compares: ours whole, the rules people write first, river's, and two controls."""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN, KSWIN

from benchmarks.drift_traffic import Floats, Ints
from monitoring.calibration import Calibration, hour_of_week
from monitoring.detector import DetectorPolicy, ECusum, window_alarms
from monitoring.statistics.ks import ks_p_value, ks_statistic
from monitoring.statistics.psi import population_stability_index

FEATURES = 20  # of one system, over which budgets are shared
WINDOW_MINUTES = (15, 60, 360, 1440, 10_080)
HOUR = 60

Flags = npt.NDArray[np.bool_]


class Watch(Protocol):
    """Reads panes in order, says which inputs alarm; many systems of 20 inputs may stand side by side."""

    def step(self, counts: Ints, hour: int) -> Flags: ...


class Tamiz:
    """Both layers, evaluated every minute. The windows' sums are kept here as the rings keep them in production."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._policy = DetectorPolicy()
        self._cusum = ECusum(calibration, self._policy, FEATURES)
        shape = calibration.shares.shape[1:]
        self._past = np.zeros((max(WINDOW_MINUTES), *shape), dtype=np.uint8)
        self._hours = np.zeros(max(WINDOW_MINUTES), dtype=np.int64)
        self._counts = np.zeros((len(WINDOW_MINUTES), *shape), dtype=np.int64)
        self._expected = np.zeros(self._counts.shape)
        self._rows = np.zeros((len(WINDOW_MINUTES), 168), dtype=np.int64)
        self._minute = 0

    def step(self, counts: Ints, hour: int) -> Flags:
        week = int(hour_of_week(hour))
        alarms = self._cusum.step(counts, week)
        self._slide(counts, week)
        return alarms | window_alarms(self._counts, self._expected, self._calibration, self._policy, FEATURES).any(
            axis=0
        )

    def _slide(self, counts: Ints, week: int) -> None:
        size = len(self._past)
        shares = self._calibration.shares
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
        if self._minute % 1440 == 0:  # adding and taking away floats leaves dust
            self._expected = self._calibration.expected(self._rows)


class AlwaysFire:
    """Control: must fail the bar on traffic without drift."""

    def step(self, counts: Ints, hour: int) -> Flags:
        return np.ones(len(counts), dtype=bool)


class NeverFire:
    """Control: must fail the bar on every shift."""

    def step(self, counts: Ints, hour: int) -> Flags:
        return np.zeros(len(counts), dtype=bool)


Rule = Callable[[Ints, Ints], Flags]  # reference and window, (n_inputs, width) each -> alarms


def psi_above(reference: Ints, window: Ints) -> Flags:
    """PSI > 0.2, as people write it."""
    return np.asarray(population_stability_index(reference, window) > 0.2)


def ks_below(level: float) -> Rule:
    """KS p-value below a level."""

    def rule(reference: Ints, window: Ints) -> Flags:
        n, m = reference[..., :-1].sum(axis=-1), window[..., :-1].sum(axis=-1)
        return np.asarray(ks_p_value(ks_statistic(reference[..., :-1], window[..., :-1]), n * m / (n + m)) < level)

    return rule


RULES: dict[str, Rule] = {
    "PSI > 0.2, 1 h": psi_above,
    "KS p < .05, 1 h": ks_below(0.05),
    "KS p < .05/20, 1 h": ks_below(0.05 / FEATURES),
    "KS at our threshold, 1 h": ks_below(DetectorPolicy().budget / FEATURES / DetectorPolicy().horizon_panes),
}


def sliding_hours(panes: Ints) -> Iterator[Ints]:
    """The last 60 panes at each minute from the 60th on; panes: shape (n_minutes, n_inputs, width)."""
    total = panes[:HOUR].sum(axis=0)
    yield total
    for minute in range(HOUR, len(panes)):
        total = total + panes[minute] - panes[minute - HOUR]
        yield total


RIVER: dict[str, Callable[[], ADWIN | KSWIN]] = {"river ADWIN": ADWIN, "river KSWIN": lambda: KSWIN(seed=1)}


def river_alarms(detector: ADWIN | KSWIN, values: Floats) -> list[int]:
    """At which values river's detector alarms; missing ones are passed over, as it knows none."""
    found = []
    for i, value in enumerate(values.tolist()):
        if not math.isnan(value):
            detector.update(value)
            if detector.drift_detected:
                found.append(i)
    return found
