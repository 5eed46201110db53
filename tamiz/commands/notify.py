"""`tamiz notify`: try the receivers of notifications."""

from typing import Annotated

import typer

from schemas import settings as config
from schemas.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    notify = typer.Typer(no_args_is_help=True, help="Try who is told of alerts and of model versions.")
    app.add_typer(notify, name="notify")

    @notify.callback()
    def group() -> None:
        """Try who is told of alerts and of model versions."""

    @notify.command()
    def test(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
        """Send one test notification to every receiver that is set, once; exit code 1 when one did not take it."""
        import threading
        import time

        from monitoring.notices import Notification
        from tamiz.delivery import ONCE, deliver
        from tamiz.receivers import receivers
        from tamiz.terminal import Terminal, say_json

        settings = config.load()
        now_ms = int(time.time() * 1000)
        notice = Notification(
            id=f"test-{now_ms}",
            alias="tamiz-test",
            change="test",
            severity="info",
            title=f"{settings.model}: a test",
            text="Whoever reads this is told of alerts and of model versions.",
            model=settings.model,
            model_version=None,
            happened_at_ms=now_ms,
        )
        found = receivers(settings, lambda notice: None)
        if not found:
            raise ConfigError("there is nobody to tell; set slack_webhook, smtp_host or webhook_url")
        never = threading.Event()
        deliveries = [d for r in found if (d := deliver(r, notice, ONCE, never)) is not None]
        if as_json:
            rows = [
                {"receiver": d.receiver.name, "at": d.receiver.where, "told": not d.problem, "problem": d.problem}
                for d in deliveries
            ]
            say_json(rows, indent=-1)
        else:
            from rich.table import Table
            from rich.text import Text

            table = Table("receiver", "at", "told from", "what became of it")
            for d in deliveries:
                became = Text(d.problem, "red") if d.problem else Text("told", "green")
                table.add_row(d.receiver.name, d.receiver.where, d.receiver.least, became)
            Terminal().print(table)
        if any(d.problem for d in deliveries):
            raise typer.Exit(1)
