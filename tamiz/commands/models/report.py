"""`tamiz report`: write the PDF report of one model version."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.configuration import settings as config
from tamiz.batch.file_options import History, Labels


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def report(
        file: Annotated[Path, typer.Argument(help="Transactions: CSV, Parquet or JSON lines; labels are optional.")],
        history: History = None,
        labels: Labels = None,
        version: Annotated[int | None, typer.Option(help="Model version. Default: the champion.", min=1)] = None,
        output: Annotated[Path, typer.Option("--output", "-o", help="PDF to write.")] = Path("report.pdf"),
    ) -> None:
        """Write a PDF report of a model version, for risk officers and auditors.

        It holds the training data, metrics with intervals, figures, operating
        points, a backtest on FILE, and a comparison with the champion.

            tamiz report history.csv --version 2 --output report.pdf

        Read on: docs/approve.md.
        """
        from datetime import UTC, datetime

        from schemas.extras import require_extra
        from schemas.files.output_files import prepare_output
        from tamiz.terminal import Terminal, say, warn_empty_profiles

        require_extra("training", needed_by="tamiz report")
        prepare_output(output)
        settings = config.load()
        with Terminal(stderr=True).status("starting") as status:
            from schemas.dataset.declaration import load_dataset
            from training.data.file_profiles import ProfileFiles
            from training.reports.report_builder import report_version

            dataset = load_dataset(settings.dataset)
            done = report_version(
                settings,
                dataset,
                version,
                file,
                output,
                files=ProfileFiles(history, labels),
                now=datetime.now(UTC),
                progress=lambda name: status.update(f"{name} …"),
            )
        say(done.gate.summary)
        say(f"report: {output}")
        warn_empty_profiles(file, dataset, history)
