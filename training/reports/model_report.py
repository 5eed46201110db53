"""The PDF report of one model version, for the risk officer who is responsible for it.

All numbers come from the records of training and backtest; nothing is computed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from scoring.bundle.manifest import Manifest
from training.data.time_range import TimeRange, utc_minute
from training.evaluation.backtest import ALPHA, MIN_ROWS_FOR_PSI, MIN_SHIFT_PSI, Backtest, BacktestPeriod
from training.evaluation.evaluation import Evaluation, Metric
from training.evaluation.review_metrics import TITLES, ReviewMetric, metric_title
from training.evaluation.skill_gate import GateResult
from training.evaluation.version_comparison import Comparison, InputShift
from training.reports.metric_words import METRIC_WORDS, REVIEW_WORDS, comparison_title
from training.reports.pdf_layout import (
    Flow,
    callout,
    facts,
    gap,
    pictures,
    register_fonts,
    section,
    table,
    text,
    title,
    write_pdf,
)
from training.reports.review_figures import REVIEW_FIGURES

GATE_TONES = {"skill": "good", "no skill": "bad", "not enough matured labels": "open", "suspected leakage": "bad"}
EFFECTS_OF_OUTCOMES = {
    "review": "held for manual review",
    "challenge": "checked by the card holder, such as by 3-D Secure",
    "decline": "declined automatically",
}
MAX_INPUTS = 20  # rows of the drift table


@dataclass(frozen=True, kw_only=True)
class ReportContents:
    """Input of the report. For a part that is None, the report states that it is missing."""

    version: int
    manifest: Manifest
    status: str  # "champion", "challenger", ...
    file: str
    rows: int
    rejected: Mapping[str, int]
    unlabelled: int
    time_range: TimeRange
    evaluation: Evaluation
    evaluated_on: str  # description of the evaluated rows
    gate: GateResult
    written_at: str  # UTC
    figures: Mapping[str, Figure] = field(default_factory=dict)
    backtest: Backtest | None = None
    comparison: Comparison | None = None
    promotion_decision: str | None = None  # the version's last transition and its reason
    previous_version: int | None = None
    shifts: tuple[InputShift, ...] | None = None


def write_model_report(path: Path, contents: ReportContents) -> None:
    """Write the PDF.

    The same contents give the same bytes, except for figures: matplotlib may draw them with tiny differences.
    Raises OSError when the file cannot be written.
    """
    name = f"{contents.manifest.model}, version {contents.version}"
    register_fonts()
    flow: Flow = [
        *_summary(contents, name),
        *_metrics(contents),
        *_reviews(contents),
        *_points(contents),
        *_figures(contents),
        *_backtest(contents),
        *_comparison(contents),
        *_shifts(contents),
    ]
    write_pdf(path, flow, name=f"Model report: {name}", footer=f"Tamiz · {name} · written {contents.written_at} UTC")


def _summary(c: ReportContents, name: str) -> Flow:
    m = c.manifest
    rejected = sum(c.rejected.values())
    why = "".join(f"; {count:,} {code}" for code, count in sorted(c.rejected.items(), key=lambda i: -i[1]))
    head = {
        "skill": "The model has skill",
        "no skill": "The model has no proven skill and must not decide",
        "not enough matured labels": "Not enough labels for a result",
        "suspected leakage": "The model seems to know the label and must not decide",
    }
    flow: Flow = [
        title(f"Model report: {name}"),
        text(f"Written {c.written_at} UTC from the records of training and backtest.", small=True),
        gap(4),
        callout(head[c.gate.status], c.gate.summary, GATE_TONES[c.gate.status]),
        gap(6),
    ]
    if m.forced:
        flow += [callout("Forced", "A person promoted this version although it failed the skill gate.", "bad"), gap(6)]
    if c.promotion_decision is not None:
        flow += [callout("Promotion decision", c.promotion_decision, "open"), gap(6)]
    if c.backtest is not None:
        flow += [callout("Backtest", c.backtest.summary, "open"), gap(6)]
    trained = f"{utc_minute(m.trained_from_ms)} to {utc_minute(m.trained_until_ms)} UTC"
    flow += section(
        "Model and data",
        [
            facts(
                [
                    ("Status", c.status),
                    ("Data set", f"{m.dataset}; {len(m.features)} features"),
                    ("Training rows", f"{m.rows:,} transactions, {trained}; {m.base_rate:.2%} fraud"),
                    ("Training file", f"SHA-256 {m.data_sha256}"),
                    (
                        "This report's file",
                        f"{c.file}: {c.rows:,} rows, {rejected:,} rejected{why}, {c.unlabelled:,} unlabelled",
                    ),
                    ("Its event times", c.time_range.summary),
                    (
                        "Evaluated on",
                        f"{c.evaluated_on}: {c.evaluation.n:,} rows, {c.evaluation.frauds:,} frauds"
                        + ("" if c.evaluation.base_rate is None else f" ({c.evaluation.base_rate:.2%})"),
                    ),
                ]
            )
        ],
    )
    return flow


def _metrics(c: ReportContents) -> Flow:
    e = c.evaluation
    rows = [[*METRIC_WORDS.get(m.name, (m.name, "")), *metric_cells(m)] for m in e.metrics]
    costs = e.costs
    return section(
        "Metrics",
        [
            text(
                f"Computed on {c.evaluated_on}. Each metric has a {e.confidence:.0%} confidence interval from "
                f"{e.resamples:,} bootstrap resamples."
            ),
            table(("Metric", "Meaning", "Value", "Interval"), rows, shares=(3.2, 7, 1.6, 3.2), words=2),
            text(
                f"Cost matrix: a missed fraud costs {costs.missed_fraud_share:.0%} of its amount plus "
                f"{costs.missed_fraud_fixed:g}, a review costs {costs.review:g}, a declined legitimate transaction "
                f"costs {costs.wrong_decline:g}.",
                small=True,
            ),
        ],
    )


def _reviews(c: ReportContents) -> Flow:
    if (r := c.evaluation.reviews) is None:
        return []
    rows = [[metric_title(m.name, r.per_day), REVIEW_WORDS[m.name], *review_cells(m)] for m in r.metrics]
    figures = [figure for name, figure in c.figures.items() if name in REVIEW_FIGURES]
    return section(
        f"What {r.per_day:,} reviews a day find",
        [
            text(
                f"Computed on {c.evaluated_on}, {len(r.days):,} whole UTC days; intervals by day. Attainable: of a "
                "score that ranks every fraud first; a day with few frauds cannot reach 1. Random: expected of a "
                "random order."
            ),
            table(("Metric", "Meaning", "Value", "Interval", "Attainable", "Random"), rows,
                  shares=(3.2, 5, 1.4, 2.8, 1.8, 1.4), words=2),
        ],
        [gap(), *pictures(figures, columns=2)],
    )  # fmt: skip


def review_cells(metric: ReviewMetric) -> tuple[str, str, str, str]:
    """A metric's value, interval, attainable and random value as four table cells."""
    if metric.value is None:
        return "–", metric.reason or "–", "–", "–"
    interval = metric.reason or "–" if metric.low is None else f"{metric.low:.4f} to {metric.high:.4f}"
    return f"{metric.value:.4f}", interval, f"{metric.attainable:.4f}", f"{metric.random:.4f}"


