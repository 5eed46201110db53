"""`tamiz drift`: what came, against what a model learned from; a file, or the stream by calendar."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from monitoring.drift.drift_report import DriftComparison
    from schemas.configuration.settings import Settings


class Calendar(StrEnum):
    """Over what the stream's panes are added up."""

    day = "day"
    week = "week"
    month = "month"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def drift(
        file: Annotated[Path | None, typer.Argument(help="Transactions: CSV or Parquet.", show_default=False)] = None,
        granularity: Annotated[
            Calendar | None, typer.Option(help="Instead of a file: what the workers counted, by day, week or month.")
        ] = None,
        period: Annotated[
            str | None,
            typer.Option(
                help="With --granularity, the last period to look at: 2026-11-23, 2026-W47 or 2026-11. "
                "Without it, the last that is over.",
                show_default=False,
            ),
        ] = None,
        version: Annotated[int | None, typer.Option(help="Model version; without it, the champion.", min=1)] = None,
        as_json: Annotated[bool, typer.Option("--json", help="For machines: everything, on stdout.")] = False,
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", help="Draw both distributions: .png (the last period) or .html."),
        ] = None,
    ) -> None:
        """Hold FILE, or the stream by --granularity, against what a model learned from: PSI, CSI, KL, JS and KS."""
        from tamiz.terminal import Terminal, say_json

        if (file is None) == (granularity is None):
            raise ConfigError("say what to compare: FILE, or --granularity day, week or month (one of the two)")
        if period and file:
            raise ConfigError(f"--period {period} goes with --granularity; a file is compared whole")
        if output:
            from training.reports.drift_figures import require_report_format

            require_report_format(output)
        settings = config.load()
        with Terminal(stderr=True).status("fetching the model …") as status:
            compared = (
                _of_file(settings, file, version, status.update)
                if file
                else _of_stream(settings, granularity or Calendar.day, period, version, status.update)
            )
            if output:
                status.update("drawing …")
                from training.reports.drift_figures import write_drift_report

                write_drift_report(output, compared)
        if as_json:
            say_json(compared)
        else:
            _show(compared)


def _of_file(settings: "Settings", file: Path, version: int | None, say: "Callable[[str], None]") -> "DriftComparison":
    from monitoring.drift.drift_report import compare
    from schemas.dataset.declaration import load_dataset
    from tamiz.batch.file_counter import count_file
    from training.registry.model_loader import registered_reference

    model, reference = registered_reference(settings, version)
    counted = count_file(file, load_dataset(settings.dataset), model, lambda share: say(f"counting … {share:.0%}"))
    return compare(reference, [counted], model=settings.model_name, model_version=model.version, source=str(file))


def _of_stream(
    settings: "Settings", calendar: Calendar, period: str | None, version: int | None, say: "Callable[[str], None]"
) -> "DriftComparison":
    import time

    from monitoring.drift.calendar import up_to
    from monitoring.drift.drift_report import compare
    from stream_app.monitor.pane_history import read_periods
    from training.registry.model_loader import registered_reference

    model, reference = registered_reference(settings, version)
    periods = read_periods(
        settings,
        reference.bins,
        calendar.value,
        model_version=model.version,
        progress=lambda read, of: say(f"reading panes … {read:,} of {of:,}"),
    )
    periods = up_to(periods, period, now_ms=time.time_ns() // 1_000_000)
    source = settings.drift_panes_topic
    return compare(reference, periods, model=settings.model_name, model_version=model.version, source=source)


def _show(compared: "DriftComparison") -> None:
    from rich import box
    from rich.table import Table

    from monitoring.drift.drift_report import change_summary
    from tamiz.terminal import Terminal
    from training.reports.drift_figures import cells

    console = Terminal()
    for period in compared.periods:
        console.print(change_summary(period))
    last = compared.periods[-1]
    table = Table(
        title=f"{last.name}, {last.rows:,} rows, against {compared.model} version {compared.model_version}",
        title_justify="left",
        box=box.SIMPLE,
        caption="PSI of an input is CSI; surely: its lower bound; moved: that bound is above what is tolerated",
        caption_justify="left",
    )
    # What fits a terminal of 80 columns; --json and --output have the rest.
    for head in ("feature", "PSI", "surely", "tolerated", "KL", "KS", "p of KS", ""):
        table.add_column(head, justify="left" if head == "feature" else "right")
    for feature in last.features:
        name, _, psi, _, surely, tolerated, _, kl, _, ks, p = cells(feature)
        moved = feature.statistics.exceeds
        row = name, psi, surely, tolerated, kl, ks, p, "moved" if moved else ""
        table.add_row(*row, style="red" if moved else None)
    console.print(table)
