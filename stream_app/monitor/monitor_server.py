"""The monitor's health and metrics pages. Served from a thread, since the monitor blocks on its consumer."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from schemas.configuration.settings import Settings
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.web.health_server import HealthServer
from stream_app.web.web_auth import authenticator

T = TypeVar("T")
log = logging.getLogger("tamiz.monitor")


class MonitorReadiness(msgspec.Struct, frozen=True, kw_only=True):
    """The response of the monitor's `/readyz`."""

    ready: bool
    waiting_for: tuple[str, ...]  # empty when ready
    model: str
    model_versions: tuple[int, ...]  # monitored versions


class MonitorServer:
    """Context manager that serves `/livez`, `/readyz` and `/metrics`."""

    def __init__(
        self,
        settings: Settings,
        metrics: MonitorMetrics,
        alive: Callable[[], bool],
        readiness: Callable[[], MonitorReadiness],
    ) -> None:
        """alive, readiness: called from the server's thread.

        Raises ConfigError if the pages are reachable from other hosts without authentication.
        """
        self._settings = settings
        auth = authenticator(settings)
        auth.on_failure = metrics.authentication_failures.inc
        self._pages = HealthServer(alive=alive, readiness=readiness, registry=metrics.registry, auth=auth)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="monitor-pages", daemon=True)
        self.port = 0  # listened on

    def __enter__(self) -> "MonitorServer":
        """Listen. Raises OSError if the port is in use."""
        self._thread.start()
        try:
            self.port = self._run(self._pages.start(self._settings.web_host, self._settings.monitor_port))
        except BaseException:
            self._stop()
            raise
        log.info("health and metrics on http://%s:%d", self._settings.web_host, self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._run(self._pages.stop())
        self._stop()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
