"""`tamiz produce`: send a file's transactions to the topic."""

import time
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def produce(
        file: Annotated[
            Path,
            typer.Argument(exists=True, dir_okay=False, help="CSV, Parquet or JSON lines (.jsonl, .ndjson, .json)."),
        ],
        rate: Annotated[float | None, typer.Option(min=0.001, help="Records per second. Default: no limit.")] = None,
        limit: Annotated[int | None, typer.Option(min=1, help="Send at most this many records.")] = None,
        topic: Annotated[str | None, typer.Option(help="Topic to send to. Default: `transactions_topic`.")] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    ) -> None:
        """Send a file's transactions to the topic, keyed by card holder, with their event times.

        An event older than the topic's retention gets the current time as its
        record timestamp, or the broker would delete it at once. Its payload keeps
        the event time. The file is checked first: of a malformed CSV, nothing is
        sent. JSON lines are sent as they are, also invalid ones.

            tamiz produce history.csv --rate 1000

        Read on: docs/produce.md.
        """
        from schemas.dataset.declaration import load_dataset
        from stream_app.kafka.replay import connected, plan, send, show_progress, topic_retention_ms
        from tamiz.batch.file_payloads import check_file, file_payloads
        from tamiz.terminal import say, say_json, warn_missing_columns

        settings = config.load()
        dataset = load_dataset(settings.dataset)
        missing = check_file(file, dataset, limit)
        warn_missing_columns(file, missing)
        to = topic or settings.transactions_topic
        with connected(settings.bootstrap) as producer:
            messages = plan(
                islice(file_payloads(file, dataset), limit),
                dataset,
                now_ms=lambda: int(time.time() * 1000),
                retention_ms=topic_retention_ms(settings.bootstrap, to),
            )
            sent = send(producer, to, show_progress(messages, limit, quiet=as_json), rate)
        if as_json:
            say_json(sent._asdict() | {"missing_columns": missing}, indent=-1)
            return
        behind = f", at most {sent.max_behind_ms:,.0f} ms behind the schedule" if rate else ""
        say(f"{sent.records:,} records to {to} in {sent.seconds:,.1f} s ({sent.records_per_s:,.0f}/s{behind})")
