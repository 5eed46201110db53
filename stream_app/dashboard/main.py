"""Runs the dashboard's web server until SIGTERM or SIGINT."""

import asyncio
import logging
import signal

from schemas.configuration.settings import Settings
from stream_app.dashboard.registry_poller import Registry
from stream_app.dashboard.server import Dashboard
from stream_app.lifecycle.stop_deadline import StopDeadline
from stream_app.web.web_auth import Authenticator, authenticator

log = logging.getLogger("tamiz.dashboard")


def serve(settings: Settings, registry: Registry) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ConfigError for a page that is reachable from other hosts without authentication, and for an unusable users
    file.
    """
    asyncio.run(_serve(settings, registry, authenticator(settings)))


async def _serve(settings: Settings, registry: Registry, auth: Authenticator) -> None:
    over = asyncio.Event()
    deadline = StopDeadline(settings, "the dashboard has no state to save")

    def stop() -> None:
        over.set()
        deadline.begin()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    page = Dashboard(settings, registry, auth)
    try:
        port = await page.start(settings.web_host, settings.dashboard_port)
        log.info("dashboard on http://%s:%d/", settings.web_host, port)
        await over.wait()
    finally:
        await page.stop()
