"""`tamiz backtest`: score the last days of a history, day by day."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config
from tamiz.batch.file_options import History, Labels
from training.data.holdout import BACKTEST_DAYS

if TYPE_CHECKING:
    from rich.table import Table

    from tamiz.terminal import Terminal
    from training.evaluation.backtest import Backtest, BacktestPeriod, Share
    from training.evaluation.review_metrics import ReviewEvaluation

HELP = f"""Score the last days of FILE day by day: score drift, alerts, precision and recall.

Training holds the last {BACKTEST_DAYS} days of a history out, so that they
can be scored here as if they arrived now.

    tamiz backtest history.csv --output backtest/

Read on: docs/approve.md.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(help=HELP)
    def backtest(
        file: Annotated[Path, typer.Argument(help="Transactions: CSV, Parquet or JSON lines; labels are optional.")],
        history: History = None,
        labels: Labels = None,
        version: Annotated[int | None, typer.Option(help="Model version. Default: the champion.", min=1)] = None,
        days: Annotated[
            int, typer.Option(help="Number of UTC days to score, up to the day of the last event.", min=1)
        ] = BACKTEST_DAYS,
        as_json: Annotated[bool, typer.Option("--json", help="Print the full result as JSON.")] = False,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="Write backtest.json and the figures to this folder.")
        ] = None,
    ) -> None:
        import msgspec

        from schemas.extras import require_extra
        from schemas.files.output_files import prepare_output_folder
        from tamiz.terminal import Terminal, say_json, warn_empty_profiles, warn_missing_columns

        if output:
            require_extra("figures", needed_by="tamiz backtest --output")
            prepare_output_folder(output)
        settings = config.load()
        with Terminal(stderr=True).status("starting") as status:
            from schemas.dataset.declaration import load_dataset
            from training.data.file_profiles import ProfileFiles
            from training.evaluation.backtest import read_rows, run_backtest
            from training.evaluation.review_ranking import ReviewPlan
            from training.registry.model_loader import registered_model

            status.update("fetching the model …")
            model = registered_model(settings, version)
            dataset = load_dataset(settings.dataset)
            plan = ReviewPlan.from_settings(settings, dataset)
            rows = read_rows(
                file,
                dataset,
                ProfileFiles(history, labels),
                lambda step, share: status.update(f"{step} … {share:.0%}"),
            )
            status.update("scoring …")
            tested = run_backtest(model, dataset, rows, days, plan=plan)
            record = msgspec.json.format(msgspec.json.encode(tested))
            if output:
                status.update("drawing …")
                from training.reports.backtest_figures import draw_backtest
                from training.reports.figures import write_figures
                from training.reports.review_figures import draw_reviews

                reviews = tested.evaluation.reviews
                write_figures(output, {**draw_backtest(tested), **(draw_reviews(reviews) if reviews else {})})
                (output / "backtest.json").write_bytes(record)
        if as_json:
            say_json(msgspec.Raw(record))
        else:
            _print_tables(Terminal(), tested)
        warn_missing_columns(file, tested.missing_columns)
        warn_empty_profiles(file, dataset, history)


def _print_tables(console: "Terminal", tested: "Backtest") -> None:
    from rich import box
    from rich.table import Table

    console.print(tested.summary)
    console.print(f"Event times: {tested.time_range.summary}.")
    if tested.late_labels:
        console.print(f"Late labels: {tested.late_labels.summary}.")
    # Two tables, each narrow enough for a terminal of 80 columns.
    scores = Table(title=f"The score by UTC day, {tested.model} version {tested.version}", title_justify="left")
    scores.box, scores.collapse_padding, scores.pad_edge = box.SIMPLE, True, False
    for head in ("day", "rows", *(f"p{level}" for level in tested.levels), "PSI", "KS"):
        scores.add_column(head, justify="left" if head == "day" else "right", min_width=10 if head == "day" else None)
    reference = [f"{p:.4f}" for p in tested.reference] or ["–"] * len(tested.levels)
    scores.add_row("training", f"{tested.reference_rows:,}", *reference, "", "", end_section=True)
    worth = Table(title="Alerts at the operating points", title_justify="left", box=box.SIMPLE)
    for head in ("day", "fraud", "alerts ≥ review", "≥ decline", "precision", "recall"):
        worth.add_column(head, justify="left" if head == "day" else "right")
    for at, period in enumerate((*tested.days, tested.whole)):
        last_day = at == len(tested.days) - 1
        scores.add_row(*_score_cells(period, len(tested.levels)), end_section=last_day)
        worth.add_row(*_worth_cells(period), end_section=last_day)
    console.print(scores)
    console.print(worth)
    if tested.evaluation.reviews:
        console.print(_review_table(tested.evaluation.reviews))
    whole = Table(title=f"Alerts by threshold, all of {tested.whole.name}", title_justify="left")
    for head in ("threshold", "alerts", "frauds caught", "precision", "recall"):
        whole.add_column(head, justify="right")
    for alerts in tested.whole.alerts:
        name = alerts.name if alerts.name[0].isdigit() else f"{alerts.name} {alerts.threshold:.4f}"
        whole.add_row(
            name, f"{alerts.alerts:,}", f"{alerts.caught:,}", _interval(alerts.precision), _interval(alerts.recall)
        )
    console.print(whole)


def _review_table(reviews: "ReviewEvaluation") -> "Table":
    from rich import box
    from rich.table import Table

    from training.evaluation.review_metrics import metric_title

    days = f"{len(reviews.days):,} day{'' if len(reviews.days) == 1 else 's'}"
    table = Table(title=f"What {reviews.per_day:,} reviews a day find, {days}", title_justify="left", box=box.SIMPLE)
    for head in ("metric", "value", "interval by day", "attainable", "guessing"):
        table.add_column(head, justify="left" if head == "metric" else "right")
    for m in reviews.metrics:
        shares = ("–" if share is None else f"{share:.1%}" for share in (m.attainable, m.random))
        value = "–" if m.value is None else f"{m.value:.1%}"
        interval = m.reason or "–" if m.low is None else f"{m.low:.1%} to {m.high:.1%}"
        table.add_row(metric_title(m.name, reviews.per_day), value, interval, *shares)
    return table


def _score_cells(period: "BacktestPeriod", levels: int) -> list[str]:
    if period.percentiles is None or period.shift is None:
        return [period.name, "no rows", *[""] * (levels + 2)]
    psi = f"{period.shift.psi:.3f}{'' if period.has_enough_rows else ' ?'}"
    percentiles = (f"{p:.4f}" for p in period.percentiles)
    return [period.name, f"{period.n:,}", *percentiles, psi, f"{period.shift.ks:.3f}"]


def _worth_cells(period: "BacktestPeriod") -> list[str]:
    if period.percentiles is None:
        return [period.name, "no rows", "", "", "", ""]
    review, decline = period.alerts_at("review"), period.alerts_at("decline")
    fraud = f"{period.frauds:,}" if period.labelled == period.n else f"{period.frauds:,} of {period.labelled:,} known"
    shares = ("–" if share is None else f"{share.value:.1%}" for share in (review.precision, review.recall))
    return [period.name, fraud, f"{review.alerts:,}", f"{decline.alerts:,}", *shares]


def _interval(share: "Share | None") -> str:
    return "–" if share is None else f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"
