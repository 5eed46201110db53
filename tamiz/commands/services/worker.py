"""`tamiz worker`: score transactions and publish decisions."""

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def worker() -> None:
        """Score `transactions` with the champion; write `decisions` and `dead-letters`.

        Start up to as many workers as the topic has partitions. Runs until
        SIGTERM or Ctrl-C; transactions consumed by then are decided and
        committed. Health: /livez and /readyz; metrics: /metrics.

            tamiz worker

        Read on: docs/guarantees.md, docs/scaling.md.
        """
        from schemas.extras import UNUSED_BY_WORKERS, skip_unused_libraries

        skip_unused_libraries(*UNUSED_BY_WORKERS)
        from stream_app.worker.worker import run

        run(config.load())
