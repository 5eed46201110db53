"""Rates of what strangers cause: wrong tokens by address and overall, and lines of the log."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from schemas.security.hosts import Address

ADDRESS_BURST, ADDRESS_PER_S = 10, 1 / 6
OVERALL_BURST, OVERALL_PER_S = 200, 10.0
MAX_ADDRESSES = 10_000
LOG_INTERVAL_S = 10.0


@dataclass
class TokenBucket:
    """Allows `burst` at once and `per_s` a second in the long run."""

    burst: float
    per_s: float
    left: float
    at_s: float

    def take(self, now_s: float) -> bool:
        """Whether one more is allowed."""
        self.left = min(self.burst, self.left + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s
        if self.left < 1:
            return False
        self.left -= 1
        return True


class FailureLimiter:
    """How many wrong tokens are answered as such; those beyond are answered 429.

    A right token is always let in: refusing it unread would let anybody behind the same proxy, or with enough
    addresses, lock people out. No rate of guesses finds one of 256 random bits (schemas/security/web_users.py).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._overall = TokenBucket(OVERALL_BURST, OVERALL_PER_S, OVERALL_BURST, clock())
        self._by_address: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, address: Address | None) -> bool:
        """Count a failure of an address; False when it, or everybody together, had too many."""
        now_s, key = self._clock(), _network(address)
        bucket = self._by_address.pop(key, None) or TokenBucket(ADDRESS_BURST, ADDRESS_PER_S, ADDRESS_BURST, now_s)
        self._by_address[key] = bucket  # at the end: the one that was quiet for longest is forgotten first
        while len(self._by_address) > MAX_ADDRESSES:
            self._by_address.popitem(last=False)
        return bucket.take(now_s) and self._overall.take(now_s)


class LogLimiter:
    """One line in `LOG_INTERVAL_S`, and how many were suppressed since the last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = 0.0
        self._suppressed = 0
        self._started = False

    def allow(self) -> int | None:
        """Suppressed lines before this one; None when this one is to be suppressed."""
        now_s = self._clock()
        if self._started and now_s < self._next_s:
            self._suppressed += 1
            return None
        self._started, self._next_s = True, now_s + LOG_INTERVAL_S
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


def _network(address: Address | None) -> str:
    # Whoever has one IPv6 address has 2^64 of them.
    if address is None:
        return ""
    return str(address) if address.version == 4 else address.exploded[:19]
