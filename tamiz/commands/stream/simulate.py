"""`tamiz simulate`: write synthetic transactions to a file or to the topics."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.configuration import settings as config
from schemas.errors import ConfigError
from schemas.files.output_files import prepare_output

Seed = Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same bytes.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="File to write: CSV (.csv) or JSON lines (.jsonl, .ndjson, .json)."),
]
Rate = Annotated[float | None, typer.Option(min=0.001, help="With --produce: transactions per second.")]
Start = Annotated[str, typer.Option(help="First day, as YYYY-MM-DD.")]
Days = Annotated[int, typer.Option(min=1, help="Number of days.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the command, and `terminals` under it."""

    group = typer.Typer()
    app.add_typer(group, name="simulate")
    _add_terminals(group)

    @group.callback(invoke_without_command=True)
    def simulate(
        context: typer.Context,
        rows: Annotated[int, typer.Option(min=1, help="Number of transactions.")] = 10_000,
        seed: Seed = 0,
        output: Output = None,
        produce: Annotated[bool, typer.Option("--produce", help="Send them to the topic `transactions`.")] = False,
        rate: Rate = None,
        signal: Annotated[
            bool, typer.Option("--signal", help="Make fraud predictable. Default: labels are random.")
        ] = False,
        drift: Annotated[
            list[str] | None,
            typer.Option(
                metavar="KIND[:FEATURE][*STRENGTH]@WHEN",
                help="Inject a drift from WHEN on: a date, or a percentage of the period. May be repeated. Kinds: "
                "mean-shift, new-category, virtual-share, attack, card-testing, concept, missing, lost-decimals.",
            ),
        ] = None,
        payload_format: Annotated[
            str, typer.Option("--format", help="Format of the values: original, plain, json or mixed.")
        ] = "original",
        invalid_share: Annotated[
            float, typer.Option(min=0, max=1, help="Share of payloads that cannot be scored, in [0, 1].")
        ] = 0.0,
        users: Annotated[int, typer.Option(min=1, help="Number of card holders.")] = 4000,
        start: Start = "2020-01-02",
        days: Days = 29,
        as_json: AsJson = False,
    ) -> None:
        """Generate synthetic card transactions, to a file or to the topic.

        They follow the distributions of the real data set, in its inconsistent
        formats. With --signal the summary gives the best attainable ROC AUC.

            tamiz simulate --rows 30000 --signal --output history.csv
            tamiz simulate --rows 10000 --drift mean-shift:monto*0.5@50% --produce

        Read on: docs/tutorial.md.
        """
        if context.invoked_subcommand is not None:
            return
        from stream_app.kafka.replay import Message, connected, send, show_progress
        from tamiz.simulation.drift_injection import read_drift
        from tamiz.simulation.payload_formats import payloads, write
        from tamiz.simulation.simulator import Traffic, attainable_auc, simulate
        from tamiz.terminal import say, say_json

        _check_target(output, produce)
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


def _add_terminals(group: typer.Typer) -> None:
    @group.command()
    def terminals(
        seed: Seed = 0,
        output: Output = None,
        labels: Annotated[
            Path | None,
            typer.Option("--labels", help="CSV file to write the late labels to, for `tamiz train --labels`."),
        ] = None,
        produce: Annotated[
            bool, typer.Option("--produce", help="Send them to the topic `transactions`, and before them their labels.")
        ] = False,
        rate: Rate = None,
        cards: Annotated[int, typer.Option(min=1, help="Number of cards; there are twice as many terminals.")] = 5000,
        start: Start = "2020-01-02",
        days: Days = 29,
        as_json: AsJson = False,
    ) -> None:
        """Generate transactions of cards at terminals, with fraud that only profiles detect.

        For the data set `terminal_transactions`: large amounts, compromised
        terminals, stolen cards, and labels that are reported up to 7 days late.
        A later --start with the same --cards and --seed continues the traffic.
        The summary gives the best attainable ROC AUC: that of an oracle that
        knows every compromised terminal and stolen card.

            tamiz simulate terminals --days 60 --output history.csv
            tamiz simulate terminals --start 2020-03-02 --days 10 --produce

        Read on: docs/data-set.md.
        """
        import numpy as np

        from stream_app.kafka.replay import Message, connected, send, show_progress
        from tamiz.simulation.simulator import attainable_auc
        from tamiz.simulation.terminal_files import (
            keyed_labels,
            keyed_transactions,
            write_labels,
            write_transactions,
        )
        from tamiz.simulation.terminal_simulator import SCENARIOS, TerminalTraffic, simulate_terminals
        from tamiz.terminal import say, say_json

        _check_target(output, produce)
        if labels is not None:
            prepare_output(labels)
        traffic = TerminalTraffic(days=days, cards=cards, start_ms=_day_ms(start), seed=seed)
        simulated = simulate_terminals(traffic)
        rows = len(simulated.labels)
        if output is not None:
            write_transactions(simulated, output)
        if labels is not None:
            write_labels(simulated, labels)
        if produce:
            settings = config.load()
            with connected(settings.bootstrap) as producer:
                for topic, records, pace in (
                    (settings.labels_topic, keyed_labels(simulated), None),
                    (settings.transactions_topic, keyed_transactions(simulated), rate),
                ):
                    messages = (Message(key, value, None) for key, value in records)
                    send(producer, topic, show_progress(messages, rows, quiet=as_json), pace)
        counts = np.bincount(simulated.scenarios, minlength=len(SCENARIOS)).tolist()
        shares = {name: count / max(rows, 1) for name, count in zip(SCENARIOS[1:], counts[1:], strict=True)}
        to = str(output) if output else config.load().transactions_topic
        best = attainable_auc(simulated.probability) if simulated.probability.any() else None
        if as_json:
            say_json({"rows": rows, "seed": seed, "fraud_shares": shares, "attainable_auc": best, "to": to}, indent=-1)
            return
        fraud = ", ".join(f"{share:.2%} {scenario}" for scenario, share in shares.items())
        auc = f"; the best attainable ROC AUC is {best:.4f}" if best is not None else ""
        say(f"{rows:,} transactions to {to}; fraud: {fraud}{auc}")


def _check_target(output: Path | None, produce: bool) -> None:
    if (output is None) != produce:
        raise ConfigError("give exactly one of --output FILE and --produce")
    if output is not None:
        prepare_output(output)


def _day_ms(text: str) -> int:
    from datetime import UTC, datetime

    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"--start {text!r}: expected a day as YYYY-MM-DD") from None
    return int(day.timestamp() * 1000)
