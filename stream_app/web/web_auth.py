"""Authentication of the pages: users of a file, bearer tokens, and whose word on a client's address is believed."""

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
MAX_FORWARDED = 20  # addresses of X-Forwarded-For that are looked at, from the nearest
RETRY_AFTER_S = 10
ANYBODY = User(name="anonymous", roles=frozenset({"approve", "scrape"}), salt=b"", digest=b"")


class Client(NamedTuple):
    """Where a request comes from."""

    address: Address | None
    secure: bool  # it came by TLS, to us or to a proxy that we trust


class UserFile:
    """The users of `web_users_file`; a change of the file holds within a second, without a restart."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError for a file that is missing, malformed, empty, or that everybody may write."""
        self._path = path
        self._clock = clock
        self._state: tuple[int, ...] | None = None
        self._looked_s = clock()
        self._users: tuple[User, ...] = ()
        try:
            self._state = _state(path)
            self._users, wrong = read_users(_text(path))
        except (OSError, ValueError) as error:
            raise ConfigError(f"web_users_file {path}: {_reason(error)}; `tamiz users add` makes one") from None
        if wrong:
            raise ConfigError(f"web_users_file {path}, {wrong[0]}")
        if not self._users:
            raise ConfigError(f"web_users_file {path} holds no user; `tamiz users add` adds one")
        if path.stat().st_mode & stat.S_IWOTH:
            raise ConfigError(f"web_users_file {path} can be written by everybody: `chmod o-w {path}`")

    def users(self) -> tuple[User, ...]:
        """Those of the file now. A bad line lets nobody in and keeps nobody out; without the file nobody is let in."""
        now_s = self._clock()
        if now_s - self._looked_s < RELOAD_INTERVAL_S:
            return self._users
        self._looked_s = now_s
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
                log.error("web_users_file %s: %s; nobody is let in until it is back", self._path, _reason(error))
            self._users, self._state = (), None
        return self._users


class Authenticator:
    """Says who sent a request, and refuses whoever has the wrong token or not the role."""

    def __init__(
        self,
        users: UserFile | None,
        proxies: tuple[Network, ...] = (),
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """users: None asks nobody, which is for loopback alone. on_failure: called for each wrong token."""
        self._users = users
        self._proxies = proxies
        self.on_failure = on_failure
        self._failures = FailureLimiter()
        self._lines = LogLimiter()

    @property
    def asks(self) -> bool:
        """Whether users must say who they are."""
        return self._users is not None

    def current(self, user: User) -> bool:
        """Whether a user still is in the file as they were: with the same token and roles."""
        return self._users is not None and user in self._users.users()

    def by_token(self, token: str) -> User | None:
        """Whose token it is; each user's is compared, whoever it is."""
        given = token.encode("utf-8", "surrogateescape")
        found = [user for user in (self._users.users() if self._users else ()) if user.has_token(given)]
        return found[0] if found else None

    def bearer(self, request: web.Request) -> User | None:
        """Who an Authorization header says it is; None without a bearer token. Raises HTTPException for a wrong one."""
        if self._users is None:
            return ANYBODY
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":  # a proxy's own password, say, which browsers send to us, too
            return None
        if (user := self.by_token(token.strip())) is None:
            raise self.failure(request)
        return user

    def failure(self, request: web.Request) -> web.HTTPException:
        """Count and log a wrong token; what it is to be answered."""
        address = self.client(request).address
        self.on_failure()
        if (suppressed := self._lines.allow()) is not None:
            more = f"; {suppressed} more since the last such line" if suppressed else ""
            log.warning("a wrong token from %s%s", address or "an unknown address", more)
        if not self._failures.allow(address):
            return refusal(429, "too many wrong tokens; try again later", {"Retry-After": str(RETRY_AFTER_S)})
        return refusal(401, "that is no user's token", {"WWW-Authenticate": "Bearer"})

    def require(self, user: User | None, role: Role) -> User:
        """The user, who has the role. Raises HTTPException, in one line, where that is not so."""
        if user is None:
            raise refusal(401, "sign in, or send `Authorization: Bearer TOKEN`", {"WWW-Authenticate": "Bearer"})
        if not user.may(role):
            roles = ", ".join(sorted(user.roles))
            raise refusal(403, f"{user.name} has the role {roles}, and this needs {role}")
        return user

    def client(self, request: web.Request) -> Client:
        """Where a request comes from. What X-Forwarded-For and -Proto say counts from trusted proxies only."""
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
    """Who is let in to a program's pages.

    Raises ConfigError for pages that others could reach and that ask nobody, and for a users file that is not usable.
    """
    proxies = networks(settings.web_trusted_proxies)
    if settings.web_users_file is not None:
        return Authenticator(UserFile(settings.web_users_file), proxies)
    if not is_loopback(settings.web_host):
        raise ConfigError(
            f"web_host is {settings.web_host!r}, which others can reach: set web_users_file (TAMIZ_WEB_USERS_FILE), "
            "too, and add users by `tamiz users add`"
        )
    return Authenticator(None, proxies)


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    return found.st_ino, found.st_size, found.st_mtime_ns


def _text(path: Path) -> str:
    with path.open("rb") as file:
        read = file.read(MAX_FILE_BYTES + 1)
    if len(read) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES:,} bytes")
    return read.decode("utf-8", "replace")


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
