"""Running the page until it is told to stop."""

import asyncio
import logging
import signal

from schemas.settings import Settings
from stream_app.dashboard.known import Registry
from stream_app.dashboard.server import Dashboard
from stream_app.web import check_exposure

log = logging.getLogger("tamiz.dashboard")


def serve(settings: Settings, registry: Registry) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ConfigError for a page that others could reach and that asks for nothing.
    """
    check_exposure(settings.web_host, settings.web_token)
    asyncio.run(_serve(settings, registry))


async def _serve(settings: Settings, registry: Registry) -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    page = Dashboard(settings, registry)
    try:
        port = await page.start(settings.web_host, settings.dashboard_port)
        log.info("the page is at http://%s:%d/", settings.web_host, port)
        await over.wait()
    finally:
        await page.stop()
