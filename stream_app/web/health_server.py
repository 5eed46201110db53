"""Health and metrics pages of a worker or a monitor: `/livez`, `/readyz`, `/metrics`."""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from stream_app.web.http_server import Handler, application, excerpt, is_own_host, refusal, runner
from stream_app.web.web_auth import Authenticator


class HasReady(Protocol):
    """A response of `/readyz`; a msgspec Struct."""

    @property
    def ready(self) -> bool:
        """Whether the program is ready."""
        ...


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The response of a worker's `/readyz`."""

    ready: bool
    waiting_for: tuple[str, ...]  # empty when ready
    model: str | None
    model_version: int | None
    forced: bool | None  # True: promoted by force, without passing the skill gate
    recorded: bool | None = None  # False: not promoted according to the registry's history
    registry_inconsistency: str | None = None  # damaged promotion history, or an alias that differs from it
    ruleset: int | None = None  # number of the ruleset in force
    ruleset_refused: str | None = None  # why the last activated one is not in force
    partitions: tuple[int, ...]


class HealthServer:
    """Serves `/livez`, `/readyz` and `/metrics` on the event loop that starts it."""

    def __init__(
        self,
        *,
        alive: Callable[[], bool],
        readiness: Callable[[], HasReady],
        registry: CollectorRegistry,
        auth: Authenticator,
    ) -> None:
        """auth: `/metrics` requires the role `scrape`; health pages are public."""
        self._alive = alive
        self._readiness = readiness
        self._registry = registry
        self._auth = auth
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port. port: 0 picks a free one."""
        app = application(self._guard, lambda request: self._auth.client(request).secure)
        app.add_routes(
            [web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)]
        )
        self._runner = runner(app)
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
        self._auth.require(self._auth.bearer(request), "scrape")
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # With tokens the host name is not checked: no browser sends one by itself, and probes use the IP address.
        if not self._auth.is_enabled and not is_own_host(request, frozenset()):
            raise refusal(403, f"host name {excerpt(request.headers.get('Host', ''))!r} is not allowed")
        return await handler(request)
