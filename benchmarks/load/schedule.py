"""When each transaction is due, and what the stamps of its decision mean: pure functions.

Transactions are due in ticks of a millisecond or two, several at once at high rates. Latency is the time from the tick
at which a transaction was due, whether or not the sender was in time, to the moment at which its decision was read.
A transaction without a decision has infinite latency.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

TICK_S = 0.001
PERCENTILES = (50.0, 99.0, 99.9)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Transactions per tick, length of a tick, and number of ticks."""

    per_tick: int
    tick_s: float
    ticks: int

    @property
    def total(self) -> int:
        """Number of transactions."""
        return self.per_tick * self.ticks


def schedule(rate: int, seconds: float) -> Schedule:
    """Ticks of about `TICK_S`; longer if the rate is lower.

    >>> schedule(200, 1.0)
    Schedule(per_tick=1, tick_s=0.005, ticks=200)
    >>> schedule(20_000, 1.0)
    Schedule(per_tick=20, tick_s=0.001, ticks=1000)
    """
    per_tick = max(1, round(rate * TICK_S))
    return Schedule(per_tick=per_tick, tick_s=per_tick / rate, ticks=round(rate * seconds / per_tick))


class SentRecords(msgspec.Struct, frozen=True, kw_only=True):
    """Place and due time, in seconds since the start, of every transaction that was sent."""

    partition: NDArray[np.int64]
    offset: NDArray[np.int64]
    due: NDArray[np.float64]


def sent_records(plan: Schedule, counts: Sequence[Mapping[int, int]], answers: NDArray[np.int64]) -> SentRecords:
    """What was sent, from the broker's answers.

    counts: transactions by partition, of each request; requests are sent in turn, again and again. answers: rows of
    tick, partition and first offset.
    """
    tick, partition, first = answers.T
    count = np.array([counts[t % len(counts)][p] for t, p in zip(tick.tolist(), partition.tolist(), strict=True)])
    count = count.astype(np.int64)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return SentRecords(
        partition=np.repeat(partition, count),
        offset=np.repeat(first, count) + within,
        due=np.repeat(tick * plan.tick_s, count),
    )


def latencies(
    sent: SentRecords, partitions: NDArray[np.int64], offsets: NDArray[np.int64], read: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Due time and latency of every transaction, in seconds, in order of due time.

    partitions, offsets, read: of each decision, its transaction's place and the time since the start at which it was
    read. The first decision of a transaction counts; decisions of other transactions are ignored.
    """
    late = np.full(len(sent.due), np.inf)
    for partition in np.unique(sent.partition):
        ours, mine = np.flatnonzero(sent.partition == partition), partitions == partition
        ours = ours[np.argsort(sent.offset[ours])]
        ordered = sent.offset[ours]
        index = np.searchsorted(ordered, offsets[mine])
        known = index < len(ordered)
        known[known] = ordered[index[known]] == offsets[mine][known]
        first_read = np.full(len(ours), np.inf)
        np.minimum.at(first_read, index[known], read[mine][known])
        late[ours] = first_read - sent.due[ours]
    order = np.argsort(sent.due, kind="stable")
    return sent.due[order], late[order]


def percentiles_ms(late: NDArray[np.float64]) -> dict[str, float | None]:
    """Percentiles in milliseconds: the smallest latency that at least that share has. None: not answered.

    >>> percentiles_ms(np.array([0.001, 0.002, 0.003, float("inf")]))
    {'p50': 2.0, 'p99': None, 'p99.9': None}
    """
    ordered = np.sort(late)
    found: dict[str, float | None] = {}
    for q in PERCENTILES:
        place = max(0, -(-round(10 * q) * len(ordered) // 1_000) - 1)  # rounded up, in whole numbers
        value = float(ordered[place]) if len(ordered) else math.inf
        found[f"p{q:g}"] = None if math.isinf(value) else round(1e3 * value, 3)
    return found
