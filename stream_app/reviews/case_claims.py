"""Claims: a reviewer who opens a case holds it for a short time, so that two people do not judge the same case."""

import time
from collections.abc import Callable
from typing import NamedTuple

CLAIM_TIMEOUT_S = 120.0  # the page renews a claim while the case is open


class Holder(NamedTuple):
    """Who holds a case, and until when."""

    user: str
    until_s: float  # by the clock of `CaseClaims`


class CaseClaims:
    """The claims of one process, in memory. A reviewer holds one case at most. Not thread-safe: callers hold a lock."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """clock: returns seconds since 1970."""
        self._clock = clock
        self._by_case: dict[str, Holder] = {}
        self._case_of: dict[str, str] = {}  # by user

    def holder(self, case: str) -> Holder | None:
        """Who holds a case now."""
        found = self._by_case.get(case)
        if found is None or found.until_s > self._clock():
            return found
        self._release(found.user)
        return None

    def claim(self, case: str, user: str) -> Holder:
        """Claim a case, or renew the claim; the user's former claim ends. Returns who holds the case: maybe another."""
        if (found := self.holder(case)) is not None and found.user != user:
            return found
        self._release(user)
        self._by_case[case] = claimed = Holder(user, self._clock() + CLAIM_TIMEOUT_S)
        self._case_of[user] = case
        return claimed

    def end(self, case: str) -> None:
        """End the claim of a case."""
        if (found := self._by_case.get(case)) is not None:
            self._release(found.user)

    def _release(self, user: str) -> None:
        if (case := self._case_of.pop(user, None)) is not None:
            del self._by_case[case]