def metric_cells(metric: Metric) -> tuple[str, str]:
    """A metric's value and interval as two table cells."""
    if metric.value is None:
        return "–", metric.reason or "–"
    return f"{metric.value:.4f}", "–" if metric.low is None else f"{metric.low:.4f} to {metric.high:.4f}"


def _points(c: ReportContents) -> Flow:
    points, e = c.manifest.points, c.evaluation
    review = e.at_review
    outcomes = [
        (outcome, f"from {point:.4f}" if point <= 1 else "never", EFFECTS_OF_OUTCOMES[outcome])
        for outcome, point in points.named()
    ]
    counts = (
        f"Of the {e.n:,} evaluated rows, {review.alerts:,} score at or above the review point: "
        f"{review.true_positives:,} frauds caught, {review.false_positives:,} false alerts, "
        f"{review.false_negatives:,} frauds missed."
    )
    rows = [
        [f"{t.threshold:.2f}", f"{t.alerts:,}", *map(_percent, (t.precision, t.recall, t.false_positive_rate)),
         *("–" if x is None else f"{x:.3f}" for x in (t.f1, t.f2)), f"{t.cost:,.0f}"]
        for t in e.thresholds
    ]  # fmt: skip
    heads = ("Score from", "Alerts", "Precision", "Recall", "FPR", "F1", "F2", "Cost")
    return section(
        "Operating points",
        [
            text("Chosen on held-out scores of the training rows; the metrics use later rows. " + counts),
            table(("Outcome", "Score", "Effect"), outcomes, shares=(2, 2, 8), words=3),
        ],
        [
            gap(),
            text("Results at other thresholds, assuming that every alert is reviewed and none is declined:"),
            table(heads, rows, shares=(1,) * len(heads), words=0),
        ],
    )


def _figures(c: ReportContents) -> Flow:
    """The figures of the evaluation, without those of other sections and the threshold table."""
    elsewhere = ("threshold_table", *REVIEW_FIGURES)
    shown = {name: f for name, f in c.figures.items() if name not in elsewhere and not name.startswith("backtest_")}
    wide = [shown.pop(name) for name in ("shap_beeswarm", "shap_importance") if name in shown]
    if not shown and not wide:
        return []
    pairs = pictures(list(shown.values()), columns=2)
    flow = section("Figures", pairs[:1], pairs[1:])
    if wide:
        note = (
            "Exact TreeSHAP values: the contribution of each input to a transaction's score, in log-odds. They explain "
            "the model, not the causes of fraud."
        )
        images = pictures(wide, columns=1, share=0.7)
        flow += section("Feature contributions", [text(note), *images[:1]], images[1:])
    return flow


