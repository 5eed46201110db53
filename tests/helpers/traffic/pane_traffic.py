"""Simulated traffic at the level of counted codes, without payloads or model: 20 inputs, many cards, any order."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np

from monitoring.counting.bins import FrozenBins, number_bins, share_bins
from monitoring.counting.pane_codec import to_records
from monitoring.counting.panes import PartitionPanes
from monitoring.counting.reference_profile import ALERT
from monitoring.drift.baseline import estimate_baseline
from monitoring.drift.context import AlertContext
from monitoring.drift.drift_monitor import DriftEvaluation, DriftMonitor, DriftMonitorPolicy
from monitoring.drift.reference import DriftReference
from schemas.records import Decision
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS

INPUTS = 20
CARD_INPUTS = 10  # inputs that are constant per card
CARDS = 2_000
ROWS_PER_MINUTE = 10
GRACE_MS, IDLE_MS = 10 * MINUTE_MS, HOUR_MS
START_MS = 1_800_000_000_000 // DAY_MS * DAY_MS
TIMEOUT_MS = 5 * MINUTE_MS
POLICY = DriftMonitorPolicy(evaluation_interval_ms=15 * MINUTE_MS)


@dataclass(frozen=True, eq=False, kw_only=True)
class TrafficRows:
    """Transactions in order of event time."""

    times_ms: np.ndarray  # shape (n,)
    cards: np.ndarray  # shape (n,)
    codes: np.ndarray  # shape (n, INPUTS + 1); the last column is the alert flag


@cache
def bins() -> FrozenBins:
    rng = np.random.default_rng(0)
    inputs = [number_bins(f"x{i:02}", rng.normal(size=20_000)) for i in range(INPUTS)]
    return FrozenBins([*inputs, share_bins(ALERT, 980, 20)])


def stationary_traffic(
    days: float, *, seed: int = 1, start_ms: int = START_MS, shift_ms: int | None = None
) -> TrafficRows:
    """Traffic distributed as the reference; from `shift_ms` on, an input that varies within cards shifts by 1 sigma."""
    rng = np.random.default_rng(seed)
    n = round(days * 1440 * ROWS_PER_MINUTE)
    times = np.sort(rng.integers(start_ms, start_ms + round(days * DAY_MS), n))
    cards = rng.integers(0, CARDS, n)
    values = rng.normal(size=(n, INPUTS))
    values[:, :CARD_INPUTS] = np.random.default_rng(7).normal(size=(CARDS, CARD_INPUTS))[cards]
    if shift_ms is not None:
        values[times >= shift_ms, CARD_INPUTS] += 1.0
    return _coded(times, cards, values, rng.random(n) < 0.02)


def with_burst(rows: TrafficRows, at_ms: int, minutes: int = 20, share: float = 0.3, cards: int = 1) -> TrafficRows:
    """The rows plus a burst of transactions that are identical per card; none of them is flagged."""
    rng = np.random.default_rng(3)
    n = round(minutes * ROWS_PER_MINUTE * share / (1 - share))
    times = np.sort(rng.integers(at_ms, at_ms + minutes * MINUTE_MS, n))
    of = rng.integers(0, cards, n)
    burst = _coded(times, CARDS + of, rng.normal(size=(cards, INPUTS))[of], np.zeros(n, dtype=bool))
    order = np.argsort(np.concatenate([rows.times_ms, burst.times_ms]), kind="stable")
    return TrafficRows(
        times_ms=np.concatenate([rows.times_ms, burst.times_ms])[order],
        cards=np.concatenate([rows.cards, burst.cards])[order],
        codes=np.concatenate([rows.codes, burst.codes])[order],
    )


def _coded(times: np.ndarray, cards: np.ndarray, values: np.ndarray, flagged: np.ndarray) -> TrafficRows:
    columns = {f"x{i:02}": values[:, i] for i in range(INPUTS)} | {ALERT: flagged.astype(np.intp)}
    return TrafficRows(times_ms=times, cards=cards, codes=bins().encode(columns))


@cache
def reference() -> DriftReference:
    rows = stationary_traffic(21, seed=99)
    hours, place = np.unique(rows.times_ms // HOUR_MS, return_inverse=True)
    counts = bins().counts_by_bin(bins().count(rows.codes, place, len(hours)))
    return DriftReference(
        bins=bins(),
        baseline=estimate_baseline(counts, hours, bins().bin_mask),
        importance=np.full(INPUTS + 1, 0.05),
        correlation=np.full((INPUTS + 1, INPUTS + 1), np.nan),
    )


@dataclass
class Stream:
    """Rows on partitions, counted by workers and evaluated by a drift monitor."""

    rows: TrafficRows
    partitions: int = 4
    partition_of: Callable[[np.ndarray], np.ndarray] | None = None
    ahead_ms: dict[int, int] = field(default_factory=dict)  # error of the event times, by partition
    policy: DriftMonitorPolicy = field(default_factory=lambda: POLICY)

    def __post_init__(self) -> None:
        of = self.partition_of(self.rows.cards) if self.partition_of else self.rows.cards % self.partitions
        self.mine = [np.flatnonzero(of == p) for p in range(self.partitions)]
        self.reached = [0] * self.partitions
        self.folds = [PartitionPanes(bins(), p, GRACE_MS) for p in range(self.partitions)]
        self.around = AlertContext()
        self.watch = DriftMonitor(
            reference(),
            model="m",
            model_version=1,
            partitions=self.partitions,
            lateness_ms=GRACE_MS,
            idle_timeout_ms=IDLE_MS,
            policy=self.policy,
        )
        self.found: list[DriftEvaluation] = []

    def count(self, partition: int, until_ms: int, published_ms: int | None = None) -> None:
        """A worker counts a partition's rows up to a time."""
        first = self.reached[partition]
        last = int(np.searchsorted(self.rows.times_ms[self.mine[partition]], until_ms))
        chosen = self.mine[partition][first:last]
        if not len(chosen):
            return
        self.reached[partition] = last
        times = self.rows.times_ms[chosen] + self.ahead_ms.get(partition, 0)
        self._decide(chosen, times)
        self.folds[partition].update(self.rows.codes[chosen], times, np.arange(first, last))
        counted = self.folds[partition].snapshot()
        for _, record in to_records(counted, model="m", model_version=1, layout=bins().digest):
            self.found += self.watch.update(record, self.around, published_ms)

    def look(self, wall_ms: int, caught_up: Iterable[int] | None = None, idle_after_ms: int = TIMEOUT_MS) -> None:
        known = range(self.partitions) if caught_up is None else caught_up
        self.found += self.watch.update_idle(
            self.around, wall_ms=wall_ms, caught_up=set(known), idle_after_ms=idle_after_ms
        )

    def live(self, from_ms: int, until_ms: int, step_ms: int = 5 * MINUTE_MS) -> None:
        """Live operation: all partitions are counted without delay."""
        for now in range(from_ms + step_ms, until_ms + step_ms, step_ms):
            for p in range(self.partitions):
                self.count(p, now, now)
            self.look(now)

    def left(self, partition: int) -> bool:
        return self.reached[partition] < len(self.mine[partition])

    def _decide(self, chosen: np.ndarray, times: np.ndarray) -> None:
        cards, flagged = self.rows.cards[chosen].tolist(), self.rows.codes[chosen, -1].tolist()
        for row, card, late, at in zip(chosen.tolist(), cards, flagged, times.tolist(), strict=True):
            self.around.add_decision(b"%d" % card, _decision(f"t{row}", "review" if late else "approve", at))

    @property
    def alerts(self) -> Iterator[tuple[str, str, tuple[str, ...], int]]:
        return ((a.change, a.kind, a.features, a.happened_at_ms) for e in self.found for a in e.alerts)

    @property
    def opened(self) -> list[tuple[str, tuple[str, ...], int]]:
        return [(kind, features, at) for change, kind, features, at in self.alerts if change == "opened"]


def _decision(transaction: str, outcome: Literal["approve", "review"], at_ms: int) -> Decision:
    return Decision(
        decision_id=transaction,
        transaction_id=transaction,
        score=0.1,
        outcome=outcome,
        model_outcome=outcome,
        decided_by="model",
        exploration_share=None,
        ruleset=None,
        threshold=0.0,
        model="m",
        model_version=1,
        event_time_ms=at_ms,
    )
