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
        force: Annotated[
            str | None,
            typer.Option(metavar="REASON", help="Make it champion without proof; the reason is kept."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="For machines: what was done, on stdout.")] = False,
    ) -> None:
        """Train a model on FILE and register it in MLflow; champion if it proves itself, else challenger.

        The last seven days are put away for `tamiz backtest`. The rest is split by event time: the model learns from
        the oldest 70 %, its operating points are chosen on the next 15 %, and it is judged on the last 15 %.
        """
        from rich.console import Console

        settings = config.load()
        with Console(stderr=True).status("starting") as status:
            from training.pipeline import train as run

            done = run(settings, file, force=force, report=True, stage=lambda name: status.update(f"{name} …"))
            from tamiz.announcing import announce

            warning = announce(settings, done.events)
        if as_json:
            import msgspec

            print(msgspec.json.format(msgspec.json.encode(done)).decode())
        else:
            _show(Console(), done)
        if warning:
            Console(stderr=True).print(warning, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _show(console: "Console", done: "Trained") -> None:
    from rich.table import Table

    standing = "champion, by force" if done.forced else "champion" if done.champion else "challenger"
    table = Table(title=f"{done.model} version {done.version} is {standing}", show_header=False, title_justify="left")
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
    chance = {"roc_auc": 0.5, "average_precision": done.evaluation.base_rate}
    for name, guessing in chance.items():
        metric = done.evaluation.metric(name)
        if metric.value is None or guessing is None:
            shown = metric.reason or "not known"
        else:
            shown = f"{metric.value:.3f}, {metric.low:.3f} to {metric.high:.3f} ({guessing:.3f} is guessing)"
        table.add_row(f"test {name.replace('_', ' ')}".replace("roc auc", "ROC AUC"), shown)
    table.add_row("operating points", done.points_why)
    table.add_row("verdict", done.verdict.sentence)
    if done.judgement.sentence != done.verdict.sentence:
        table.add_row("beside the champion", done.judgement.sentence)
    table.add_row("champion before", "none" if done.previous_champion is None else f"version {done.previous_champion}")
    table.add_row("took", f"{done.seconds:.1f} s")
    console.print(table)
    console.print(f"MLflow UI: {done.mlflow_ui}", soft_wrap=True, highlight=False)  # whole, to be copied
