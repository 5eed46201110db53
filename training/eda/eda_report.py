"""The exploratory report: findings in words and tables, and below them SweetViz's page on every column.

SweetViz (2.3.3 is the first that starts with today's setuptools) draws and associates; it states no uncertainty, which
is what the findings are for. One HTML file, nothing fetched from anywhere.
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
from training.eda.eda_findings import Association, Findings, RatesOf, interval, shown_p

MAX_ROWS = 100_000  # SweetViz looks at a sample of a larger history; the findings look at all rows
SEED = 0
STRONGEST = 10  # associations of each measure in the table

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


def write_report(path: Path, history: History, dataset: Dataset, found: Findings) -> None:
    """Write the report as one HTML file.

    Raises TrainingError when the file cannot be written.
    """
    title = f"{found.file}: what the data say"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # before the drawing, which takes its time
        page = PAGE.format(
            title=html_text(title),
            findings=findings_html(found, title),
            sweetviz=html.escape(_sweetviz(_frame(history, dataset, found), str(dataset.label))),
        )
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror or error}") from None


def findings_html(found: Findings, title: str) -> str:
    """The findings as a part of a page; whatever comes from the file is escaped."""
    summaries = "".join(f"<li>{html_text(s)}</li>" for s in found.summaries)
    rejected = ", ".join(f"{n:,} {code}" for code, n in found.rejected.items()) or "none"
    source = (
        f"{found.rows:,} rows of data set {found.dataset}, SHA-256 {found.sha256[:12]}…; rejected: {rejected}; "
        f"without a label: {found.unlabelled:,}. Intervals are of 95 %. They take rows as independent; where one key "
        "has many rows, what belongs to the key varies more than they say."
    )
    missing = [(name, f"{share:.1%}") for name, share in found.missing.items()]
    return "\n".join(
        [
            f"<h1>{html_text(title)}</h1><ul>{summaries}</ul><p><small>{html_text(source)}</small></p>",
            "<h2>Fraud by feature</h2>",
            _table(("feature", "level", "rows", "fraud", "rate", "p", "p after Holm"), _rate_rows(found.rates)),
            "<h2>What goes together</h2>",
            _table(("pair", "measure", "value", "interval", "p after Holm"), _association_rows(found)),
            *(["<h2>Missing</h2>", _table(("feature", "share of rows"), missing)] if missing else []),
            "<h2>Every column</h2>",
            f"<p>By SweetViz{_sampled(found)}; columns of one value are left out.</p>",
        ]
    )


def strongest(found: Findings, most: int = STRONGEST) -> list[Association]:
    """The strongest associations of each measure."""
    by_measure: dict[str, list[Association]] = {}
    for pair in found.associations:
        by_measure.setdefault(pair.measure, []).append(pair)
    return [pair for pairs in by_measure.values() for pair in pairs[:most]]


def _rate_rows(rates: tuple[RatesOf, ...]) -> Iterator[tuple[str, ...]]:
    for of in rates:
        for i, rate in enumerate(of.rates):
            tests = (shown_p(of.p_value)[2:], shown_p(of.p_adjusted)[2:]) if i == 0 else ("", "")
            yield of.feature if i == 0 else "", rate.level, f"{rate.rows:,}", f"{rate.frauds:,}", interval(rate), *tests


def _association_rows(found: Findings) -> Iterator[tuple[str, ...]]:
    for pair in strongest(found):
        reach = f"{pair.low:.3f} to {pair.high:.3f}"
        yield f"{pair.a}, {pair.b}", pair.measure, f"{pair.value:.3f}", reach, shown_p(pair.p_adjusted)[2:]


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, str]]) -> str:
    head = "".join(f"<th>{html_text(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html_text(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _sampled(found: Findings) -> str:
    return f", on {MAX_ROWS:,} rows drawn at random" if found.fraud.rows > MAX_ROWS else ""


def _frame(history: History, dataset: Dataset, found: Findings) -> pd.DataFrame:
    rows = np.arange(len(history.fraud))
    if len(rows) > MAX_ROWS:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MAX_ROWS, replace=False))
    columns = history.columns_at(rows)
    # SweetViz writes names and values into its page as they are; and of a column of one value it says that every
    # category tells it (an uncertainty coefficient of 1).
    frame = pd.DataFrame(
        {
            drawn_html_text(f.name): [None if v is None else drawn_html_text(v) for v in columns[f.name]]
            if f.kind == "category"
            else columns[f.name]
            for f in dataset.features
            if f.name not in found.constant
        }
    )
    frame[drawn_html_text(str(dataset.label))] = history.fraud[rows].astype(bool)
    return frame


def _sweetviz(frame: pd.DataFrame, label: str) -> str:
    """SweetViz's page with its association analysis: minutes for a hundred columns, half a minute for twenty."""
    with _quiet_plots(), tempfile.TemporaryDirectory(prefix="tamiz-eda-") as folder:
        import sweetviz  # heavy, and only for this

        sweetviz.config_parser.set("General", "default_verbosity", "off")
        report = sweetviz.analyze([frame, "transactions"], target_feat=drawn_html_text(label), pairwise_analysis="on")
        page = Path(folder) / "sweetviz.html"
        report.show_html(str(page), open_browser=False, layout="vertical")
        return page.read_text(encoding="utf-8")


@contextmanager
def _quiet_plots() -> Iterator[None]:
    """No window, no trace in Matplotlib's settings, and silence about what SweetViz cannot help."""
    import matplotlib

    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", message="open_text is deprecated", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message="The inplace keyword in", category=DeprecationWarning)
        matplotlib.use("Agg")
        fonts.setLevel(logging.ERROR)  # its Roboto has no normal weight, said once a plot
        try:
            yield
        finally:
            fonts.setLevel(level)
