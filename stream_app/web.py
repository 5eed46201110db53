"""The worker's own pages: is it alive, is it ready, what did it count."""

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What `/readyz` answers."""

    ready: bool
    waiting_for: tuple[str, ...]  # empty when ready
    model: str | None
    model_version: int | None
    forced: bool | None  # True: serves by a person's word, without having proved skill
    partitions: tuple[int, ...]


class Pages:
    """Serves `/livez`, `/readyz` and `/metrics` on the worker's own loop."""

    def __init__(
        self, *, alive: Callable[[], bool], readiness: Callable[[], Readiness], registry: CollectorRegistry
    ) -> None:
        self._alive = alive
        self._readiness = readiness
        self._registry = registry
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

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
