"""`tamiz tail`: print a topic's records as they arrive."""

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
        from_beginning: Annotated[
            bool, typer.Option("--from-beginning", help="Also print what the topic already holds.")
        ] = False,
        limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many records.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    ) -> None:
        """Print a topic's records as they arrive, until Ctrl-C. Commits no offsets.

        Example:

            tamiz tail decisions
            tamiz tail drift-alerts --from-beginning --limit 1 --json

        Read on: docs/consume.md, docs/reference/topics.md.
        """
        from schemas.dataset.declaration import load_dataset
        from schemas.topics import topic_table
        from stream_app.kafka.topic_reader import assigned
        from tamiz.services.record_format import json_line, text_line
        from tamiz.terminal import Terminal

        settings = config.load()
        names = {t.role: t.name for t in topic_table(settings)}
        if topic not in names:
            raise ConfigError(f"topic {topic!r} does not exist; choose one of {', '.join(names)}")
        dataset = load_dataset(settings.dataset) if topic == "feature-log" else None
        console = Terminal(soft_wrap=True)
        over = threading.Event()
        try:
            with assigned(settings.bootstrap, names[topic], from_beginning=from_beginning) as consumer:
                # A KeyboardInterrupt inside the client would leave it in an undefined state and print a traceback.
                signal.signal(signal.SIGINT, lambda *_: over.set())
                for record in _records(consumer, limit, over):
                    if as_json:
                        sys.stdout.buffer.write(json_line(record) + b"\n")
                        sys.stdout.flush()
                    else:
                        console.print(text_line(record, topic, dataset))
        except KeyboardInterrupt:
            return
        except BrokenPipeError:
            # The reader of our output has exited. Python would raise again when it flushes standard output at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _records(consumer: Any, limit: int | None, over: threading.Event) -> Iterator[Any]:
    printed = 0
    while not over.is_set():
        for records in consumer.poll(timeout_ms=500).values():
            for record in records:
                if over.is_set():
                    return
                yield record
                printed += 1
                if printed == limit:
                    return
