"""The drift report: each feature's reference and current distribution, as a PNG or a self-contained HTML page."""

from io import StringIO
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from monitoring.drift.drift_report import DriftComparison, DriftPeriod, cells, change_summary, format_statistic
from schemas.errors import ConfigError
from schemas.files.atomic_write import atomic_write
from schemas.security.sanitizer import html_text
from training.reports.figures import FRAUD, LEGITIMATE, NEUTRAL, label

COLUMNS = 3
MAX_LABEL_LENGTH, MAX_TITLE_LENGTH = 14, 40  # characters
FORMATS = (".png", ".html")
STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "td,th{padding:.15rem .6rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}.moved{font-weight:bold;color:#B34700}svg{max-width:100%;height:auto}"
)


def require_report_format(path: Path) -> None:
    """Check a file name before the work starts. Raises ConfigError when it ends in none of `FORMATS`."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--output {path}: the name must end in {' or '.join(FORMATS)}")


def write_drift_report(path: Path, comparison: DriftComparison) -> None:
    """Write the last period to a .png, or every period to an .html that loads nothing. The write is atomic.

    Raises ConfigError as `require_report_format` does.
    """
    require_report_format(path)
    with atomic_write(path) as scratch:
        if path.suffix.lower() == ".png":
            draw_period(comparison, comparison.periods[-1]).savefig(scratch, dpi=110, format="png")
        else:
            scratch.write_text(html_page(comparison), encoding="utf-8")


def draw_period(comparison: DriftComparison, period: DriftPeriod) -> Figure:
    """One panel per feature: shares by bin, reference and current. A coloured title marks significant drift."""
    rows = -(-len(period.features) // COLUMNS)
    figure = Figure(figsize=(4.4 * COLUMNS, 2.5 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{label(comparison.model)} version {comparison.model_version}: training reference (grey) and "
        f"{label(period.name)} (blue)"
    )
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, feature in zip(panels, period.features, strict=False):
        places = range(len(feature.labels))
        axes.bar([i - 0.2 for i in places], feature.reference or [0.0] * len(places), 0.4, color=NEUTRAL)
        axes.bar([i + 0.2 for i in places], feature.current or [0.0] * len(places), 0.4, color=LEGITIMATE)
        ticks = [label(text, MAX_LABEL_LENGTH) for text in feature.labels]
        axes.set_xticks(places, ticks, rotation=60, ha="right", fontsize=7)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        s = feature.statistics
        title = f"{label(s.feature, MAX_TITLE_LENGTH)}   PSI {format_statistic(s.psi)}"
        axes.set_title(title, fontsize=10, color=FRAUD if s.exceeds else "black", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(period.features) :]:
        axes.set_axis_off()
    return figure


def html_page(comparison: DriftComparison) -> str:
    """The drift report as one self-contained HTML page, newest period first."""
    title = html_text(f"Drift of {comparison.source} against {comparison.model} version {comparison.model_version}")
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{title}</h1>")
    for period in reversed(comparison.periods):
        svg = StringIO()
        draw_period(comparison, period).savefig(svg, format="svg")
        drawn = svg.getvalue()
        parts.append(f"<h2>{html_text(period.name)}</h2><p>{html_text(change_summary(period))}.</p>{_table(period)}")
        parts.append(drawn[drawn.index("<svg") :])  # without the XML declaration, which HTML does not allow
    return "\n".join([*parts, "</html>"])


def _table(period: DriftPeriod) -> str:
    heads = (
        "feature",
        "rows",
        "PSI / CSI",
        "corrected",
        "lower bound",
        "tolerance",
        "decile PSI",
        "KL",
        "JS",
        "KS",
        "p of KS",
    )
    rows = "".join(
        f"<tr{' class=moved' if f.statistics.exceeds else ''}>"
        + "".join(f"<td>{html_text(c)}</td>" for c in cells(f))
        + "</tr>"
        for f in period.features
    )
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{rows}</table>"
