"""Baseline detectors for comparison: common rules, and the detectors of river, on the same traffic.

The rules evaluate a one-hour window every minute and alarm each time they become true; alarms before a shift are
ignored. River's detectors read single values of one input, without missing ones; their alarms are scaled to 20 inputs.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from river.drift import ADWIN, KSWIN

from benchmarks.drift.acceptance import DelayResult, FalseAlarmResult
from benchmarks.drift.detectors import FEATURES
from benchmarks.drift.drift_traffic import (
    DAY,
    InjectedShift,
    Inputs,
    TrafficPattern,
    panes,
    shifted_panes,
    stream,
    values,
)
from monitoring.drift.detector import DetectorPolicy
from monitoring.statistics.ks import ks_p_value, ks_statistic
from monitoring.statistics.psi import effective_rows, population_stability_index
from scoring.arrays import Flags, Floats, Ints

HOUR = 60
MONTH_DAYS = 30
RULE_DAYS = 3
SHIFTED_INPUTS = 60
STREAMS = 15
EQUAL_LEVEL = DetectorPolicy().budget / FEATURES / DetectorPolicy().horizon_panes
KS_LEVELS = {"KS p < .05": 0.05, "KS p < .05/20": 0.05 / FEATURES, "KS at our budget": EQUAL_LEVEL}
RULES = ("PSI > 0.2", *KS_LEVELS)


class Detector:
    """A detector of river, with the number of values to run: without drift, before and after a shift."""

    def __init__(self, name: str, make: Callable[[], ADWIN | KSWIN], days: float, calm: int, after: int) -> None:
        self.name, self.make, self.days, self.calm, self.after = name, make, days, calm, after

    def alarms(self, found: Floats) -> list[int]:
        """Indices of the values at which it alarms."""
        detector, rung = self.make(), []
        for i, value in enumerate(found.tolist()):
            if not math.isnan(value):
                detector.update(value)
                if detector.drift_detected:
                    rung.append(i)
        return rung


RIVER = (  # KSWIN runs a test at every value, 200 µs
    Detector("river ADWIN", ADWIN, days=30, calm=20_000, after=40_000),
    Detector("river KSWIN", lambda: KSWIN(seed=1), days=0.25, calm=500, after=1_500),
)


def baseline_false_alarms(seed: int, habit: TrafficPattern) -> list[FalseAlarmResult]:
    """Alarms of all baseline detectors without drift."""
    rng = np.random.default_rng(seed)
    inputs = Inputs.draw(rng, FEATURES, "codes")
    known = _references(inputs)
    rung, busy = dict.fromkeys(RULES, 0), dict.fromkeys(RULES, 0)
    before = {rule: np.zeros(FEATURES, dtype=bool) for rule in RULES}
    minutes = 0
    every = (found for _, hour in panes(rng, inputs, habit, RULE_DAYS) for found in hour)
    for window in _sliding_hours(every):
        minutes += 1
        for rule, now in _rules(inputs, known, window).items():
            rung[rule] += int((now & ~before[rule]).sum())
            busy[rule] += int(now.any())
            before[rule] = now
    found = [
        FalseAlarmResult(
            habit=habit.name,
            detector=rule,
            alerts=rung[rule],
            months=minutes / DAY / MONTH_DAYS,
            busy=busy[rule] / minutes,
        )
        for rule in RULES
    ]
    for detector in RIVER:
        alarms = detector.alarms(stream(rng, habit, detector.days))
        months = detector.days / MONTH_DAYS / FEATURES
        found.append(FalseAlarmResult(habit=habit.name, detector=detector.name, alerts=len(alarms), months=months))
    return found


def baseline_delays(seed: int, shift: InjectedShift) -> list[DelayResult]:
    """Delays of the PSI rule, of KS at the detector's false-alarm budget, and of river's detectors."""
    rng = np.random.default_rng(seed)
    inputs = Inputs.draw(rng, SHIFTED_INPUTS, "codes")
    known = _references(inputs)
    counts, events = shifted_panes(rng, inputs, shift, HOUR, 12 * HOUR)
    delays = {rule: np.full(SHIFTED_INPUTS, np.inf) for rule in ("PSI > 0.2", "KS at our budget")}
    for minute, window in enumerate(_sliding_hours(iter(counts)), HOUR - 1):
        for rule, now in _rules(inputs, known, window).items():
            if rule in delays and minute >= HOUR:
                delays[rule] = np.where(np.isinf(delays[rule]) & now, events[minute], delays[rule])
    found = [DelayResult.of(rule, shift, delay) for rule, delay in delays.items()]
    for detector in RIVER:
        first = []
        for _ in range(STREAMS):
            read = np.concatenate([values(rng, None, detector.calm), values(rng, shift, detector.after)])
            first.append(next((i - detector.calm + 1 for i in detector.alarms(read) if i >= detector.calm), math.inf))
        found.append(DelayResult.of(detector.name, shift, np.array(first)))
    return found


def _rules(inputs: Inputs, known: tuple[Ints, Ints], window: Ints) -> dict[str, Flags]:
    """Alarms of each rule per input. known: from `_references`; window: shape (n_inputs, n_codes)."""
    codes, bins = known
    present = _present(inputs, window)
    p_value = ks_p_value(ks_statistic(codes, present), effective_rows(codes, present))
    alarms = {"PSI > 0.2": np.asarray(population_stability_index(bins, _binned(inputs, window)) > 0.2)}
    return alarms | {rule: np.asarray(p_value < level) for rule, level in KS_LEVELS.items()}


def _references(inputs: Inputs) -> tuple[Ints, Ints]:
    """Reference counts by code, without MISSING, and by bin, with MISSING."""
    codes = np.stack([np.pad(f.reference, (0, inputs.width - len(f.reference))) for f in inputs.features])
    return _present(inputs, codes), _binned(inputs, codes)


def _present(inputs: Inputs, counts: Ints) -> Ints:
    last = np.array([len(f.reference) - 1 for f in inputs.features])
    return np.where(np.arange(inputs.width) < last[:, None], counts, 0)


def _binned(inputs: Inputs, counts: Ints) -> Ints:
    widest = max(f.n_bins for f in inputs.features)
    return np.stack(
        [
            np.bincount(f.bin_of_code, counts[i, : len(f.reference)], widest).astype(np.int64)
            for i, f in enumerate(inputs.features)
        ]
    )


def _sliding_hours(every: Iterator[Ints]) -> Iterator[Ints]:
    """Sum of the last 60 panes, from the 60th on."""
    held: list[Ints] = []
    total: Ints | int = 0
    for found in every:
        held.append(found)
        total = total + found
        if len(held) > HOUR:
            total = total - held.pop(0)
        if len(held) == HOUR:
            yield np.asarray(total)
