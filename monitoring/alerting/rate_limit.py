"""Per-channel rate limiting of notifications. Pure.

A repeat of the same incident change within `WINDOW_S` is suppressed unless its severity rose. A channel gets at most
`MAX_PER_WINDOW` notifications in that time; half of them are reserved for critical ones. `DeliveryState` counts the
suppressed ones; it is committed with the offsets and so survives a restart. A digest reports the counts.
"""

from collections.abc import Iterable, Mapping

import msgspec

from monitoring.alerting.notification import RANK, Notification
from schemas.json_codec import decode
from schemas.records import Severity

WINDOW_S = 600.0
MAX_PER_WINDOW = 20  # notifications to one channel within the window
MAX_STATE_BYTES = 3_500  # a broker accepts 4,096 bytes of metadata per offset
OTHER_ALIASES = "others"  # alias of the sum of all incidents, if the state would exceed its maximum size

Counts = dict[str, dict[Severity, int]]  # by alias


class DeliveryState(msgspec.Struct, kw_only=True):
    """Delivery progress of a partition, committed as metadata of its offset."""

    done: list[str] = []  # channels that have handled the record at the offset
    suppressed: dict[str, Counts] = {}  # suppressed notifications, by channel

    def suppress(self, channel: str, notice: Notification) -> None:
        """Count a suppressed notification."""
        counts = self.suppressed.setdefault(channel, {}).setdefault(notice.alias, {})
        counts[notice.severity] = counts.get(notice.severity, 0) + 1

    def encode(self) -> str:
        """Encode as JSON of at most `MAX_STATE_BYTES` bytes."""
        text = msgspec.json.encode(self)
        if len(text) > MAX_STATE_BYTES:
            self.suppressed = {name: {OTHER_ALIASES: total(counts)} for name, counts in self.suppressed.items()}
            text = msgspec.json.encode(self)
        return text.decode()


def read_delivery_state(text: str) -> DeliveryState:
    """Decode the committed state; an empty one if another program committed something else."""
    try:
        return decode(text.encode("utf-8", "replace"), DeliveryState)
    except msgspec.DecodeError:
        return DeliveryState()


def total(counts: Mapping[str, Mapping[Severity, int]]) -> dict[Severity, int]:
    """Number of notifications of each severity."""
    found: dict[Severity, int] = {}
    for by_severity in counts.values():
        for severity, count in by_severity.items():
            found[severity] = found.get(severity, 0) + count
    return found


def suppressed_counts(states: Iterable[DeliveryState], channel: str) -> Counts:
    """Suppressed notifications of a channel, over all partitions."""
    found: Counts = {}
    for state in states:
        for alias, by_severity in state.suppressed.get(channel, {}).items():
            found[alias] = total({"before": found.get(alias, {}), "here": by_severity})
    return found


def digest(channel: str, counts: Counts, *, model: str, now_ms: int) -> Notification:
    """Notification with the number of suppressed ones, with the highest of their severities."""
    severities = total(counts)
    n, critical = sum(severities.values()), severities.get("critical", 0)
    listed = sorted(((sum(c.values()), alias) for alias, c in counts.items()), reverse=True)[:20]
    return Notification(
        id=f"digest-{channel}-{now_ms}",
        alias=f"digest-{channel}",
        change="digest",
        severity=max(severities, key=RANK.__getitem__),
        title=f"{model}: notifications not sent here: {n}, critical: {critical}",
        text=", ".join(f"{alias}: {count}" for count, alias in listed),
        model=model,
        model_version=None,
        happened_at_ms=now_ms,
    )


class RateLimiter:
    """Rate limiter of one channel: a fold over notifications. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str], tuple[float, int, str]] = {}  # by alias and change: when, rank, id
        self._times: list[float] = []

    def allow(self, notice: Notification, now_s: float) -> bool:
        """Whether to send the notification. Counts it if so; the same notification is then always allowed."""
        self._sent = {what: sent for what, sent in self._sent.items() if now_s - sent[0] < WINDOW_S}
        self._times = [at_s for at_s in self._times if now_s - at_s < WINDOW_S]
        what, rank = (notice.alias, notice.change), RANK[notice.severity]
        before = self._sent.get(what)
        if before is not None and before[2] == notice.id:
            return True
        repeated = before is not None and rank <= before[1]
        if repeated or len(self._times) >= (MAX_PER_WINDOW if notice.severity == "critical" else MAX_PER_WINDOW // 2):
            return False
        self._sent[what] = (now_s, rank, notice.id)
        self._times.append(now_s)
        return True
