"""`tamiz retrain`: publish a manual retraining request."""

from typing import Annotated

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def retrain(
        reason: Annotated[str, typer.Option(help="Reason, kept in the history.", metavar="REASON")],
    ) -> None:
        """Request a training on all transactions and labels that Kafka retains.

        Publishes one record to `retrain-requests`; a running `tamiz retrainer`
        trains. Follow the result with `tamiz tail model-events`.

            tamiz retrain --reason "new season"

        Read on: docs/approve.md.
        """
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
                f"model_name: {settings.model_name!r} has no champion to retrain; `tamiz train FILE` makes one"
            )
        now_ms = int(time.time() * 1000)
        request = RetrainRequest(
            correlation_id=f"{settings.model_name}-manual-{now_ms}",
            model=settings.model_name,
            model_version=champion,
            cause="manual",
            features=(),
            reason=reason,
            from_ms=0,
            until_ms=MAX_TIME_MS,  # producers set event times, which may lie ahead of this clock
            requested_at_ms=now_ms,
            by=os_actor(),
        )
        publish(settings, settings.retrain_requests_topic, [request])
        say(f"requested as {request.correlation_id}; follow it with: tamiz tail model-events")
