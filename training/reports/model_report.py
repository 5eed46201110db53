"""The report of one model version, for the person who answers for it: a PDF made from the records themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from scoring.bundle.manifest import Manifest
from training.evaluation.backtest import ALPHA, MIN_ROWS_FOR_PSI, SHIFTED_PSI, Backtest, BacktestPeriod
from training.evaluation.evaluation import Evaluation, Metric
from training.evaluation.skill_gate import GateResult
from training.evaluation.version_comparison import Comparison, InputShift, utc_minute
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

METRIC_WORDS: Mapping[str, tuple[str, str]] = {
    "roc_auc": ("ROC AUC", "chance that a fraud scores above a good one; guessing has 0.5"),
    "average_precision": ("Average precision", "mean precision over all recalls; guessing has the base rate"),
    "ks": ("KS", "widest gap between the classes' cumulative shares; 0 is none"),
    "recall_at_fpr_0.001": ("Recall at 0.1 % FPR", "fraud caught when 1 good one in 1,000 is alerted"),
    "recall_at_fpr_0.01": ("Recall at 1 % FPR", "fraud caught when 1 good one in 100 is alerted"),
    "recall_at_fpr_0.05": ("Recall at 5 % FPR", "fraud caught when 5 good ones in 100 are alerted"),
    "log_loss": ("Log loss", "mean surprise at the truth, in nats; lower is better"),
    "brier": ("Brier score", "mean squared error of the probability; lower is better"),
    "accuracy": ("Accuracy", "share decided rightly at the review point; high for any rare fraud"),
    "precision": ("Precision", "share of the alerts at the review point that are fraud"),
    "recall": ("Recall", "share of the fraud that is alerted at the review point"),
    "f1": ("F1", "precision and recall weighed alike, at the review point"),
    "f2": ("F2", "recall weighed twice as much as precision, at the review point"),
    "cost_per_transaction": ("Cost per transaction", "under the cost matrix below, at both operating points"),
}
GATE_TONES = {"skill": "good", "no skill": "bad", "not enough matured labels": "open"}
MAX_INPUTS = 20


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a report tells; parts that are None are left out, and the report says so."""

    version: int
    manifest: Manifest
    status: str  # "champion", "challenger", ...
    file: str
    rows: int
    rejected: Mapping[str, int]
    unlabelled: int
    evaluation: Evaluation
    evaluated_on: str  # which rows those were, for people
    gate: GateResult
    written_at: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tested: Backtest | None = None
    comparison: Comparison | None = None
    promotion_decision: str | None = None  # what became of the version, and why
    previous_version: int | None = None
    shifts: tuple[InputShift, ...] | None = None


def write_report(path: Path, contents: Contents) -> None:
    """Write the PDF; the same contents give the same bytes, but for figures, which matplotlib may move by a hair."""
    name = f"{contents.manifest.model}, version {contents.version}"
    register_fonts()
    flow: Flow = [
        *_summary(contents, name),
        *_metrics(contents),
        *_points(contents),
        *_drawn(contents),
        *_backtest(contents),
        *_comparison(contents),
        *_shifts(contents),
    ]
    write_pdf(path, flow, name=f"Model report: {name}", footer=f"Tamiz · {name} · written {contents.written_at} UTC")


