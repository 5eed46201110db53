"""`tamiz drift`: compare a file, or the stream by day, week or month, with a model's training data."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config
from schemas.errors import ConfigError
from tamiz.batch.file_options import History, Labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from monitoring.drift.drift_report import DriftComparison
    from schemas.configuration.settings import Settings
    from training.data.file_profiles import ProfileFiles


class Calendar(StrEnum):
    """Calendar period over which panes are summed."""

    day = "day"
    week = "week"
    month = "month"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def drift(
        file: Annotated[Path | None, typer.Argument(help="CSV, Parquet or JSON lines.", show_default=False)] = None,
        history: History = None,
        labels: Labels = None,
        granularity: Annotated[
            Calendar | None, typer.Option(help="Compare the stream instead of FILE, summed by day, week or month.")
        ] = None,
        period: Annotated[
            str | None,
            typer.Option(
                help="With --granularity: last period to include, as 2026-11-23, 2026-W47 or 2026-11. "
                "Default: the last complete one.",
                show_default=False,
            ),
        ] = None,
        version: Annotated[int | None, typer.Option(help="Model version. Default: the champion.", min=1)] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print all statistics as JSON.")] = False,
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", help="Plot both distributions: .png (last period) or .html (all)."),
        ] = None,
    ) -> None:
        """Compare FILE, or the stream, with a model's training data: PSI, CSI, KL, JS, KS.

        A file is compared as a whole. The stream is compared by UTC calendar, from
        what the workers counted on `drift-panes`.

            tamiz drift recent.csv --output drift.html
            tamiz drift --granularity week

        Read on: docs/drift.md.
        """
        from schemas.dataset.declaration import load_dataset
        from schemas.extras import require_extra
        from schemas.files.output_files import prepare_output
        from tamiz.terminal import Terminal, say_json, warn_empty_profiles, warn_missing_columns
        from training.data.file_profiles import ProfileFiles

        if (file is None) == (granularity is None):
            raise ConfigError("give exactly one of FILE and --granularity day, week or month")
        if period and file:
            raise ConfigError(f"--period {period} needs --granularity; a file is compared as a whole")
        if (history or labels) and not file:
            raise ConfigError("--history and --labels need FILE; workers have counted the stream with its profiles")
        if output:
            require_extra("figures", needed_by="tamiz drift --output")
            from training.reports.drift_figures import require_report_format

            require_report_format(output)
            prepare_output(output)
        settings = config.load()
        with Terminal(stderr=True).status("fetching the model …") as status:
            compared = (
                _of_file(settings, file, ProfileFiles(history, labels), version, status.update)
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
            print_table(compared)
        if file:
            warn_missing_columns(file, compared.missing_columns)
            warn_empty_profiles(file, load_dataset(settings.dataset), history)


def _of_file(
    settings: "Settings", file: Path, files: "ProfileFiles", version: int | None, say: "Callable[[str], None]"
) -> "DriftComparison":
    import msgspec

    from monitoring.drift.drift_report import compare_periods
    from schemas.dataset.declaration import load_dataset
    from tamiz.batch.file_counter import count_file
    from training.registry.model_loader import registered_reference

    model, reference = registered_reference(settings, version)
    counted = count_file(
        file, load_dataset(settings.dataset), model, files, lambda step, share: say(f"{step} … {share:.0%}")
    )
    compared = compare_periods(
        reference, [counted.period], model=settings.model_name, model_version=model.version, source=str(file)
    )
    return msgspec.structs.replace(compared, missing_columns=counted.missing_columns)


def _of_stream(
    settings: "Settings", calendar: Calendar, period: str | None, version: int | None, say: "Callable[[str], None]"
) -> "DriftComparison":
    import time

    from monitoring.drift.calendar import periods_until
    from monitoring.drift.drift_report import compare_periods
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
    periods = periods_until(periods, period, now_ms=time.time_ns() // 1_000_000)
    source = settings.drift_panes_topic
    return compare_periods(reference, periods, model=settings.model_name, model_version=model.version, source=source)


def print_table(compared: "DriftComparison") -> None:
    """Print the last period as a table, after one summary line per period."""
    from rich import box
    from rich.table import Table

    from monitoring.drift.drift_report import cells, change_summary
    from tamiz.terminal import Terminal

    console = Terminal()
    for period in compared.periods:
        console.print(change_summary(period))
    last = compared.periods[-1]
    table = Table(
        title=f"{last.name}, {last.rows:,} rows, against {compared.model} version {compared.model_version}",
        title_justify="left",
        box=box.SIMPLE,
        caption="PSI of an input is its CSI. low: lower confidence bound of the PSI. limit: tolerated PSI. "
        "drift: low exceeds limit",
        caption_justify="left",
    )
    # Only what fits 80 columns; --json and --output have the rest.
    for head in ("feature", "PSI", "low", "limit", "KL", "KS", "p of KS", ""):
        table.add_column(head, justify="left" if head == "feature" else "right")
    for feature in last.features:
        name, _, psi, _, low, limit, _, kl, _, ks, p = cells(feature)
        exceeds = feature.statistics.exceeds
        row = name, psi, low, limit, kl, ks, p, "drift" if exceeds else ""
        table.add_row(*row, style="red" if exceeds else None)
    console.print(table)
