"""Sessions of browsers that are signed in to the page, and requests that another site sent."""

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
MAX_SESSIONS = 20  # of one user


class Session(NamedTuple):
    """Who signed in, as they were in the file then, and until when."""

    user: User
    until_s: float


class Sessions:
    """Held in memory: a restart signs everybody out, and so does a change of the user's line in the file."""

    def __init__(self, auth: Authenticator, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds."""
        self._auth = auth
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # oldest first

    def sign_in(self, user: User) -> str:
        """A new session's id, which says nothing of the token."""
        session = secrets.token_urlsafe(32)
        self._sessions = OrderedDict((id_, s) for id_, s in self._sessions.items() if self._is_valid(s))
        own = [id_ for id_, s in self._sessions.items() if s.user == user]
        for id_ in own[: max(0, len(own) - MAX_SESSIONS + 1)]:
            del self._sessions[id_]
        self._sessions[session] = Session(user, self._clock() + LIFETIME_S)
        return session

    def sign_out(self, session: str) -> None:
        """Forget a session."""
        self._sessions.pop(session, None)

    def user(self, session: str) -> User | None:
        """Who is signed in; None for a session that is over, or never was."""
        found = self._sessions.get(session)
        if found is None:
            return None
        if not self._is_valid(found):
            del self._sessions[session]
            return None
        return found.user

    def _is_valid(self, session: Session) -> bool:
        return session.until_s > self._clock() and self._auth.current(session.user)


def own_origin(origin: str | None, host: str, *, secure: bool = False) -> bool:
    """Whether a request that changes something was sent by our own page, which its Origin header says.

    secure: the page came by TLS, so that one by plain HTTP is another.

    >>> own_origin("http://localhost:6067", "localhost:6067"), own_origin("https://evil.example", "localhost:6067")
    (True, False)
    >>> own_origin("http://[", "localhost:6067"), own_origin("http://a.example", "a.example", secure=True)
    (False, False)
    """
    try:
        url = urlsplit(origin or "")
    except ValueError:
        return False
    return url.netloc == host != "" and url.scheme in (("https",) if secure else ("http", "https"))
