"""How much one receiver of notifications is told, and the count of what is held back from it. Pure.

Told again of the same change of the same incident within `WINDOW_S`, a receiver would learn nothing: that is held back,
unless it got worse. So is what exceeds `MOST` notifications in that time, half of which are kept for critical ones.
What is held back is counted in a `Mark`, which is committed with the offsets and so outlives us; a digest tells it.
"""

from collections.abc import Iterable, Mapping

import msgspec

from monitoring.alerting.notification import RANK, Notification
from schemas.json_codec import decode
from schemas.records import Severity

WINDOW_S = 600.0
MAX_PER_WINDOW = 20  # notifications to one receiver within the window
MAX_STATE_BYTES = 3_500  # bytes; a broker keeps 4,096 beside an offset
OTHERS = "others"  # where a mark would grow too long, incidents lose their names and keep their count

Counts = dict[str, dict[Severity, int]]  # by alias


class DeliveryState(msgspec.Struct, kw_only=True):
    """How far a partition has been told, beside its offset."""

    served: list[str] = []  # receivers that are done with the record at the offset
    held: dict[str, Counts] = {}  # by receiver

    def suppress(self, receiver: str, notice: Notification) -> None:
        """Count a notification that a receiver was not told."""
        counts = self.held.setdefault(receiver, {}).setdefault(notice.alias, {})
        counts[notice.severity] = counts.get(notice.severity, 0) + 1

    def encoded(self) -> str:
        """As JSON of at most `MAX_STATE_BYTES` bytes."""
        text = msgspec.json.encode(self)
        if len(text) > MAX_STATE_BYTES:
            self.held = {receiver: {OTHERS: total(counts)} for receiver, counts in self.held.items()}
            text = msgspec.json.encode(self)
        return text.decode()


def read_delivery_state(text: str) -> DeliveryState:
    """The mark that was committed; an empty one where another program committed something else."""
    try:
        return decode(text.encode("utf-8", "replace"), DeliveryState)
    except msgspec.DecodeError:
        return DeliveryState()


def total(counts: Mapping[str, Mapping[Severity, int]]) -> dict[Severity, int]:
    """How many there are of each severity."""
    found: dict[Severity, int] = {}
    for by_severity in counts.values():
        for severity, count in by_severity.items():
            found[severity] = found.get(severity, 0) + count
    return found


def suppressed(marks: Iterable[DeliveryState], receiver: str) -> Counts:
    """What is held back from a receiver, of all partitions together."""
    found: Counts = {}
    for mark in marks:
        for alias, by_severity in mark.held.get(receiver, {}).items():
            found[alias] = total({"before": found.get(alias, {}), "here": by_severity})
    return found


def digest(receiver: str, counts: Counts, *, model: str, now_ms: int) -> Notification:
    """What tells a receiver how much was held back from it, as urgent as the worst of it."""
    severities = total(counts)
    n, critical = sum(severities.values()), severities.get("critical", 0)
    listed = sorted(((sum(c.values()), alias) for alias, c in counts.items()), reverse=True)[:20]
    return Notification(
        id=f"held-{receiver}-{now_ms}",
        alias=f"held-{receiver}",
        change="held-back",
        severity=max(severities, key=RANK.__getitem__),
        title=f"{model}: notifications not sent here: {n}, critical: {critical}",
        text=", ".join(f"{alias}: {count}" for count, alias in listed),
        model=model,
        model_version=None,
        happened_at_ms=now_ms,
    )


class RateLimiter:
    """What one receiver was told of late: a fold. Times are in seconds, of a clock that only goes forward."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[float, int, str]] = {}  # by alias and change: when, rank, id
        self._times: list[float] = []

    def allow(self, notice: Notification, now_s: float) -> bool:
        """Whether the receiver is to be told; if so, that is remembered, and said again of the same notification."""
        self._told = {what: told for what, told in self._told.items() if now_s - told[0] < WINDOW_S}
        self._times = [at_s for at_s in self._times if now_s - at_s < WINDOW_S]
        what, rank = (notice.alias, notice.change), RANK[notice.severity]
        before = self._told.get(what)
        if before is not None and before[2] == notice.id:
            return True
        repeated = before is not None and rank <= before[1]
        if repeated or len(self._times) >= (MAX_PER_WINDOW if notice.severity == "critical" else MAX_PER_WINDOW // 2):
            return False
        self._told[what] = (now_s, rank, notice.id)
        self._times.append(now_s)
        return True
