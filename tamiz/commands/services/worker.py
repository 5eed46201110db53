"""`tamiz worker`: decide what comes in."""

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def worker() -> None:
        """Score transactions as they come: `transactions` in, `decisions` and `dead-letters` out.

        Runs until SIGTERM or Ctrl-C; what it has consumed by then is decided and committed. Start as many as the topic
        has partitions. Health: /livez and /readyz; metrics: /metrics.
        """
        from stream_app.worker.composition_root import run

        run(config.load())
