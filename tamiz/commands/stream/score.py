"""`tamiz score`: score a file of transactions in batch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config

if TYPE_CHECKING:
    from tamiz.batch.batch_scoring import BatchResult


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def score(
        file: Annotated[
            Path,
            typer.Argument(help="CSV, Parquet or JSON lines (.jsonl, .ndjson, .json).", show_default=False),
        ],
        output: Annotated[
            Path,
            typer.Option(
                "--output",
                "-o",
                help="Decisions to write, .csv or .parquet. Rejected rows of a CSV go to NAME.rejected.csv, "
                "others to NAME.rejected.jsonl.",
            ),
        ],
        version: Annotated[int | None, typer.Option(help="Model version. Default: the champion.", min=1)] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    ) -> None:
        """Score every row of FILE as a worker would, in constant memory.

        Uses no broker. Rows that cannot be scored go to a second file with the
        reason.

            tamiz score history.csv --output decisions.csv

        Read on: docs/data-set.md.
        """
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from schemas.dataset.declaration import load_dataset
        from schemas.errors import TrainingError
        from schemas.files.output_files import prepare_output
        from tamiz.batch.batch_scoring import score_file
        from tamiz.terminal import Terminal, say_json, warn_missing_columns
        from training.registry.model_loader import registered_model

        prepare_output(output)
        settings = config.load()
        dataset = load_dataset(settings.dataset)
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=Terminal(stderr=True)
        )
        with bar:
            task = bar.add_task("fetching the model …", total=1.0)
            model = registered_model(settings, version)
            bar.update(task, description="scoring …")
            scored = score_file(file, output, dataset, model, read=lambda share: bar.update(task, completed=share))
        if as_json:
            say_json(scored)
        else:
            _print_summary(scored)
        warn_missing_columns(file, scored.missing_columns)
        if scored.rows and not scored.decided:
            raise TrainingError(f"{file}: all {scored.rows:,} rows are rejected, {scored.commonest_rejection}")


def _print_summary(scored: "BatchResult") -> None:
    from tamiz.terminal import say

    outcomes = ", ".join(f"{name} {count:,}" for name, count in scored.outcomes.items())
    say(f"{scored.rows:,} rows scored with {scored.model} version {scored.model_version}: {outcomes}")
    say(f"decisions: {scored.decisions_file}")
    if scored.rejected_file:
        codes = ", ".join(f"{code} {count:,}" for code, count in scored.rejections.items())
        say(f"rejected: {scored.rejected:,} rows ({codes}) in {scored.rejected_file}; correct and score them again")
