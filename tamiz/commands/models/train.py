"""`tamiz train`: train a model on labelled history and register it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config
from tamiz.batch.file_options import Labels
from training.data.holdout import BACKTEST_DAYS, TEST_SHARE

if TYPE_CHECKING:
    from tamiz.terminal import Terminal
    from training.data.history import History
    from training.model.reproduction import ReproductionTarget
    from training.train_result import ProgressCallback, TrainResult

HELP = f"""Train a model on FILE or on Kafka's topics, and register it in MLflow.

It becomes champion if it shows skill and beats the champion, else
challenger. The last {BACKTEST_DAYS} days are held out for `tamiz backtest`. The rest
is split by event time: a model of the oldest {1 - TEST_SHARE:.0%} is tested on the last
{TEST_SHARE:.0%}, then the model is fitted in the same way to all of them.

    tamiz train history.csv
    tamiz train history.csv --labels chargebacks.csv --from 2026-07-01
    tamiz train --from-kafka --from 2026-10-01

Read on: docs/tutorial.md, docs/data-set.md.
"""
ISO = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help=HELP)
    def train(
        file: Annotated[
            Path | None, typer.Argument(help="Labelled history: CSV, Parquet or JSON lines.", show_default=False)
        ] = None,
        labels: Labels = None,
        from_kafka: Annotated[
            bool, typer.Option("--from-kafka", help="Train on the topics `transactions` and `labels` instead of FILE.")
        ] = False,
        since: Annotated[
            datetime | None,
            typer.Option(
                "--from",
                formats=ISO,
                metavar="DATE",
                help="First event time to train on (UTC). Earlier rows of FILE still count in profiles.",
            ),
        ] = None,
        until: Annotated[
            datetime | None,
            typer.Option("--until", formats=ISO, metavar="DATE", help="End of the event times, exclusive (UTC)."),
        ] = None,
        trials: Annotated[
            int,
            typer.Option(
                min=0,
                metavar="N",
                help="Try N other hyperparameter sets; one is adopted only if it is significantly better.",
            ),
        ] = 0,
        backtest_days: Annotated[
            int | None,
            typer.Option(min=1, metavar="N", help=f"UTC days to hold out for the backtest. Default: {BACKTEST_DAYS}."),
        ] = None,
        reproduce: Annotated[
            str | None,
            typer.Option(
                metavar="RUN_ID", help="Repeat this MLflow run bit for bit. Name FILE and --labels if they have moved."
            ),
        ] = None,
        force: Annotated[
            str | None,
            typer.Option(metavar="REASON", help="Promote without passing the gates; the reason is kept."),
        ] = None,
        allow_missing: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME",
                help="Train without this optional column, if FILE lacks it; recorded with the run. May be repeated.",
            ),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    ) -> None:
        from schemas.extras import require_extra
        from tamiz.terminal import Terminal, progress_line, say_json, warn

        if (file is not None) + from_kafka + (reproduce is not None and file is None) != 1:
            raise typer.BadParameter("give exactly one of FILE, --from-kafka and --reproduce")
        if labels is not None and file is None:
            raise typer.BadParameter("--labels needs FILE")
        if (trials or backtest_days or since or until) and reproduce is not None:
            raise typer.BadParameter("--reproduce excludes --trials, --backtest-days, --from and --until")
        if allow_missing and (from_kafka or reproduce is not None):
            raise typer.BadParameter("--allow-missing needs FILE; --reproduce repeats that of its run")
        require_extra("training", needed_by="tamiz train")
        settings = config.load()
        with progress_line(Terminal(stderr=True)) as progress:
            from tamiz.services.event_publisher import publish_event
            from training.model.reproduction import FileSource
            from training.pipeline import train as run

            target = _reproduction_target(settings, reproduce) if reproduce is not None else None
            if target:
                settings = target.config.apply_to(settings)
            from_ms, until_ms = _ms(since), _ms(until)
            if target:
                recorded = target.config.source
                from_ms, until_ms = recorded.from_ms, recorded.until_ms
                if isinstance(recorded, FileSource):
                    file = file or Path(recorded.path)
                    labels = labels or (Path(recorded.labels) if recorded.labels else None)
            source = file or _from_kafka(settings, from_ms, until_ms, progress)
            done = run(
                settings,
                source,
                labels=labels,
                from_ms=from_ms,
                until_ms=until_ms,
                force=force,
                report=True,
                trials=trials,
                backtest_days=backtest_days,
                target=target,
                allow_missing=tuple(allow_missing or ()),
                progress=progress,
            )
            warning = publish_event(settings, done.events)
        if as_json:
            say_json(done)
        else:
            _print_table(Terminal(), done)
        for text in (*(leak.warning for leak in done.gate.leaks), done.silence, warning):
            if text:
                warn(text)
        if done.reproduction and not done.reproduction.same:
            raise typer.Exit(1)


def _reproduction_target(settings: "config.Settings", run_id: str) -> "ReproductionTarget":
    from training.model.reproduction import CONFIG_FILE, ReproductionTarget, read_config
    from training.registry import mlflow_registry

    return ReproductionTarget(run_id, read_config(mlflow_registry.read_artifact(settings, run_id, CONFIG_FILE), run_id))


def _from_kafka(
    settings: "config.Settings", from_ms: int | None, until_ms: int | None, progress: "ProgressCallback"
) -> "History":
    from tamiz.services.history_reader import read_kafka_history

    return read_kafka_history(
        settings,
        from_ms=from_ms,
        until_ms=until_ms,
        progress=progress,
    )


def _ms(time: datetime | None) -> int | None:
    return None if time is None else int(time.replace(tzinfo=UTC).timestamp() * 1000)


def _print_table(console: "Terminal", done: "TrainResult") -> None:
    from rich.table import Table

    status = "champion" if done.champion else "challenger"
    if done.champion and done.promotion_decision.status != "promoted":
        status += ", forced"
    table = Table(title=f"{done.model} version {done.version} is {status}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    rejected = sum(done.rejected.values())
    why = ", ".join(f"{n:,} {code}" for code, n in sorted(done.rejected.items(), key=lambda item: -item[1]))
    table.add_row(
        "rows", f"{done.rows:,}; {rejected:,} rejected{f' ({why})' if why else ''}; {done.unlabelled:,} unlabelled"
    )
    if done.outside_range:
        table.add_row("outside of --from, --until", f"{done.outside_range:,} rows")
    if done.profile_sources:
        table.add_row("profile features", done.profile_sources.summary)
    if done.late_labels:
        table.add_row("late labels", done.late_labels.summary)
    table.add_row("event times", done.time_range.summary)
    if done.missing_columns:
        table.add_row("missing columns", ", ".join(column.name for column in done.missing_columns))
    table.add_row("split by event time", ", ".join(f"{name} {n:,}" for name, n in done.parts.items()))
    table.add_row("fitted to", f"{done.fitted_rows:,} rows before the backtest, {done.base_rate:.2%} of them fraud")
    if done.search:
        table.add_row("search", done.search)
    table.add_row("trees", str(done.trees))
    table.add_row("calibration", done.probability_calibration.summary)
    chance = {"roc_auc": 0.5, "average_precision": done.evaluation.base_rate}
    for name, guessing in chance.items():
        metric = done.evaluation.metric(name)
        if metric.value is None or guessing is None:
            text = metric.reason or "not known"
        else:
            text = f"{metric.value:.3f}, {metric.low:.3f} to {metric.high:.3f} (guessing: {guessing:.3f})"
        table.add_row(f"test {name.replace('_', ' ')}".replace("roc auc", "ROC AUC"), text)
    for label, text in _review_lines(done):
        table.add_row(label, text)
    table.add_row("operating points", done.points_reason)
    table.add_row("skill gate", done.gate.summary)
    if done.promotion_decision.summary != done.gate.summary:
        table.add_row("against the champion", done.promotion_decision.summary)
    previous = "none" if done.previous_champion is None else f"version {done.previous_champion}"
    table.add_row("previous champion", previous)
    table.add_row("MLflow run", done.run_id)
    if done.reproduction:
        table.add_row("reproduction", done.reproduction.summary)
    table.add_row("duration", f"{done.seconds:.1f} s")
    console.print(table)
    console.print(f"MLflow UI: {done.mlflow_ui}", soft_wrap=True)  # on one line, so that it can be copied


def _review_lines(done: "TrainResult") -> "Iterator[tuple[str, str]]":
    """Precision@k, of transactions for a data set without a key, and value detected: label and text."""
    from training.evaluation.review_metrics import NO_KEY

    if (reviews := done.evaluation.reviews) is None:
        return
    labels = {
        "card_precision": "test card precision@k",
        "transaction_precision": "test precision@k",
        "value_detected": "test value detected",
    }
    has_key = reviews.metric("card_precision").reason != NO_KEY
    for name in ("card_precision" if has_key else "transaction_precision", "value_detected"):
        m = reviews.metric(name)
        if m.value is None:
            text = m.reason or "not known"
        else:
            interval = f" ({m.reason})" if m.low is None else f", {m.low:.3f} to {m.high:.3f}"
            bounds = f"(guessing: {m.random:.3f}, attainable: {m.attainable:.3f})"
            text = f"k = {reviews.per_day:,}: {m.value:.3f}{interval} {bounds}"
        yield labels[name], text
