"""Authentication of the web pages: the users file, bearer tokens, and trusted proxies for the client's address."""

import logging
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from schemas.configuration.settings import Settings
from schemas.errors import ConfigError
from schemas.security.hosts import Address, Network, address_of, is_among, is_loopback, networks
from schemas.security.web_users import Role, User, read_users
from stream_app.web.http_server import refusal
from stream_app.web.request_limit import FailureLimiter, LogLimiter

log = logging.getLogger("tamiz.auth")
RELOAD_INTERVAL_S = 1.0
MAX_FILE_BYTES = 1_000_000
MAX_FORWARDED = 20  # addresses of X-Forwarded-For that are read, from the nearest
RETRY_AFTER_S = 10
USER = web.RequestKey("user", User)  # who sends a request, after the authentication
ANONYMOUS = User(name="anonymous", roles=frozenset({"approve", "scrape"}), salt=b"", digest=b"")


class Client(NamedTuple):
    """Where a request comes from."""

    address: Address | None
    secure: bool  # by TLS, to this server or to a trusted proxy


class UserFile:
    """The users of `web_users_file`. A change of the file takes effect within a second, without a restart."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError for a file that is missing, malformed, empty or world-writable."""
        self._path = path
        self._clock = clock
        self._state: tuple[int, ...] | None = None
        self._checked_at_s = clock()
        self._users: tuple[User, ...] = ()
        try:
            self._state = _state(path)
            self._users, wrong = read_users(_text(path))
        except (OSError, ValueError) as error:
            raise ConfigError(f"web_users_file {path}: {_reason(error)}; `tamiz users add` creates one") from None
        if wrong:
            raise ConfigError(f"web_users_file {path}, {wrong[0]}")
        if not self._users:
            raise ConfigError(f"web_users_file {path} holds no user; `tamiz users add` adds one")
        if path.stat().st_mode & stat.S_IWOTH:
            raise ConfigError(f"web_users_file {path} can be written by everybody: `chmod o-w {path}`")

    def users(self) -> tuple[User, ...]:
        """The current users. Bad lines are ignored; without the file there are no users."""
        now_s = self._clock()
        if now_s - self._checked_at_s < RELOAD_INTERVAL_S:
            return self._users
        self._checked_at_s = now_s
        try:
            state = _state(self._path)
            if state != self._state:
                self._users, wrong = read_users(_text(self._path))
                log.info("web_users_file was read again: %d users", len(self._users))
                for problem in wrong[:5]:
                    log.error("web_users_file %s, %s; the line is ignored", self._path, problem)
            self._state = state
        except (OSError, ValueError) as error:
            if self._state is not None:
                log.error(
                    "web_users_file %s: %s; all users are refused until it is readable", self._path, _reason(error)
                )
            self._users, self._state = (), None
        return self._users


class Authenticator:
    """Identifies the user of a request. Refuses invalid tokens and missing roles."""

    def __init__(
        self,
        users: UserFile | None,
        proxies: tuple[Network, ...] = (),
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """users: None turns authentication off, for loopback only. on_failure: called for each invalid token."""
        self._users = users
        self._proxies = proxies
        self.on_failure = on_failure
        self._failures = FailureLimiter()
        self._log_limiter = LogLimiter()

    @property
    def is_enabled(self) -> bool:
        """Whether users must authenticate."""
        return self._users is not None

    def current(self, user: User) -> bool:
        """Whether the file still has this user with the same token and roles."""
        return self._users is not None and user in self._users.users()

    def by_token(self, token: str) -> User | None:
        """The user with this token, or None. Always compares with every user, against timing attacks."""
        given = token.encode("utf-8", "surrogateescape")
        found = [user for user in (self._users.users() if self._users else ()) if user.has_token(given)]
        return found[0] if found else None

    def bearer(self, request: web.Request) -> User | None:
        """The user of the bearer token; None without one. Raises HTTPException for an invalid token."""
        if self._users is None:
            return ANONYMOUS
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":  # e.g. credentials for a proxy, which browsers send, too
            return None
        if (user := self.by_token(token.strip())) is None:
            raise self.failure(request)
        return user

    def failure(self, request: web.Request) -> web.HTTPException:
        """Count and log an invalid token; the exception to raise."""
        address = self.client(request).address
        self.on_failure()
        if (suppressed := self._log_limiter.allow()) is not None:
            more = f"; {suppressed} more since the last such line" if suppressed else ""
            log.warning("invalid token from %s%s", address or "an unknown address", more)
        if not self._failures.allow(address):
            return refusal(429, "too many invalid tokens; try again later", {"Retry-After": str(RETRY_AFTER_S)})
        return refusal(401, "invalid token", {"WWW-Authenticate": "Bearer"})

    def require(self, user: User | None, role: Role) -> User:
        """Return the user if they have the role. Raises HTTPException otherwise."""
        if user is None:
            raise refusal(401, "sign in, or send `Authorization: Bearer TOKEN`", {"WWW-Authenticate": "Bearer"})
        if not user.may(role):
            roles = ", ".join(sorted(user.roles))
            raise refusal(403, f"{user.name} has the roles {roles}; this needs the role {role}")
        return user

    def client(self, request: web.Request) -> Client:
        """The client of a request. X-Forwarded-For and X-Forwarded-Proto count only from trusted proxies."""
        peer = address_of(request.remote or "")
        if not is_among(peer, self._proxies):
            return Client(peer, request.secure)
        protocol = ",".join(request.headers.getall("X-Forwarded-Proto", [])).rpartition(",")[2]
        hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")[-MAX_FORWARDED:]
        address = peer
        for hop in reversed(hops):
            if (found := address_of(hop)) is None:
                break
            address = found
            if not is_among(found, self._proxies):
                break
        return Client(address, protocol.strip().lower() == "https")


def authentication_failures(registry: CollectorRegistry) -> Counter:
    """Register the counter of requests with an invalid token, for `Authenticator.on_failure`."""
    return Counter("tamiz_authentication_failures", "Requests with an invalid token", registry=registry)


def authenticator(settings: Settings) -> Authenticator:
    """The authenticator of a program's pages.

    Raises ConfigError for pages that are reachable from other hosts without authentication, and for an unusable users
    file.
    """
    proxies = networks(settings.web_trusted_proxies)
    if settings.web_users_file is not None:
        return Authenticator(UserFile(settings.web_users_file), proxies)
    if not is_loopback(settings.web_host):
        raise ConfigError(
            f"web_host is {settings.web_host!r}, which other hosts can reach: set web_users_file "
            "(TAMIZ_WEB_USERS_FILE), too, and add users with `tamiz users add`"
        )
    return Authenticator(None, proxies)


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    return found.st_ino, found.st_size, found.st_mtime_ns


def _text(path: Path) -> str:
    with path.open("rb") as file:
        read = file.read(MAX_FILE_BYTES + 1)
    if len(read) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES:,} bytes")
    return read.decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
