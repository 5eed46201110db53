"""`tamiz retrain`: a person asks for a training."""

from typing import Annotated

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def retrain(
        reason: Annotated[str, typer.Option(help="Why; it is kept for good.", metavar="WHY")],
    ) -> None:
        """Ask the retrainer for a training on all transactions and labels that Kafka keeps."""
        import time

        from schemas.errors import ModelUnavailableError
        from schemas.records import MAX_TIME_MS, RetrainRequest
        from schemas.security.actor import os_actor
        from tamiz.services.event_publisher import publish
        from tamiz.terminal import say
        from training.registry import version_transitions

        settings = config.load()
        if (champion := version_transitions.champion(settings)) is None:
            raise ModelUnavailableError(
                f"the model {settings.model_name!r} has no champion that could be trained anew; `tamiz train FILE` "
                f"makes one"
            )
        now_ms = int(time.time() * 1000)
        request = RetrainRequest(
            correlation_id=f"{settings.model_name}-by-hand-{now_ms}",
            model=settings.model_name,
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
        say(f"asked for, as {request.correlation_id}; what comes of it: tamiz tail model-events")
