"""The EDA report: one HTML file with the findings and, below them, SweetViz's page on every column.

SweetViz states no uncertainty; the findings add it. The page loads nothing from the network. SweetViz 2.3.3 is the
first version that works with current setuptools.
"""

import html
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from schemas.security.sanitizer import drawn_html_text, html_text
from training.data.history import History
from training.eda.eda_findings import Association, FeatureRates, Findings, format_p_value, format_rate

MAX_SAMPLE_ROWS = 100_000  # SweetViz gets a sample of a larger history; the findings use all rows
SAMPLE_SEED = 0
MAX_ASSOCIATIONS = 10  # per measure, in the table

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 0; color: #222 }}
main {{ max-width: 60rem; margin: 0 auto; padding: 1.5rem }}
table {{ border-collapse: collapse; margin: .5rem 0 1.5rem }}
th, td {{ padding: .15rem .8rem .15rem 0; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top }}
th:first-child, td:first-child, td.text {{ text-align: left }}
small {{ color: #555 }}
iframe {{ border: 0; border-top: 1px solid #999; width: 100%; height: 100vh }}
</style></head><body><main>
{findings}
</main>
<iframe sandbox="allow-scripts" title="SweetViz" srcdoc="{sweetviz}"></iframe>
</body></html>
"""


def write_eda_report(path: Path, history: History, dataset: Dataset, findings: Findings) -> None:
    """Write the findings and SweetViz's page as one HTML file.

    Raises TrainingError when the file cannot be written.
    """
    title = f"Exploratory data analysis: {findings.file}"
    try:
        page = PAGE.format(
            title=html_text(title),
            findings=findings_html(findings, title),
            sweetviz=html.escape(_sweetviz(_frame(history, dataset, findings), dataset.label or "fraud")),
        )
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be written: {error.strerror or error}; name another path with --output"
        ) from None


def findings_html(findings: Findings, title: str) -> str:
    """The findings as an HTML fragment; all text from the file is escaped."""
    summaries = "".join(f"<li>{html_text(s)}</li>" for s in findings.summaries)
    rejected = ", ".join(f"{n:,} {code}" for code, n in findings.rejected.items()) or "none"
    source = (
        f"{findings.rows:,} rows of data set {findings.dataset}, SHA-256 {findings.sha256[:12]}…; "
        f"rejected: {rejected}; without a label: {findings.unlabelled:,}. Intervals are at 95 % and assume independent "
        "rows: where one key has many rows, intervals of columns that belong to the key are too narrow."
    )
    missing = [(name, f"{share:.1%}") for name, share in findings.missing.items()]
    return "\n".join(
        [
            f"<h1>{html_text(title)}</h1><ul>{summaries}</ul><p><small>{html_text(source)}</small></p>",
            "<h2>Fraud rate by feature</h2>",
            _table(("feature", "level", "rows", "fraud", "rate", "p", "p after Holm"), _rate_rows(findings.rates)),
            "<h2>Associations</h2>",
            _table(("pair", "measure", "value", "interval", "p after Holm"), _association_rows(findings)),
            *(["<h2>Missing values</h2>", _table(("feature", "share of rows"), missing)] if missing else []),
            "<h2>Every column</h2>",
            f"<p>By SweetViz{_sample_note(findings)}; constant columns are left out.</p>",
        ]
    )


def strongest_associations(findings: Findings, limit: int = MAX_ASSOCIATIONS) -> list[Association]:
    """The strongest associations of each measure, at most `limit` per measure."""
    by_measure: dict[str, list[Association]] = {}
    for pair in findings.associations:
        by_measure.setdefault(pair.measure, []).append(pair)
    return [pair for pairs in by_measure.values() for pair in pairs[:limit]]


def _rate_rows(rates: tuple[FeatureRates, ...]) -> Iterator[tuple[str, ...]]:
    for of in rates:
        for i, rate in enumerate(of.rates):
            feature = of.feature if i == 0 else ""
            p_values = [format_p_value(p)[2:] if i == 0 else "" for p in (of.p_value, of.p_adjusted)]
            yield feature, rate.level, f"{rate.rows:,}", f"{rate.frauds:,}", format_rate(rate), *p_values


def _association_rows(findings: Findings) -> Iterator[tuple[str, ...]]:
    for pair in strongest_associations(findings):
        interval = f"{pair.low:.3f} to {pair.high:.3f}"
        yield f"{pair.a}, {pair.b}", pair.measure, f"{pair.value:.3f}", interval, format_p_value(pair.p_adjusted)[2:]


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, str]]) -> str:
    head = "".join(f"<th>{html_text(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html_text(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _sample_note(findings: Findings) -> str:
    return f", on a random sample of {MAX_SAMPLE_ROWS:,} rows" if findings.fraud.rows > MAX_SAMPLE_ROWS else ""


def _frame(history: History, dataset: Dataset, findings: Findings) -> pd.DataFrame:
    rows = np.arange(len(history.fraud))
    if len(rows) > MAX_SAMPLE_ROWS:
        rows = np.sort(np.random.default_rng(SAMPLE_SEED).choice(rows, MAX_SAMPLE_ROWS, replace=False))
    columns = history.columns_at(rows)
    # SweetViz does not escape names and values, so they are escaped here. It also gives a constant column an
    # association of 1 with every category (the uncertainty coefficient), so constant columns are left out.
    frame = pd.DataFrame(
        {
            drawn_html_text(f.name): [None if v is None else drawn_html_text(v) for v in columns[f.name]]
            if f.kind == "category"
            else columns[f.name]
            for f in dataset.features
            if f.name not in findings.constant
        }
    )
    frame[drawn_html_text(dataset.label or "fraud")] = history.fraud[rows].astype(bool)
    return frame


def _sweetviz(frame: pd.DataFrame, label: str) -> str:
    """SweetViz's page with its association analysis: about 30 s for 20 columns, minutes for 100."""
    with _quiet_plots(), tempfile.TemporaryDirectory(prefix="tamiz-eda-") as folder:
        import sweetviz  # imported here: it is slow to import and only this command needs it

        sweetviz.config_parser.set("General", "default_verbosity", "off")
        report = sweetviz.analyze([frame, "transactions"], target_feat=drawn_html_text(label), pairwise_analysis="on")
        page = Path(folder) / "sweetviz.html"
        report.show_html(str(page), open_browser=False, layout="vertical")
        return page.read_text(encoding="utf-8")


@contextmanager
def _quiet_plots() -> Iterator[None]:
    """Draw without a display, restore Matplotlib's settings afterwards, and hide warnings that SweetViz causes."""
    import matplotlib

    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", message="open_text is deprecated", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message="The inplace keyword in", category=DeprecationWarning)
        matplotlib.use("Agg")
        fonts.setLevel(logging.ERROR)  # SweetViz's Roboto has no normal weight: one warning per plot
        try:
            yield
        finally:
            fonts.setLevel(level)
