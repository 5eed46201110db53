"""`tamiz retrainer`: train when drift asks for it."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def retrainer(
        history: Annotated[
            Path | None,
            typer.Option(help="Train on this labelled file, not on what Kafka keeps: CSV or Parquet.", exists=True),
        ] = None,
    ) -> None:
        """Answer `retrain-requests`: train, register, compare, promote or ask for approval; tell `model-events`.

        Each request is trained for once, in a process of its own; a failed training is told, and tried again.
        Runs until SIGTERM or Ctrl-C; a training that is under way is then ended, and begun again at the next start.
        """
        import threading

        from stream_app.lifecycle.logging_setup import start_logging
        from stream_app.lifecycle.stop_deadline import StopDeadline, stop_on_signals
        from tamiz.services.retrainer_service import serve

        settings = config.load()
        start_logging(settings)
        stop = threading.Event()
        stop_on_signals(stop, StopDeadline(settings, "a training that was under way begins again at the next start"))
        serve(settings, history, stop)
