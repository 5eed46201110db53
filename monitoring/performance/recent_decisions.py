"""Recent decisions: bursts and attacks of few cards, and examples of their transactions."""

from collections import deque
from collections.abc import Collection, Mapping

from monitoring.drift.concentration import Burst, Concentration
from schemas.records import MAX_ALERT_EXAMPLES, Decision
from schemas.time_units import DAY_MS

MAX_REMEMBERED = 5_000
FLAGGED_MS = DAY_MS  # period, in event time, over which flagged transactions are counted
MIN_FLAGGED = 20
FEW_CARDS = 5
FEW_CARDS_SHARE = 0.5  # of the flagged transactions
# A card is named in an attack if it has at least this many flagged transactions, and this share of all of them.
MIN_CARD_FLAGGED = 3
MIN_CARD_FLAGGED_SHARE = 0.05


class RecentDecisions:
    """A fold over decisions, with bounded memory. Uses event time, no clock."""

    def __init__(self) -> None:
        self._last: deque[tuple[bytes, Decision]] = deque(maxlen=MAX_REMEMBERED)
        self._all = Concentration()
        self._flagged = Concentration()

    def update(self, key: bytes | None, decision: Decision) -> None:
        """Add a decision. key: of its record, which identifies the card."""
        self._last.append((key or b"", decision))
        self._all.update(key or b"", decision.event_time_ms)
        if decision.model_outcome != "approve":
            self._flagged.update(key or b"", decision.event_time_ms)

    def examples_of_cards(self, until_ms: int, cards: Collection[bytes]) -> tuple[str, ...]:
        """Ids of a few transactions of these cards up to an event time, newest first; without any, of flagged ones."""
        before = [(k, d) for k, d in reversed(self._last) if d.event_time_ms <= until_ms]
        named = [d for k, d in before if k in cards] or [d for _, d in before if d.model_outcome != "approve"]
        return tuple(d.transaction_id for d in named[:MAX_ALERT_EXAMPLES])

    def is_concentrated(self, until_ms: int) -> bool:
        """Whether half of the last day's flagged transactions, of 20 or more, come from at most five cards."""
        counts, flagged = self._flagged.counts_by_card(FLAGGED_MS, until_ms)
        few = sum(n for _, n in counts.most_common(FEW_CARDS))
        return flagged >= MIN_FLAGGED and few >= FEW_CARDS_SHARE * flagged

    def flagged_cards(self, until_ms: int) -> tuple[bytes, ...]:
        """Cards that have a notable share of the last day's flagged transactions, the busiest first."""
        counts, flagged = self._flagged.counts_by_card(FLAGGED_MS, until_ms)
        least = max(MIN_CARD_FLAGGED, MIN_CARD_FLAGGED_SHARE * flagged)
        return tuple(sorted((card for card, n in counts.items() if n >= least), key=lambda card: (-counts[card], card)))

    def bursts(self, until_ms: int) -> Mapping[str, Burst]:
        """Burst in each window up to an event time, by name of the window."""
        return self._all.bursts(until_ms)
