"""Health and metrics pages of a worker or a monitor: is it alive, is it ready, what did it count."""

import hmac
import ipaddress
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from schemas.cluster import Secret
from schemas.errors import ConfigError


class HasReady(Protocol):
    """An answer of `/readyz`; a msgspec Struct."""

    @property
    def ready(self) -> bool:
        """Whether everything it needs is there."""
        ...


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What `/readyz` of a worker answers."""

    ready: bool
    waiting_for: tuple[str, ...]  # empty when ready
    model: str | None
    model_version: int | None
    forced: bool | None  # True: serves by a person's word, without having proved skill
    partitions: tuple[int, ...]


class Pages:
    """Serves `/livez`, `/readyz` and `/metrics` on the loop that it is started on."""

    def __init__(
        self,
        *,
        alive: Callable[[], bool],
        readiness: Callable[[], HasReady],
        registry: CollectorRegistry,
        token: Secret | None = None,
    ) -> None:
        """token: what `/metrics` asks for as a bearer token; None asks for nothing."""
        self._alive = alive
        self._readiness = readiness
        self._registry = registry
        self._token = token
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one when 0 was asked for."""
        app = web.Application()
        app.add_routes(
            [web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        address: Any = self._runner.addresses[0]
        return int(address[1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        alive = self._alive()
        return web.json_response({"alive": alive}, status=200 if alive else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        readiness = self._readiness()
        body = msgspec.json.encode(readiness)
        return web.Response(body=body, content_type="application/json", status=200 if readiness.ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._token is not None and not bears(request.headers.get("Authorization", ""), self._token):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def bears(authorization: str, token: Secret) -> bool:
    """Whether an Authorization header carries the token; compared in constant time."""
    return hmac.compare_digest(authorization.encode(), f"Bearer {token.reveal()}".encode())


def check_exposure(host: str, token: Secret | None) -> None:
    """Raises ConfigError for pages that others could reach and that ask for nothing."""
    if token is None and not _is_loopback(host):
        raise ConfigError(f"web_host is {host!r}, which others can reach: set web_token (TAMIZ_WEB_TOKEN), too")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
