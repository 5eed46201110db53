"""`tamiz notifier`: tell people."""

import typer

from schemas import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def notifier() -> None:
        """Tell people of `drift-alerts` and `model-events`: Slack, mail, a signed webhook, whichever are set.

        Start one. Runs until SIGTERM or Ctrl-C; what it has told it does not tell again when it starts the next time.
        """
        import logging
        import threading

        from stream_app.logs import start_logging
        from stream_app.stop_deadline import StopDeadline, stop_on_signals
        from tamiz.notifying import serve

        settings = config.load()
        start_logging(settings)
        stop = threading.Event()
        stop_on_signals(stop, StopDeadline(settings, "what was not delivered is told at the next start"))
        log = logging.getLogger("tamiz.notifier")
        serve(settings, stop, ready=lambda: log.info("telling what comes from now on"))
