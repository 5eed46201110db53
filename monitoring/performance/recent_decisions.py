"""Recent decisions: examples for alerts, and whether few cards cause most of the flagged transactions."""

from collections import deque
from collections.abc import Collection, Mapping

from monitoring.drift.concentration import Burst, Concentration
from schemas.records import Decision
from schemas.time_units import DAY_MS

MAX_REMEMBERED = 5_000
EXAMPLES = 5
FLAGGED_MS = DAY_MS  # period, in event time, over which flagged transactions are counted
MIN_FLAGGED = 20
FEW_CARDS = 5
FEW_CARDS_SHARE = 0.5  # of the flagged transactions


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
        if decision.outcome != "approve":
            self._flagged.update(key or b"", decision.event_time_ms)

    def examples(self, features: tuple[str, ...], until_ms: int, cards: Collection[bytes] = ()) -> tuple[str, ...]:
        """Ids of a few transactions up to an instant, newest first: of these cards, or flagged for a feature."""
        before = [(k, d) for k, d in reversed(self._last) if d.event_time_ms <= until_ms]
        of_cards = [d for k, d in before if k in cards]
        named = of_cards or [d for _, d in before if any(r.feature in features for r in d.reasons)]
        return tuple(d.transaction_id for d in (named or [d for _, d in before])[:EXAMPLES])

    def is_concentrated(self, until_ms: int) -> bool:
        """Whether half of the last day's flagged transactions, of 20 or more, come from at most five cards."""
        flagged, few = self._flagged.busiest(FEW_CARDS, FLAGGED_MS, until_ms)
        return flagged >= MIN_FLAGGED and few >= FEW_CARDS_SHARE * flagged

    def bursts(self, until_ms: int) -> Mapping[str, Burst]:
        """Burst in each window up to an event time, by name of the window."""
        return self._all.bursts(until_ms)
