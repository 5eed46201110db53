"""`tamiz report`: a PDF of one model version, for the person who answers for it."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.configuration import settings as config


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def report(
        file: Annotated[Path, typer.Argument(help="Transactions: CSV or Parquet, labels where known.")],
        version: Annotated[int | None, typer.Option(help="Model version; without it, the champion.", min=1)] = None,
        output: Annotated[Path, typer.Option("--output", "-o", help="The PDF to write.")] = Path("report.pdf"),
    ) -> None:
        """Write a PDF of a version: its data, measures, figures, operating points, backtest, and what changed."""
        from datetime import UTC, datetime

        from tamiz.terminal import Terminal, say

        settings = config.load()
        with Terminal(stderr=True).status("starting") as status:
            from schemas.dataset.declaration import load_dataset
            from training.reports.report_builder import report_version

            done = report_version(
                settings,
                load_dataset(settings.dataset),
                version,
                file,
                output,
                now=datetime.now(UTC),
                progress=lambda name: status.update(f"{name} …"),
            )
        say(done.gate.summary)
        say(str(output))
