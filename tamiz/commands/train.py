"""`tamiz train`: from a labelled file to the champion."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas import settings as config

if TYPE_CHECKING:
    from rich.console import Console

    from training.pipeline import Trained


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def train(
        file: Annotated[Path, typer.Argument(help="Labelled history: CSV or Parquet.", show_default=False)],
        as_json: Annotated[bool, typer.Option("--json", help="For machines: what was done, on stdout.")] = False,
    ) -> None:
        """Train a model on FILE, register it in MLflow and make it champion.

        Rows are split by event time: the model learns from the oldest 70 %, its operating points are chosen on the next
        15 %, and its measures come from the last 15 %.
        """
        from rich.console import Console

        settings = config.load()
        with Console(stderr=True).status("starting") as status:
            from training.pipeline import train as run

            done = run(settings, file, stage=lambda name: status.update(f"{name} …"))
        if as_json:
            import msgspec

            print(msgspec.json.format(msgspec.json.encode(done)).decode())
        else:
            _show(Console(), done)


def _show(console: "Console", done: "Trained") -> None:
    from rich.table import Table

    table = Table(title=f"{done.model} version {done.version} is champion", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    rejected = sum(done.rejected.values())
    why = ", ".join(f"{n:,} {code}" for code, n in sorted(done.rejected.items(), key=lambda item: -item[1]))
    table.add_row(
        "rows", f"{done.rows:,}; {rejected:,} rejected{f' ({why})' if why else ''}; {done.unlabelled:,} unlabelled"
    )
    table.add_row("split by time", ", ".join(f"{name} {n:,}" for name, n in done.parts.items()))
    table.add_row("fraud in training", f"{done.base_rate:.2%}")
    table.add_row("trees", str(done.trees))
    m = done.metrics
    table.add_row("test ROC AUC", f"{m['test_roc_auc']:.3f} (0.5 is chance)")
    ap, base = m["test_average_precision"], m["test_base_rate"]
    table.add_row("test average precision", f"{ap:.3f} ({base:.3f} is chance)")
    for outcome in ("review", "decline"):
        point, share = getattr(done.points, outcome), m[f"test_{outcome}_share"]
        table.add_row(f"{outcome} from score", f"{point:.4f} ({share:.2%} of test rows)")
    table.add_row("champion before", "none" if done.previous_champion is None else f"version {done.previous_champion}")
    table.add_row("took", f"{done.seconds:.1f} s")
    console.print(table)
    console.print(f"MLflow UI: {done.mlflow_ui}", soft_wrap=True, highlight=False)  # whole, to be copied
