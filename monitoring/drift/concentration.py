"""Whether few cards send much of the traffic: heavy hitters by card, in buckets of event time.

A burst from few cards (a merchant's batch upload, a bot that tests cards) moves every feature that is constant for a
card. It is no shift of the population; `Burst.share` says how much of the traffic to explain by it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from monitoring.counting.windows import WINDOWS
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS

FINE_MS, COARSE_MS = 5 * MINUTE_MS, HOUR_MS
MAX_BUCKETS = {FINE_MS: 320, COARSE_MS: 200}  # a little over a day, and over a week
MAX_CARDS = 128  # counted in a bucket; a card with more than 1/129 of its rows is among them
MIN_BUCKET_ROWS = 10  # fewer say nothing of what is usual
MIN_USUAL_HOURS = 6  # older than a day; where there are fewer, younger ones count too
FEW_CARDS = 20
MIN_CARD_ROWS = 20  # of a card within one of the windows, and
MIN_CARD_SHARE = 0.01  # of that window's rows, to be looked at in all
BURST_SHARE = 0.05  # of a window's rows, beyond what is usual for these cards
USUAL_QUANTILE = 0.8  # of a card's hourly shares: who is busy in a third of all hours is usual


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What few cards send within one window, beyond what is usual for them."""

    cards: tuple[bytes, ...] = ()  # the busiest first
    share: float = 0.0  # of the window's rows, in [0, 1]

    @property
    def active(self) -> bool:
        """Whether it is enough to move statistics."""
        return self.share >= BURST_SHARE


NO_BURST = Burst()


class HeavyHitters:
    """The most frequent keys of a stream, each count too low by at most rows / (size + 1).

    Source: Misra & Gries (1982), Finding repeated elements.
    """

    def __init__(self, size: int = MAX_CARDS) -> None:
        self._size = size
        self.counts: dict[bytes, int] = {}
        self.rows = 0

    def add(self, key: bytes) -> None:
        """Count one."""
        self.rows += 1
        if key in self.counts or len(self.counts) < self._size:
            self.counts[key] = self.counts.get(key, 0) + 1
            return
        self.counts = {k: n - 1 for k, n in self.counts.items() if n > 1}


class Concentration:
    """A fold over decisions, bounded in memory. No clock: time is the events' own."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, HeavyHitters]] = {FINE_MS: {}, COARSE_MS: {}}

    def add(self, key: bytes, event_time_ms: int) -> None:
        """Count a decision; key: its card, empty where there is none, which is no card."""
        for length, buckets in self._buckets.items():
            number = event_time_ms // length
            bucket = buckets.get(number)
            if bucket is None:
                bucket = buckets[number] = HeavyHitters()
                if len(buckets) > MAX_BUCKETS[length]:
                    _forget(buckets)
            bucket.rows += not key
            if key:
                bucket.add(key)

    def bursts(self, until_ms: int) -> Mapping[str, Burst]:
        """What few cards sent, by name of each of `WINDOWS` up to an instant."""
        counted = {w.name: self._counted(w.cell_ms * w.cells, until_ms) for w in WINDOWS}
        suspects = {
            key
            for counts, rows in counted.values()
            for key, count in counts.most_common(FEW_CARDS)
            if count >= max(MIN_CARD_ROWS, MIN_CARD_SHARE * rows)
        }
        usual = {key: self._usual_share(key, until_ms) for key in suspects}
        return {name: _burst(counts, rows, usual) for name, (counts, rows) in counted.items()}

    def _counted(self, span_ms: int, until_ms: int) -> tuple[Counter[bytes], int]:
        length = FINE_MS if span_ms < DAY_MS else COARSE_MS
        buckets = self._buckets[length]
        counts: Counter[bytes] = Counter()
        rows = 0
        for number in range((until_ms - span_ms) // length, (until_ms - 1) // length + 1):
            if (bucket := buckets.get(number)) is not None:
                counts.update(bucket.counts)
                rows += bucket.rows
        return counts, rows

    def busiest(self, cards: int, span_ms: int, until_ms: int) -> tuple[int, int]:
        """Decisions within a span up to an instant, and how many of them the busiest `cards` have."""
        counts: Counter[bytes] = Counter()
        rows = 0
        for number, bucket in self._buckets[FINE_MS].items():
            if until_ms - span_ms <= number * FINE_MS < until_ms:
                counts.update(bucket.counts)
                rows += bucket.rows
        return rows, sum(n for _, n in counts.most_common(cards))

    def _usual_share(self, key: bytes, until_ms: int) -> float:
        before = {
            number * COARSE_MS: b
            for number, b in self._buckets[COARSE_MS].items()
            if b.rows >= MIN_BUCKET_ROWS and number * COARSE_MS < until_ms
        }
        old = [b for start, b in before.items() if start < until_ms - DAY_MS]  # a burst is not its own measure
        hours = old if len(old) >= MIN_USUAL_HOURS else list(before.values())
        if not hours:
            return 0.0
        return float(np.quantile([b.counts.get(key, 0) / b.rows for b in hours], USUAL_QUANTILE))


def _burst(counts: Counter[bytes], rows: int, usual: Mapping[bytes, float]) -> Burst:
    excess = {key: counts[key] / rows - share for key, share in usual.items() if rows and counts[key] / rows > share}
    cards = sorted(excess, key=lambda key: (-excess[key], key))[:FEW_CARDS]
    return Burst(cards=tuple(cards), share=sum(excess[key] for key in cards))


def _forget(buckets: dict[int, HeavyHitters]) -> None:
    """Drop the bucket furthest from the middle one: one absurd date does not displace what is recent."""
    numbers = sorted(buckets)
    middle = numbers[len(numbers) // 2]
    del buckets[numbers[0] if middle - numbers[0] >= numbers[-1] - middle else numbers[-1]]
