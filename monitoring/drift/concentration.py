"""Bursts: whether few cards send a large share of the traffic. Counts heavy hitters by card, in event-time buckets.

A burst from few cards (a merchant's batch upload, a bot that tests cards) changes every feature that is constant for a
card, without a shift of the population. `Burst.share` is the share of the traffic that it explains.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from monitoring.counting.windows import WINDOWS
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS

FINE_MS, COARSE_MS = 5 * MINUTE_MS, HOUR_MS
MAX_BUCKETS = {FINE_MS: 320, COARSE_MS: 200}  # slightly more than a day, and than a week
MAX_CARDS = 128  # counted per bucket; they include every card with more than 1/129 of the rows
MIN_BUCKET_ROWS = 10  # of a bucket that is used to compute usual shares
MIN_USUAL_HOURS = 6  # older than a day; if there are fewer, recent hours are used, too
FEW_CARDS = 20  # maximum number of cards of a burst
MIN_CARD_ROWS = 20  # rows in a window from which a card is examined
MIN_CARD_SHARE = 0.01  # share of the window's rows from which a card is examined
BURST_SHARE = 0.05  # share of a window's rows beyond the usual share of these cards, from which a burst is active
USUAL_QUANTILE = 0.8  # of a card's hourly shares: a card that is busy in a third of the hours is usually busy


@dataclass(frozen=True, kw_only=True)
class Burst:
    """Traffic of few cards within one window, beyond their usual share."""

    cards: tuple[bytes, ...] = ()  # busiest first
    share: float = 0.0  # of the window's rows, in [0, 1]

    @property
    def active(self) -> bool:
        """Whether the share is large enough to affect statistics."""
        return self.share >= BURST_SHARE


NO_BURST = Burst()


class HeavyHitters:
    """The most frequent keys of a stream; a count is too low by at most rows / (size + 1).

    Source: Misra & Gries (1982), Finding repeated elements.
    """

    def __init__(self, size: int = MAX_CARDS) -> None:
        self._size = size
        self.counts: dict[bytes, int] = {}
        self.rows = 0

    def update(self, key: bytes) -> None:
        """Count one."""
        self.rows += 1
        if key in self.counts or len(self.counts) < self._size:
            self.counts[key] = self.counts.get(key, 0) + 1
            return
        self.counts = {k: n - 1 for k, n in self.counts.items() if n > 1}


class Concentration:
    """Counts decisions by card: a fold with bounded memory. Uses event time, no clock."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, HeavyHitters]] = {FINE_MS: {}, COARSE_MS: {}}

    def update(self, key: bytes, event_time_ms: int) -> None:
        """Count a decision. key: its card; empty if there is none, which does not count as a card."""
        for length, buckets in self._buckets.items():
            number = event_time_ms // length
            bucket = buckets.get(number)
            if bucket is None:
                bucket = buckets[number] = HeavyHitters()
                if len(buckets) > MAX_BUCKETS[length]:
                    _forget(buckets)
            bucket.rows += not key
            if key:
                bucket.update(key)

    def bursts(self, until_ms: int) -> Mapping[str, Burst]:
        """Burst in each of `WINDOWS` up to an event time, by name of the window."""
        counted = {w.name: self._counted(w.length_ms, until_ms) for w in WINDOWS}
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

    def counts_by_card(self, span_ms: int, until_ms: int) -> tuple[Counter[bytes], int]:
        """Decisions within a span up to an event time: by card, of the busiest ones, and of all cards."""
        counts: Counter[bytes] = Counter()
        rows = 0
        for number, bucket in self._buckets[FINE_MS].items():
            if until_ms - span_ms <= number * FINE_MS < until_ms:
                counts.update(bucket.counts)
                rows += bucket.rows
        return counts, rows

    def _usual_share(self, key: bytes, until_ms: int) -> float:
        before = {
            number * COARSE_MS: b
            for number, b in self._buckets[COARSE_MS].items()
            if b.rows >= MIN_BUCKET_ROWS and number * COARSE_MS < until_ms
        }
        old = [b for start, b in before.items() if start < until_ms - DAY_MS]  # excludes the burst itself
        hours = old if len(old) >= MIN_USUAL_HOURS else list(before.values())
        if not hours:
            return 0.0
        return float(np.quantile([b.counts.get(key, 0) / b.rows for b in hours], USUAL_QUANTILE))


def _burst(counts: Counter[bytes], rows: int, usual: Mapping[bytes, float]) -> Burst:
    excess = {key: counts[key] / rows - share for key, share in usual.items() if rows and counts[key] / rows > share}
    cards = sorted(excess, key=lambda key: (-excess[key], key))[:FEW_CARDS]
    return Burst(cards=tuple(cards), share=sum(excess[key] for key in cards))


def _forget(buckets: dict[int, HeavyHitters]) -> None:
    """Discard the bucket furthest from the median one, so that a single wrong date does not displace recent buckets."""
    numbers = sorted(buckets)
    middle = numbers[len(numbers) // 2]
    del buckets[numbers[0] if middle - numbers[0] >= numbers[-1] - middle else numbers[-1]]
