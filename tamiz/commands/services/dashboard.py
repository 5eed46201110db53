"""`tamiz dashboard`: the live page."""

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def dashboard() -> None:
        """Serve the live page on WEB_HOST and DASHBOARD_PORT: rates, latency, drift, incidents, decisions, approvals.

        It only reads topics, so the workers do not feel it. Runs until SIGTERM or Ctrl-C. Health: /livez.
        """

        from stream_app.dashboard.main import serve
        from stream_app.lifecycle.logging_setup import start_logging
        from tamiz.services.approval import registry

        settings = config.load()
        start_logging(settings)
        serve(settings, registry(settings))
