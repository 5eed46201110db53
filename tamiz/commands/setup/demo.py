"""`tamiz demo`: run everything end to end and print a summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from tamiz.demo.demo_run import DemoSummary
    from tamiz.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        rows: Annotated[int, typer.Option(help="Number of transactions to send.", min=1)] = 20_000,
        rate: Annotated[float, typer.Option(help="Transactions per second.", min=1)] = 1_000,
        json_file: Annotated[
            Path | None, typer.Option("--json", help="Write the summary to this file as JSON.", metavar="FILE")
        ] = None,
    ) -> None:
        """Run everything end to end: train, score, block an attack, retrain, swap.

        Trains a champion and scores traffic that includes invalid payloads. Then
        stolen cards are used: an alert names them, and a list blocks them. Then
        the customers change: the monitor detects the drift, the retrainer trains
        a better version, and the worker switches to it while it runs. At the end,
        two models of another data set show what profiles change.

        Uses a temporary broker, or topics of its own on the cluster that
        TAMIZ_BOOTSTRAP_SERVERS names. Leaves the model registry and the worker's
        log in `state_dir`/demo, and no process.

            tamiz demo --rows 20000 --rate 1000

        Read on: docs/tutorial.md.
        """
        import uuid
        from contextlib import ExitStack

        import msgspec

        from schemas.extras import require_extra
        from schemas.files.private_files import private_folder
        from schemas.topics import with_own_topics

        require_extra("training", needed_by="tamiz demo")
        from tamiz.demo.demo_run import run
        from tamiz.dev_broker.embedded_broker import broker_or_embedded, free_port
        from tamiz.terminal import Terminal

        settings = config.load()
        console = Terminal()
        with ExitStack() as stack:
            with console.status("starting Apache Kafka"):
                bootstrap = stack.enter_context(broker_or_embedded(settings))
            mark = uuid.uuid4().hex[:6]
            folder = settings.state_dir.resolve() / "demo"
            private_folder(folder)
            its_own = msgspec.structs.replace(
                with_own_topics(settings, f"demo-{mark}-"),
                bootstrap_servers=bootstrap,
                state_dir=folder,
                consumer_group=f"demo-{mark}",
                web_port=free_port(),
                dashboard_port=free_port(),
                monitor_port=free_port(),
            )
            summary = run(its_own, folder, rows, rate, console)
        if json_file is not None:
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(summary)))
        _print_table(console, summary)


def _print_table(console: "Terminal", summary: "DemoSummary") -> None:
    from rich.table import Table

    from scoring.decision import OUTCOMES

    table = Table(title="Summary", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_row("transactions sent", f"{summary.transactions:,}, the first of them at {summary.rate_per_s:,.0f}/s")
    for outcome in OUTCOMES:
        table.add_row(outcome, f"{summary.outcomes.get(outcome, 0):,}")
    codes = ", ".join(f"{n} {code}" for code, n in summary.dead_letter_codes.items())
    table.add_row("dead letters", f"{summary.dead_letters:,} ({codes})" if codes else "0")
    table.add_row("latency, send to decision", f"p50 {summary.latency.p50_ms} ms, p99 {summary.latency.p99_ms} ms")
    forced = ", forced" if summary.forced else ""
    table.add_row("champion at the end", f"{summary.model} version {summary.model_version}{forced}")
    for step in summary.story:
        table.add_row(f"at {step.after_s} s", f"{step.step}")
    gain = summary.profiles
    table.add_row(
        f"card precision@{gain.per_day} on later days",
        f"{gain.card_precision:.3f} with profiles, {gain.card_precision_without:.3f} without; "
        f"attainable {gain.attainable_card_precision:.3f}",
    )
    table.add_row(
        f"value detected at {gain.per_day} reviews a day",
        f"{gain.value_detected:.0%} with profiles, {gain.value_detected_without:.0%} without",
    )
    table.add_row("duration", f"{summary.seconds} s")
    console.print(table)
    console.print("To see the model, its run and its metrics in MLflow:")
    console.print(f"  {summary.mlflow_ui}", soft_wrap=True)
