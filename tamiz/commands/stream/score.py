"""`tamiz score`: score a file of transactions in batch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config
from tamiz.batch.file_options import History, Labels

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
        history: History = None,
        labels: Labels = None,
        profiles: Annotated[
            bool, typer.Option("--profiles", help="Also write the values of profile features.")
        ] = False,
        rules: Annotated[
            Path | None,
            typer.Option(help="File of rules that decide with the model; their lists are empty.", show_default=False),
        ] = None,
        version: Annotated[int | None, typer.Option(help="Model version. Default: the champion.", min=1)] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    ) -> None:
        """Score every row of FILE as a worker would.

        Uses no broker, and constant memory. Rows that cannot be scored go to a
        second file with the reason.

        With profiles, FILE is read twice, and memory grows by about 100 bytes a
        row. Rows are folded in order of event time; their order in FILE is free.
        Labels count in profiles only, each after its delay.

            tamiz score recent.csv --output decisions.csv
            tamiz score recent.csv --history history.csv --output decisions.csv
            tamiz score recent.csv --rules rules.toml --output decisions.csv

        Read on: docs/data-set.md.
        """
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from schemas.dataset.declaration import load_dataset
        from schemas.errors import TrainingError
        from schemas.files.output_files import prepare_output
        from scoring.rules.ruleset import compile_ruleset
        from tamiz.batch.batch_scoring import score_file
        from tamiz.services.rules_file import read_rules_file
        from tamiz.terminal import Terminal, say_json, warn_empty_profiles, warn_missing_columns
        from training.data.file_profiles import ProfileFiles
        from training.registry.model_loader import registered_model

        settings = config.load()
        dataset = load_dataset(settings.dataset)
        compiled = None if rules is None else compile_ruleset(read_rules_file(rules), dataset)
        prepare_output(output)
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=Terminal(stderr=True),
            transient=True,
        )
        with bar:
            task = bar.add_task("fetching the model …", total=1.0)
            model = registered_model(settings, version)
            scored = score_file(
                file,
                output,
                dataset,
                model,
                files=ProfileFiles(history, labels),
                write_profiles=profiles,
                rules=compiled,
                progress=lambda step, share: bar.update(task, description=f"{step} …", completed=share),
            )
        if as_json:
            say_json(scored)
        else:
            _print_summary(scored)
        warn_missing_columns(file, scored.missing_columns)
        warn_empty_profiles(file, dataset, history)
        if scored.rows and not scored.decided:
            raise TrainingError(f"{file}: all {scored.rows:,} rows are rejected, {scored.commonest_rejection}")


def _print_summary(scored: "BatchResult") -> None:
    from tamiz.terminal import say

    outcomes = ", ".join(f"{name} {count:,}" for name, count in scored.outcomes.items())
    say(f"{scored.rows:,} rows scored with {scored.model} version {scored.model_version}: {outcomes}")
    if scored.late_labels:
        say(f"late labels: {scored.late_labels.summary}")
    say(f"decisions: {scored.decisions_file}")
    if scored.rejected_file:
        codes = ", ".join(f"{code} {count:,}" for code, count in scored.rejections.items())
        say(f"rejected: {scored.rejected:,} rows ({codes}) in {scored.rejected_file}; correct and score them again")
