"""The last decisions, remembered: examples for an alert, and whether the flagged ones come from a few cards."""

from collections import Counter, deque

from schemas.events import Decision

REMEMBERED = 5_000
EXAMPLES = 5
FLAGGED_MS = 86_400_000  # how far back, in event time, concentration is looked for
FEWEST_FLAGGED = 20
FEW_CARDS = 5
FEW_CARDS_SHARE = 0.5  # of the flagged transactions


class RecentDecisions:
    """A fold over decisions, bounded in memory. No clock: time is the events' own."""

    def __init__(self) -> None:
        self._last: deque[tuple[bytes, Decision]] = deque(maxlen=REMEMBERED)

    def add(self, key: bytes | None, decision: Decision) -> None:
        """Remember a decision; key: its record's, the card."""
        self._last.append((key or b"", decision))

    def examples(self, features: tuple[str, ...], until_ms: int) -> tuple[str, ...]:
        """Ids of a few transactions up to an instant, newest first: those flagged for one of the features, if any."""
        before = [d for _, d in reversed(self._last) if d.event_time_ms <= until_ms]
        named = [d for d in before if any(r.feature in features for r in d.reasons)]
        return tuple(d.transaction_id for d in (named or before)[:EXAMPLES])

    def concentrated(self, until_ms: int) -> bool:
        """Whether half of the last day's flagged transactions, of 20 or more, come from at most five cards."""
        flagged = Counter(
            key
            for key, d in self._last
            if d.outcome != "approve" and until_ms - FLAGGED_MS < d.event_time_ms <= until_ms
        )
        few = sum(count for _, count in flagged.most_common(FEW_CARDS))
        return flagged.total() >= FEWEST_FLAGGED and few >= FEW_CARDS_SHARE * flagged.total()
