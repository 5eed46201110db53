"""`tamiz score`: a file of transactions to a file of decisions."""

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
        file: Annotated[Path, typer.Argument(help="Transactions: CSV or Parquet.", show_default=False)],
        output: Annotated[
            Path,
            typer.Option("--output", "-o", help="The decisions: .csv or .parquet; NAME.rejected.csv stands beside."),
        ],
        version: Annotated[int | None, typer.Option(help="Model version; without it, the champion.", min=1)] = None,
        as_json: Annotated[bool, typer.Option("--json", help="For machines: the summary, on stdout.")] = False,
    ) -> None:
        """Decide every row of FILE as a worker would, in memory that does not grow with it."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from schemas.dataset.declaration import load_dataset
        from tamiz.batch.batch_scoring import score_file
        from tamiz.terminal import Terminal, say_json
        from training.registry.model_loader import registered_model

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
            _show(scored)


def _show(scored: "BatchResult") -> None:
    from tamiz.terminal import say

    outcomes = ", ".join(f"{name} {count:,}" for name, count in scored.outcomes.items())
    say(f"{scored.rows:,} rows by {scored.model} version {scored.model_version}: {outcomes}")
    say(f"decisions: {scored.decisions_file}")
    if scored.rejected_file:
        codes = ", ".join(f"{code} {count:,}" for code, count in scored.rejections.items())
        say(f"rejected: {scored.rejected:,} rows ({codes}) in {scored.rejected_file}; mend and score them again")
