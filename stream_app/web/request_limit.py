"""Rate limits: failed authentications by address and overall, and log lines."""

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
    """Allows a burst of `burst`, and `per_s` per second in the long run."""

    burst: float
    per_s: float
    left: float
    at_s: float

    def take(self, now_s: float) -> bool:
        """Take one token. False if none is left. now_s: monotonic seconds."""
        self.left = min(self.burst, self.left + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s
        if self.left < 1:
            return False
        self.left -= 1
        return True


class FailureLimiter:
    """Limits failed authentications; failures beyond the limit get status 429.

    A valid token is always accepted: rejecting it unread would let others behind the same proxy, or with many
    addresses, lock users out. Tokens have 256 random bits (schemas/security/web_users.py) and cannot be guessed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._overall = TokenBucket(OVERALL_BURST, OVERALL_PER_S, OVERALL_BURST, clock())
        self._by_address: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, address: Address | None) -> bool:
        """Count a failure of an address. False if the address, or all together, exceeded the limit."""
        now_s, key = self._clock(), _network(address)
        bucket = self._by_address.pop(key, None) or TokenBucket(ADDRESS_BURST, ADDRESS_PER_S, ADDRESS_BURST, now_s)
        self._by_address[key] = bucket  # at the end: the least recently used one is dropped first
        while len(self._by_address) > MAX_ADDRESSES:
            self._by_address.popitem(last=False)
        return bucket.take(now_s) and self._overall.take(now_s)


class LogLimiter:
    """Allows one log line per `LOG_INTERVAL_S` and counts the suppressed ones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = 0.0
        self._suppressed = 0
        self._started = False

    def allow(self) -> int | None:
        """Number of lines suppressed since the last one; None if this line is to be suppressed."""
        now_s = self._clock()
        if self._started and now_s < self._next_s:
            self._suppressed += 1
            return None
        self._started, self._next_s = True, now_s + LOG_INTERVAL_S
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


def _network(address: Address | None) -> str:
    # A client with one IPv6 address usually has a whole /64 network.
    if address is None:
        return ""
    return str(address) if address.version == 4 else address.exploded[:19]
