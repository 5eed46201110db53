"""Who is let in to the page: a bearer token for machines, a session for browsers, and nobody whom another site sent."""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from schemas.cluster import Secret
from stream_app.web import bears

COOKIE = "tamiz-session"
LIFETIME_S = 12 * 3600
SESSIONS = 1_000
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Entrance:
    """Holds the sessions, in memory: a restart signs everybody out."""

    def __init__(self, token: Secret | None, clock: Callable[[], float] = time.monotonic) -> None:
        """token: what is asked for; None asks for nothing, which is for loopback alone. clock: seconds."""
        self._token = token
        self._clock = clock
        self._sessions: OrderedDict[str, float] = OrderedDict()  # id -> until when

    def sign_in(self, token: str) -> str | None:
        """A new session's id, which says nothing of the token; None when it is the wrong one."""
        if self._token is None or not hmac.compare_digest(token.encode(), self._token.reveal().encode()):
            return None
        session = secrets.token_urlsafe(32)
        self._sessions[session] = self._clock() + LIFETIME_S
        while len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def sign_out(self, session: str) -> None:
        """Forget a session."""
        self._sessions.pop(session, None)

    def admits(self, authorization: str, session: str) -> bool:
        """Whether a request may see and do things. authorization: its header; session: its cookie."""
        if self._token is None or bears(authorization, self._token):
            return True
        return self._sessions.get(session, 0.0) > self._clock()

    def knows_host(self, host: str) -> bool:
        """Whether a request's Host header is one that the page goes by.

        Without a token only loopback's names are: else a page of anybody's could let its own name lead here (DNS
        rebinding) and read along.

        >>> Entrance(None).knows_host("localhost:6067"), Entrance(None).knows_host("evil.example")
        (True, False)
        """
        return self._token is not None or host.rpartition(":")[0] in LOOPBACK or host in LOOPBACK


def own_origin(origin: str | None, host: str) -> bool:
    """Whether a request that changes something was sent by our own page, which its Origin header says.

    >>> own_origin("http://localhost:6067", "localhost:6067"), own_origin("https://evil.example", "localhost:6067")
    (True, False)
    """
    return origin is not None and urlsplit(origin).netloc == host