def _backtest(c: ReportContents) -> Flow:
    if (t := c.backtest) is None:
        return section("Backtest", [text("This report has no backtest.")])
    heads = ("Day (UTC)", "Rows", "Fraud", *(f"p{level}" for level in t.levels), "PSI", "KS", "Alerts", "Prec.", "Rec.")
    training = ["training", f"{t.reference_rows:,}", "", *(f"{p:.4f}" for p in t.reference), *[""] * 5]
    rows = [training, *(period_cells(p, len(t.levels)) for p in (*t.days, t.whole))]
    figures = [figure for name, figure in c.figures.items() if name.startswith("backtest_")]
    return section(
        f"Backtest: the last {t.whole.name}, scored day by day",
        [
            text(t.summary),
            table(heads, rows, shares=(2.1, 1.2, 1.3, *[1.32] * len(t.levels), 1.15, 1.15, 1.35, 1.3, 1.3)),
            text(
                f"p5 … p99: percentiles of the score. PSI and KS: distance of the day's scores from training. A shift "
                f"is a PSI of {MIN_SHIFT_PSI:g} or more that is significant (p < {ALPHA:g} over all days) on at least "
                f"{MIN_ROWS_FOR_PSI} rows. Alerts: rows at or above the review point.",
                small=True,
            ),
        ],
        [gap(), *pictures(figures, columns=1, share=0.85)],
    )


def period_cells(period: BacktestPeriod, levels: int) -> list[str]:
    """One period of the backtest as table cells."""
    if period.percentiles is None or period.shift is None:
        return [period.name, "no rows", *[""] * (levels + 6)]
    review = period.alerts_at("review")
    return [
        period.name,
        f"{period.n:,}",
        f"{period.frauds:,}",
        *(f"{p:.4f}" for p in period.percentiles),
        f"{period.shift.psi:.3f}",
        f"{period.shift.ks:.3f}",
        f"{review.alerts:,}",
        *(_percent(None if share is None else share.value) for share in (review.precision, review.recall)),
    ]


def _comparison(c: ReportContents) -> Flow:
    if (x := c.comparison) is None:
        return section("Comparison with the champion", [text("No other version was available for a comparison.")])
    head = f"Version {x.version} compared with version {x.other}"
    if not x.metrics:
        return section(head, [text(f"Not enough rows for a comparison: {x.reason}.")])
    rows = [
        [comparison_title(m.metric, x.reviews_per_day), f"{m.this:.4f}", f"{m.other:.4f}", f"{m.difference.value:+.4f}",
         f"{m.difference.low:+.4f} to {m.difference.high:+.4f}",
         _better_version(m.metric, m.difference.low, m.difference.high)]
        for m in x.metrics
    ]  # fmt: skip
    by_day = (
        f" Metrics of daily reviews: by day, {x.days:,} days." if any(m.metric in TITLES for m in x.metrics) else ""
    )
    heads = ("Metric", f"v{x.version}", f"v{x.other}", "Difference", "95 % interval", "Better version")
    return section(
        head,
        [
            text(
                f"Both versions scored the same {x.n:,} labelled rows ({x.frauds:,} frauds); paired bootstrap." + by_day
            ),
            table(heads, rows, shares=(3, 1.5, 1.5, 1.8, 3.2, 3)),
        ],
    )


def _better_version(metric: str, low: float, high: float) -> str:
    if low <= 0 <= high:
        return "not significant"
    return "this version" if (low > 0) != (metric in ("brier", "log_loss")) else "the other"


def _shifts(c: ReportContents) -> Flow:
    if c.shifts is None or c.previous_version is None:
        return section("Drift of the training data", [text("There is no earlier version to compare with.")])
    head = f"Drift of the training data against version {c.previous_version}"
    if not c.shifts:
        return section(head, [text("The file holds no rows from this version's training period.")])
    shifted = [s.name for s in c.shifts if s.shift.psi >= MIN_SHIFT_PSI]
    rows = [
        [s.name, f"{s.shift.psi:.4f}", f"{s.shift.expected_psi:.4f}", f"{s.shift.ks:.4f}" if s.ordered else "–",
         f"{s.missing_before:.1%}", f"{s.missing_now:.1%}"]
        for s in c.shifts[:MAX_INPUTS]
    ]  # fmt: skip
    heads = ("Input", "PSI", "PSI by chance", "KS", "Missing before", "Missing now")
    names = ", ".join(shifted)
    note = f"PSI of {MIN_SHIFT_PSI:g} or more: {names}." if shifted else f"Every PSI is below {MIN_SHIFT_PSI:g}."
    return section(
        head, [text(f"This version's training rows, counted in version {c.previous_version}'s bins. {note}"),
               table(heads, rows, shares=(4, 2, 2, 2, 2.4, 2.4))],
    )  # fmt: skip


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
