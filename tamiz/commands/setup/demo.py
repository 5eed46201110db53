"""`tamiz demo`: everything end to end, and a summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from tamiz.demo.demo_run import Summary
    from tamiz.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        rows: Annotated[int, typer.Option(help="Transactions to send.", min=1)] = 20_000,
        rate: Annotated[float, typer.Option(help="Transactions per second.", min=1)] = 1_000,
        json_file: Annotated[
            Path | None, typer.Option("--json", help="Write the summary here, for machines.", metavar="FILE")
        ] = None,
    ) -> None:
        """See all of it: a champion is trained, decides traffic with broken payloads in it, and then customers change.

        The drift is noticed, a new version is trained, proves itself and takes over while the worker runs.
        Runs on an embedded broker, or on topics of its own where TAMIZ_BOOTSTRAP_SERVERS names a cluster. The registry
        and the worker's log stay in STATE_DIR/demo; nothing is left running.
        """
        import uuid
        from contextlib import ExitStack

        import msgspec

        from schemas.files.private_files import private_folder
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
            topics = [n for n in settings.__struct_fields__ if n.endswith("_topic")]
            its_own = msgspec.structs.replace(
                settings,
                bootstrap_servers=bootstrap,
                state_dir=folder,
                consumer_group=f"demo-{mark}",
                web_port=free_port(),
                dashboard_port=free_port(),
                monitor_port=free_port(),
                **{name: f"demo-{mark}-{getattr(settings, name)}" for name in topics},
            )
            summary = run(its_own, folder, rows, rate, console)
        if json_file is not None:
            json_file.write_bytes(msgspec.json.format(msgspec.json.encode(summary)))
        _show(console, summary)


def _show(console: "Terminal", summary: "Summary") -> None:
    from rich.table import Table

    shown = Table(title="What came of it", show_header=False, title_justify="left")
    shown.add_column(style="bold")
    shown.add_column()
    shown.add_row("transactions in", f"{summary.transactions:,}, the first of them at {summary.rate_per_s:,.0f}/s")
    for outcome in ("approve", "review", "decline"):
        shown.add_row(outcome, f"{summary.outcomes.get(outcome, 0):,}")
    why = ", ".join(f"{n} {code}" for code, n in summary.dead_letter_codes.items())
    shown.add_row("dead letters", f"{summary.dead_letters:,} ({why})" if why else "0")
    shown.add_row("sent to decided", f"p50 {summary.latency.p50_ms} ms, p99 {summary.latency.p99_ms} ms")
    forced = ", forced" if summary.forced else ""
    shown.add_row("champion at last", f"{summary.model} version {summary.model_version}{forced}")
    for step in summary.story:
        shown.add_row(f"at {step.after_s} s", f"{step.step}")
    shown.add_row("took", f"{summary.seconds} s")
    console.print(shown)
    console.print("The model, its run and its measures, in MLflow's pages:")
    console.print(f"  {summary.mlflow_ui}", soft_wrap=True)