def _summary(c: Contents, name: str) -> Flow:
    m = c.manifest
    rejected = sum(c.rejected.values())
    why = "".join(f"; {count:,} {code}" for code, count in sorted(c.rejected.items(), key=lambda i: -i[1]))
    head = {
        "skill": "Skill is shown",
        "no skill": "No skill is shown: this model must not decide",
        "not enough matured labels": "Not enough labels to judge",
    }
    flow: Flow = [
        title(f"Model report: {name}"),
        text(f"Written {c.written_at} UTC from the model's own records.", small=True),
        gap(4),
        callout(head[c.gate.status], c.gate.summary, GATE_TONES[c.gate.status]),
        gap(6),
    ]
    if m.forced:
        flow += [callout("Forced", "A person made this version champion against the skill gate.", "bad"), gap(6)]
    if c.promotion_decision is not None:
        flow += [callout("What became of it", c.promotion_decision, "open"), gap(6)]
    if c.tested is not None:
        flow += [callout("The last days", c.tested.verdict, "open"), gap(6)]
    trained = f"{utc_minute(m.trained_from_ms)} to {utc_minute(m.trained_until_ms)} UTC"
    flow += section(
        "The model and its data",
        [
            facts(
                [
                    ("Standing", c.status),
                    ("Data set", f"{m.dataset}; {len(m.features)} features"),
                    ("Learned from", f"{m.rows:,} transactions, {trained}; {m.base_rate:.2%} fraud"),
                    ("Training file", f"SHA-256 {m.data_sha256}"),
                    (
                        "This report's file",
                        f"{c.file}: {c.rows:,} rows, {rejected:,} rejected{why}, {c.unlabelled:,} unlabelled",
                    ),
                    (
                        "Judged on",
                        f"{c.evaluated_on}: {c.evaluation.n:,} rows, {c.evaluation.frauds:,} frauds"
                        + ("" if c.evaluation.base_rate is None else f" ({c.evaluation.base_rate:.2%})"),
                    ),
                ]
            )
        ],
    )
    return flow


def _metrics(c: Contents) -> Flow:
    e = c.evaluation
    rows = [[*METRIC_WORDS.get(m.name, (m.name, "")), *metric_cells(m)] for m in e.metrics]
    costs = e.costs
    return section(
        "How good it is",
        [
            text(
                f"Measured on {c.evaluated_on}. Each measure with its {e.confidence:.0%} interval from {e.resamples:,} "
                "bootstrap resamples: values within it are not ruled out by so many rows."
            ),
            table(("Measure", "What it means", "Value", "Interval"), rows, shares=(3.2, 7, 1.6, 3.2), words=2),
            text(
                f"Cost matrix: a missed fraud loses {costs.missed_fraud_share:.0%} of its amount and "
                f"{costs.missed_fraud_fixed:g}, a review takes {costs.review:g}, a good customer declined costs "
                f"{costs.wrong_decline:g}.",
                small=True,
            ),
        ],
    )


def metric_cells(metric: Metric) -> tuple[str, str]:
    """A metric's value and interval as the report writes them."""
    if metric.value is None:
        return "–", metric.reason or "–"
    return f"{metric.value:.4f}", "–" if metric.low is None else f"{metric.low:.4f} to {metric.high:.4f}"


def _points(c: Contents) -> Flow:
    points, e = c.manifest.points, c.evaluation
    review = e.at_review
    at = [
        ("review", f"from {points.review:.4f}" if points.review <= 1 else "never", "a person looks before it goes on"),
        ("decline", f"from {points.decline:.4f}" if points.decline <= 1 else "never", "refused at once"),
    ]
    caught = (
        f"On the rows judged, {review.alerts:,} of {e.n:,} reach the review point: {review.true_positives:,} frauds "
        f"caught, {review.false_positives:,} good ones stopped, {review.false_negatives:,} frauds missed."
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
            text("Chosen on validation rows only, never on the rows the model is judged by. " + caught),
            table(("Outcome", "Score", "What happens"), at, shares=(2, 2, 8), words=3),
        ],
        [
            gap(),
            text("What any other threshold would have meant, if every alert were reviewed and none declined:"),
            table(heads, rows, shares=(1,) * len(heads), words=0),
        ],
    )


def _drawn(c: Contents) -> Flow:
    """The figures of the evaluation; the threshold table stands in the text already."""
    shown = {name: f for name, f in c.figures.items() if name != "threshold_table" and not name.startswith("backtest_")}
    wide = [shown.pop(name) for name in ("shap_beeswarm", "shap_importance") if name in shown]
    if not shown and not wide:
        return []
    pairs = pictures(list(shown.values()), columns=2)
    flow = section("Figures", pairs[:1], pairs[1:])
    if wide:
        said = (
            "Exact TreeSHAP contributions: how far each input moved a transaction's score, in log-odds. They say what "
            "the model does, not what causes fraud."
        )
        drawn = pictures(wide, columns=1, share=0.7)
        flow += section("What the model looks at", [text(said), *drawn[:1]], drawn[1:])
    return flow


