"""`tamiz retrain`: a person asks for a training."""

from typing import Annotated

import typer

from schemas import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def retrain(
        reason: Annotated[str, typer.Option(help="Why; it is kept for good.", metavar="WHY")],
    ) -> None:
        """Ask the retrainer for a training on all transactions and labels that Kafka keeps."""
        import time

        from schemas.actor import os_actor
        from schemas.errors import ModelUnavailable
        from schemas.events import MAX_TIME_MS, RetrainRequest
        from tamiz.announcing import publish
        from tamiz.terminal import say
        from training import moves

        settings = config.load()
        if (champion := moves.champion(settings)) is None:
            raise ModelUnavailable(
                f"the model {settings.model!r} has no champion that could be trained anew; `tamiz train FILE` makes one"
            )
        now_ms = int(time.time() * 1000)
        request = RetrainRequest(
            loop_id=f"{settings.model}-by-hand-{now_ms}",
            model=settings.model,
            model_version=champion,
            cause="by-hand",
            features=(),
            reason=reason,
            from_ms=0,
            until_ms=MAX_TIME_MS,  # event time is the producers'
            requested_at_ms=now_ms,
            by=os_actor(),
        )
        publish(settings, settings.retrain_requests_topic, [request])
        say(f"asked for, as {request.loop_id}; what comes of it: tamiz tail model-events")
