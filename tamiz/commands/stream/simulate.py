"""`tamiz simulate`: synthetic transactions, to a file or to the topic."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.configuration import settings as config
from schemas.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def simulate(
        rows: Annotated[int, typer.Option(min=1, help="How many transactions.")],
        seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
        output: Annotated[
            Path | None, typer.Option(help="Write here: .csv, or JSON lines under any other name.")
        ] = None,
        produce: Annotated[bool, typer.Option("--produce", help="Send them to the transactions topic.")] = False,
        rate: Annotated[float | None, typer.Option(min=0.001, help="With --produce: transactions per second.")] = None,
        signal: Annotated[bool, typer.Option("--signal", help="Fraud can be learned; else labels are noise.")] = False,
        drift: Annotated[
            list[str] | None,
            typer.Option(
                metavar="KIND[:FEATURE][*STRENGTH]@WHEN",
                help="Plant a drift from WHEN on, a date or a percentage of the period; may be repeated. Kinds: "
                "mean-shift, new-category, virtual-share, attack, concept, missing, lost-decimals.",
            ),
        ] = None,
        payload_format: Annotated[
            str, typer.Option("--format", help="How values are written: original, plain, json or mixed.")
        ] = "original",
        invalid_share: Annotated[
            float, typer.Option(min=0, max=1, help="Share of payloads that cannot be scored.")
        ] = 0.0,
        users: Annotated[int, typer.Option(min=1, help="How many card holders.")] = 4000,
        start: Annotated[str, typer.Option(help="The first day, as 2020-01-02.")] = "2020-01-02",
        days: Annotated[int, typer.Option(min=1, help="Over how many days they spread.")] = 29,
        as_json: Annotated[bool, typer.Option("--json", help="The closing summary for machines.")] = False,
    ) -> None:
        """Simulate card transactions by the rules of the real data set, in its messy formats.

        With --signal the summary says which ROC AUC no model can beat.
        """
        from stream_app.kafka.replay import Message, connected, send, show_progress
        from tamiz.simulation.drift_injection import read_drift
        from tamiz.simulation.payload_formats import payloads, write
        from tamiz.simulation.simulator import Traffic, attainable_auc, simulate
        from tamiz.terminal import say, say_json

        if (output is None) != produce:
            raise ConfigError("say where they go: --output FILE or --produce (one of the two)")
        start_ms = _day_ms(start)
        traffic = Traffic(
            rows=rows,
            seed=seed,
            users=users,
            start_ms=start_ms,
            days=days,
            signal=signal,
            drift=tuple(read_drift(text, start_ms=start_ms, days=days) for text in drift or ()),
            payload_format=payload_format,
            invalid_share=invalid_share,
        )
        simulated = simulate(traffic)
        if output is not None:
            write(traffic, simulated, output)
        else:
            settings = config.load()
            messages = (
                Message(key, value, None)
                for keys, values in payloads(traffic, simulated)
                for key, value in zip(keys, values, strict=True)
            )
            with connected(settings.bootstrap) as producer:
                send(producer, settings.transactions_topic, show_progress(messages, rows, quiet=as_json), rate)
        summary = {
            "rows": rows,
            "seed": seed,
            "fraud_share": float(simulated.labels.mean()),
            "attainable_auc": attainable_auc(simulated.probability) if signal else None,
            "to": str(output) if output else config.load().transactions_topic,
        }
        if as_json:
            say_json(summary, indent=-1)
            return
        auc = f"; the best attainable ROC AUC is {summary['attainable_auc']:.4f}" if signal else ""
        say(f"{rows:,} transactions to {summary['to']}, {summary['fraud_share']:.2%} of them fraud{auc}")


def _day_ms(text: str) -> int:
    from datetime import UTC, datetime

    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"--start {text!r}: wanted a day as 2020-01-02") from None
    return int(day.timestamp() * 1000)