def _backtest(c: Contents) -> Flow:
    if (t := c.tested) is None:
        return section("Backtest", [text("None was made for this report.")])
    heads = ("Day (UTC)", "Rows", "Fraud", *(f"p{level}" for level in t.levels), "PSI", "KS", "Alerts", "Prec.", "Rec.")
    training = ["training", f"{t.reference_rows:,}", "", *(f"{p:.4f}" for p in t.reference), *[""] * 5]
    rows = [training, *(period_cells(p, len(t.levels)) for p in (*t.days, t.whole))]
    drawn = [figure for name, figure in c.figures.items() if name.startswith("backtest_")]
    return section(
        f"Backtest: the last {t.whole.name} as they came",
        [
            text(t.verdict),
            table(heads, rows, shares=(2.1, 1.2, 1.3, *[1.32] * len(t.levels), 1.15, 1.15, 1.35, 1.3, 1.3)),
            text(
                f"p5 … p99: percentiles of the score. PSI and KS: distance of the day's scores from training. A shift "
                f"is a PSI of {SHIFTED_PSI:g} or more that is beyond luck (p < {ALPHA:g} over all days) on at least "
                f"{MIN_ROWS_FOR_PSI} rows. Alerts: at or above the review point.",
                small=True,
            ),
        ],
        [gap(), *pictures(drawn, columns=1, share=0.85)],
    )


def period_cells(period: BacktestPeriod, levels: int) -> list[str]:
    """A day of the backtest as the report writes it."""
    if period.percentiles is None or period.shift is None:
        return [period.name, "no rows", *[""] * (levels + 6)]
    review = period.at("review")
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


def _comparison(c: Contents) -> Flow:
    if (x := c.comparison) is None:
        return section("Beside the champion", [text("There is no other version it was compared with.")])
    head = f"Version {x.version} beside version {x.other}"
    if not x.metrics:
        return section(head, [text(f"They cannot be told apart: {x.reason}.")])
    rows = [
        [METRIC_WORDS[m.metric][0], f"{m.this:.4f}", f"{m.other:.4f}", f"{m.difference.value:+.4f}",
         f"{m.difference.low:+.4f} to {m.difference.high:+.4f}", _told(m.metric, m.difference.low, m.difference.high)]
        for m in x.metrics
    ]  # fmt: skip
    heads = ("Measure", f"v{x.version}", f"v{x.other}", "Difference", "95 % interval", "Which is better")
    return section(
        head,
        [
            text(f"Both scored the same {x.n:,} labelled rows ({x.frauds:,} frauds); paired bootstrap."),
            table(heads, rows, shares=(3, 1.5, 1.5, 1.8, 3.2, 3)),
        ],
    )


def _told(metric: str, low: float, high: float) -> str:
    if low <= 0 <= high:
        return "cannot be told"
    return "this version" if (low > 0) != (metric in ("brier", "log_loss")) else "the other"


def _shifts(c: Contents) -> Flow:
    if c.shifts is None or c.previous_version is None:
        return section(
            "Drift of the training data", [text("There is no earlier version's profile to hold it against.")]
        )
    head = f"Drift of the training data against version {c.previous_version}"
    if not c.shifts:
        return section(head, [text("The file holds no row of the time this version was trained on.")])
    far = [s.name for s in c.shifts if s.shift.psi >= SHIFTED_PSI]
    rows = [
        [s.name, f"{s.shift.psi:.4f}", f"{s.shift.psi_by_luck:.4f}", f"{s.shift.ks:.4f}" if s.ordered else "–",
         f"{s.missing_before:.1%}", f"{s.missing_now:.1%}"]
        for s in c.shifts[:MAX_INPUTS]
    ]  # fmt: skip
    heads = ("Input", "PSI", "PSI by luck", "KS", "Missing before", "Missing now")
    said = (
        f"PSI of {SHIFTED_PSI:g} or more: {', '.join(far)}." if far else f"No input reaches a PSI of {SHIFTED_PSI:g}."
    )
    return section(
        head, [text(f"This version's training rows, counted in that one's bins. {said}"),
               table(heads, rows, shares=(4, 2, 2, 2, 2.4, 2.4))],
    )  # fmt: skip


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
