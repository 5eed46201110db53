"""`tamiz eda`: exploratory data analysis of a labelled history."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.configuration import settings as config
from tamiz.batch.file_options import Labels

if TYPE_CHECKING:
    from tamiz.terminal import Terminal
    from training.eda.eda_findings import Findings


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def eda(
        file: Annotated[Path, typer.Argument(help="Labelled history: CSV, Parquet or JSON lines.", show_default=False)],
        labels: Labels = None,
        output: Annotated[Path, typer.Option("--output", "-o", help="HTML report to write.")] = Path("eda.html"),
        as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    ) -> None:
        """Explore FILE before training: fraud rate by feature, associations, an HTML report.

        Every rate and association has a 95 % confidence interval.

            tamiz eda history.csv --output eda.html

        Read on: docs/data-set.md.
        """
        from schemas.extras import require_extra
        from schemas.files.output_files import prepare_output
        from tamiz.terminal import Terminal, say, say_json, warn_missing_columns

        require_extra("eda", needed_by="tamiz eda")
        prepare_output(output)
        settings = config.load()
        with Terminal(stderr=True).status("reading …") as status:
            from schemas.dataset.declaration import load_dataset
            from training.data.history import read_history
            from training.eda.eda_findings import compute_findings
            from training.eda.eda_report import write_eda_report

            dataset = load_dataset(settings.dataset)
            history = read_history(
                file, dataset, labels=labels, progress=lambda step, share: status.update(f"{step} … {share:.0%}")
            )
            status.update("counting …")
            findings = compute_findings(history, dataset)
            status.update("drawing …")
            write_eda_report(output, history, dataset, findings)
        if as_json:
            say_json(findings)
        else:
            _print_tables(Terminal(), findings)
            say(f"report: {output}")
        warn_missing_columns(file, history.missing_columns)


def _print_tables(console: "Terminal", findings: "Findings") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from training.eda.eda_findings import format_p_value
    from training.eda.eda_report import strongest_associations

    for summary in findings.summaries:
        console.print(f"• {summary}")
    rates = Table(
        title="Fraud rate by feature, 95 % intervals, p-values unadjusted", title_justify="left", box=box.SIMPLE
    )
    for head in ("feature", "level", "rows", "fraud", "rate", "interval"):
        rates.add_column(head, justify="left" if head in ("feature", "level") else "right")
    for of in findings.rates:
        first = [Text(of.feature), Text(format_p_value(of.p_value), "dim"), *[Text()] * len(of.rates)]
        for i, rate in enumerate(of.rates):
            counts = f"{rate.rows:,}", f"{rate.frauds:,}", f"{rate.rate:.2%}", f"{rate.low:.2%} to {rate.high:.2%}"
            rates.add_row(first[i], rate.level, *counts, end_section=i == len(of.rates) - 1)
    rates.collapse_padding, rates.pad_edge = True, False
    console.print(rates)
    pairs = Table(title="Associations, 95 % intervals", title_justify="left", box=box.SIMPLE)
    for head in ("pair", "measure", "value", "interval", "p (Holm)"):
        pairs.add_column(head, justify="left" if head in ("pair", "measure") else "right")
    for pair in strongest_associations(findings, 5):
        pairs.add_row(
            f"{pair.a}, {pair.b}",
            pair.measure,
            f"{pair.value:.2f}",
            f"{pair.low:.2f} to {pair.high:.2f}",
            format_p_value(pair.p_adjusted),
        )
    console.print(pairs)
