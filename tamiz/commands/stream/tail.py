"""`tamiz tail`: watch a topic."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from schemas.configuration import settings as config
from schemas.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def tail(
        topic: Annotated[str, typer.Argument(help="decisions, dead-letters, drift-alerts, transactions, ...")],
        from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Not only what comes now.")] = False,
        limit: Annotated[int | None, typer.Option(min=1, help="End after so many records.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object a line.")] = False,
    ) -> None:
        """Print one readable line for each record of a topic, until Ctrl-C. Nothing is committed."""
        from schemas.topics import table
        from stream_app.kafka.topic_reader import assigned
        from tamiz.services.record_format import json_line, pretty
        from tamiz.terminal import Terminal

        settings = config.load()
        names = {t.role: t.name for t in table(settings)}
        if topic not in names:
            raise ConfigError(f"there is no topic called {topic!r}; there are {', '.join(names)}")
        console = Terminal(soft_wrap=True)
        over = threading.Event()
        try:
            with assigned(settings.bootstrap, names[topic], from_beginning=from_beginning) as consumer:
                # A KeyboardInterrupt in the midst of the client's own work would leave it half done, and noisy.
                signal.signal(signal.SIGINT, lambda *_: over.set())
                for record in _records(consumer, limit, over):
                    if as_json:
                        sys.stdout.buffer.write(json_line(record) + b"\n")
                        sys.stdout.flush()
                    else:
                        console.print(pretty(record, topic))
        except KeyboardInterrupt:
            return
        except BrokenPipeError:
            # Whoever read our lines has gone; Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _records(consumer: Any, limit: int | None, over: threading.Event) -> Iterator[Any]:
    shown = 0
    while not over.is_set():
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                if over.is_set():
                    return
                yield record
                shown += 1
                if shown == limit:
                    return
