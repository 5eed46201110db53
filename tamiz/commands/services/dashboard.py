"""`tamiz dashboard`: serve the live web page."""

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def dashboard() -> None:
        """Serve the live page: rates, latency, drift, incidents, decisions, approvals.

        Listens on `web_host` and `dashboard_port`. Reads topics only, so it does
        not slow the workers. Runs until SIGTERM or Ctrl-C. Health: /livez.

            tamiz dashboard

        Read on: docs/tutorial.md, docs/approve.md.
        """
        from stream_app.dashboard.main import serve
        from stream_app.lifecycle.logging_setup import start_logging
        from tamiz.services.approval import registry

        settings = config.load()
        start_logging(settings)
        serve(settings, registry(settings))
