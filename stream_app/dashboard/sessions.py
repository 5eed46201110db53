"""Browser sessions of the dashboard, and the check against cross-site requests."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from schemas.security.web_users import User
from stream_app.web.web_auth import Authenticator

COOKIE = "tamiz-session"
LIFETIME_S = 12 * 3600
MAX_SESSIONS = 20  # per user


class Session(NamedTuple):
    """A user as of the sign-in, and when the session expires."""

    user: User
    expires_at_s: float  # by the clock of `Sessions`


class Sessions:
    """Sessions in memory. A restart, or a change of the user's line in the users file, ends them."""

    def __init__(self, auth: Authenticator, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: returns seconds; monotonic."""
        self._auth = auth
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # oldest first

    def sign_in(self, user: User) -> str:
        """Start a session and return its id, which is random and does not contain the token."""
        session = secrets.token_urlsafe(32)
        self._sessions = OrderedDict((id_, s) for id_, s in self._sessions.items() if self._is_valid(s))
        own = [id_ for id_, s in self._sessions.items() if s.user == user]
        for id_ in own[: max(0, len(own) - MAX_SESSIONS + 1)]:
            del self._sessions[id_]
        self._sessions[session] = Session(user, self._clock() + LIFETIME_S)
        return session

    def sign_out(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(session, None)

    def user(self, session: str) -> User | None:
        """The user of a session; None for an expired or unknown one."""
        found = self._sessions.get(session)
        if found is None:
            return None
        if not self._is_valid(found):
            del self._sessions[session]
            return None
        return found.user

    def _is_valid(self, session: Session) -> bool:
        return session.expires_at_s > self._clock() and self._auth.current(session.user)


def is_own_origin(origin: str | None, host: str, *, secure: bool = False) -> bool:
    """Whether the Origin header names this page, as a protection against cross-site request forgery.

    secure: the page was loaded by TLS, so that a plain HTTP origin is a different site.

    >>> is_own_origin("http://localhost:6067", "localhost:6067")
    True
    >>> is_own_origin("https://evil.example", "localhost:6067")
    False
    >>> is_own_origin("http://[", "localhost:6067"), is_own_origin("http://a.example", "a.example", secure=True)
    (False, False)
    """
    try:
        url = urlsplit(origin or "")
    except ValueError:
        return False
    return url.netloc == host != "" and url.scheme in (("https",) if secure else ("http", "https"))
