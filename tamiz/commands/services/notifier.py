"""`tamiz notifier`: send alerts and model events to people."""

from typing import Annotated

import typer

from schemas.configuration import settings as config
from schemas.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command, and `test` under it."""

    notifier = typer.Typer()
    app.add_typer(notifier, name="notifier")

    @notifier.callback(invoke_without_command=True)
    def run(context: typer.Context) -> None:
        """Send drift alerts and model events to people, on every channel that is configured.

        Start exactly one. Delivered notifications are not sent again after a
        restart. Runs until SIGTERM or Ctrl-C.

            tamiz notifier
            tamiz notifier test

        Read on: docs/notifications.md.
        """
        if context.invoked_subcommand is not None:
            return
        import logging
        import threading

        from stream_app.lifecycle.logging_setup import start_logging
        from stream_app.lifecycle.stop_deadline import StopDeadline, stop_on_signals
        from tamiz.notifications.notifier import serve

        settings = config.load()
        start_logging(settings)
        stop = threading.Event()
        stop_on_signals(stop, StopDeadline(settings, "undelivered notifications are sent at the next start"))
        log = logging.getLogger("tamiz.notifier")
        serve(settings, stop, ready=lambda: log.info("ready; sending new notifications"))

    @notifier.command()
    def test(as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False) -> None:
        """Send one test notification to every configured channel. Exit code 1 if one fails.

        Example:

            tamiz notifier test

        Read on: docs/notifications.md.
        """
        import threading
        import time

        from monitoring.alerting.notification import Notification
        from tamiz.notifications.channels.catalogue import SETTING_NAMES, channels
        from tamiz.notifications.retry import NO_RETRY, deliver
        from tamiz.terminal import Terminal, say_json

        settings = config.load()
        now_ms = int(time.time() * 1000)
        notice = Notification(
            id=f"test-{now_ms}",
            alias="tamiz-test",
            change="test",
            severity="info",
            title=f"{settings.model_name}: a test",
            text="This channel receives drift alerts and model events.",
            model=settings.model_name,
            model_version=None,
            happened_at_ms=now_ms,
        )
        found = channels(settings, lambda notice: None)
        if not found:
            raise ConfigError(f"no notification channel is configured; set {SETTING_NAMES}")
        never = threading.Event()
        deliveries = [d for c in found if (d := deliver(c, notice, NO_RETRY, never)) is not None]
        if as_json:
            rows = [
                {
                    "channel": d.channel.name,
                    "address": d.channel.where,
                    "delivered": not d.problem,
                    "problem": d.problem,
                }
                for d in deliveries
            ]
            say_json(rows, indent=-1)
        else:
            from rich.table import Table
            from rich.text import Text

            table = Table("channel", "address", "minimum severity", "result")
            for d in deliveries:
                result = Text(d.problem, "red") if d.problem else Text("delivered", "green")
                table.add_row(d.channel.name, d.channel.where, d.channel.min_severity, result)
            Terminal().print(table)
        if any(d.problem for d in deliveries):
            raise typer.Exit(1)
