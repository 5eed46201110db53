"""`tamiz retrainer`: train a new model for each retraining request."""

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
            typer.Option(help="Train on this labelled file instead of Kafka's topics.", exists=True),
        ] = None,
        allow_missing: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME",
                help="Train without this optional column, if the file lacks it; recorded. May be repeated.",
            ),
        ] = None,
    ) -> None:
        """Train a new model for each request on `retrain-requests`, then promote it or ask for approval.

        Each request is trained once, in a child process with a time limit. A
        failed training is reported on `model-events` and tried again. Runs until
        SIGTERM or Ctrl-C; an interrupted training starts again at the next start.

            tamiz retrainer

        Read on: docs/approve.md, docs/drift.md.
        """
        import threading

        from schemas.extras import require_extra
        from stream_app.lifecycle.logging_setup import start_logging
        from stream_app.lifecycle.stop_deadline import StopDeadline, stop_on_signals
        from tamiz.services.retrainer_service import serve

        if allow_missing and history is None:
            raise typer.BadParameter("--allow-missing needs --history")
        require_extra("training", needed_by="tamiz retrainer")
        settings = config.load()
        start_logging(settings)
        stop = threading.Event()
        stop_on_signals(stop, StopDeadline(settings, "an interrupted training starts again at the next start"))
        serve(settings, history, stop, allow_missing=tuple(allow_missing or ()))
