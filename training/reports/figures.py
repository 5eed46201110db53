"""Figures of one evaluation, drawn on Agg without pyplot: no global state and no display.

Colours are Okabe and Ito's, safe for colour-blind readers: orange is fraud, blue is legitimate, grey is a random score.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import Bbox

from schemas.security.sanitizer import MAX_LABEL_LENGTH, plot_text
from scoring.arrays import Floats
from scoring.decision import OperatingPoints
from training.evaluation.bootstrap import roc_band
from training.evaluation.evaluation import Confusion, Evaluation, Metric
from training.evaluation.metrics import RankedRows, Tally, rank
from training.model.operating_points import wilson
from training.reports.review_figures import draw_reviews

FRAUD, LEGITIMATE, NEUTRAL, ACCENT = "#D55E00", "#0072B2", "#7F7F7F", "#009E73"
LINE_STYLES = {"review": "--", "challenge": "-.", "decline": "-"}  # of operating points
CLASSES = ("legitimate", "fraud")
MAX_FEATURES = 15  # in the figures of contributions, strongest first


def draw_evaluation(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    evaluation: Evaluation,
    *,
    contributions: npt.ArrayLike | None = None,
    values: npt.ArrayLike | None = None,
    names: Sequence[str] = (),
) -> dict[str, Figure]:
    """All figures of an evaluation, by file name without extension.

    labels: shape (n,), 0 or 1; rows with nan (label not known) are left out. scores: shape (n,). evaluation: of the
    same rows. contributions, values, names: as for `beeswarm`; without them the two figures of contributions are left
    out. Figures that need both classes are left out when one is absent.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(y)
    y, s = y[known], s[known]
    figures: dict[str, Figure] = {}
    if 0 < y.sum() < y.size:
        ranked = rank(y, s)
        figures["roc"] = roc(ranked, evaluation)
        figures["precision_recall"] = precision_recall(ranked, evaluation)
    if y.size:
        figures["score_distribution"] = score_distribution(y, s, evaluation.points)
        figures["calibration"] = calibration(y, s)
    figures["confusion_review"] = confusion(evaluation.at_review, "Confusion matrix at the review point")
    figures["confusion_f2"] = confusion(evaluation.at_f2, "Confusion matrix at the F2 optimum of the train rows")
    figures["threshold_table"] = threshold_table(evaluation)
    if evaluation.reviews:
        figures |= draw_reviews(evaluation.reviews)
    if contributions is not None and values is not None:
        figures["shap_beeswarm"] = beeswarm(contributions, values, names)
        figures["shap_importance"] = importance(contributions, names)
    return figures


def write_figures(folder: Path, figures: Mapping[str, Figure], *, dpi: int = 120) -> list[Path]:
    """Write each figure as ``NAME.png`` into a folder, created if missing. Returns the paths in the figures' order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=dpi)
    return paths


def roc(ranked: RankedRows, evaluation: Evaluation) -> Figure:
    """ROC curve with a pointwise bootstrap band and the diagonal of a random score."""
    tally = Tally(ranked, np.ones((1, ranked.n)))
    rates = np.linspace(0, 1, 201)
    low, high = roc_band(ranked, rates, seed=evaluation.seed, confidence=evaluation.confidence)
    figure, axes = _canvas(6, 5.6, f"ROC curve on {_rows(evaluation)}", "False positive rate (%)", "Recall (%)")
    axes.fill_between(
        rates, low, high, color=LEGITIMATE, alpha=0.2, lw=0, label=f"{evaluation.confidence:.0%} band, pointwise"
    )
    tpr, fpr = tally.true_positives[0], tally.false_positives[0]
    axes.plot(
        fpr / fpr[-1],
        tpr / tpr[-1],
        color=LEGITIMATE,
        label=f"model: AUC {_with_interval(evaluation.metric('roc_auc'))}",
    )
    axes.plot([0, 1], [0, 1], color=NEUTRAL, ls="--", label="random score: AUC 0.500")
    axes.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    axes.legend(loc="lower right")
    return _percent(figure, axes)


def precision_recall(ranked: RankedRows, evaluation: Evaluation) -> Figure:
    """Precision-recall curve with the base rate, which is the precision of a random score."""
    tally = Tally(ranked, np.ones((1, ranked.n)))
    tp, alerts = tally.true_positives[0, 1:], tally.true_positives[0, 1:] + tally.false_positives[0, 1:]
    base = float(ranked.fraud.mean())
    figure, axes = _canvas(7, 5, f"Precision and recall on {_rows(evaluation)}", "Recall (%)", "Precision (%)")
    axes.step(
        np.append(0, tp / tp[-1]), np.append(tp[0] / alerts[0], tp / alerts), where="pre", color=LEGITIMATE,
        label=f"model: average precision {_with_interval(evaluation.metric('average_precision'))}",
    )  # fmt: skip
    axes.axhline(base, color=NEUTRAL, ls="--", label=f"random score: base rate {base:.2%}")
    stable = alerts >= 10  # the precision of the first few alerts is 0 or 1 and would set the scale
    top = max(float((tp / alerts)[stable].max(initial=0)), base)
    axes.set(xlim=(0, 1), ylim=(0, min(1.02, 1.6 * top)))
    axes.legend(loc="upper right")
    return _percent(figure, axes)


def confusion(counts: Confusion, title: str) -> Figure:
    """Confusion matrix; each cell is shaded by its share of the true class."""
    cells = np.array(
        [[counts.true_negatives, counts.false_positives], [counts.false_negatives, counts.true_positives]],
        dtype=np.float64,
    )
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    figure, axes = _canvas(5.6, 4.6, f"{title}\n(alert from a score of {counts.threshold:.4f})", "Predicted", "Actual")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = (("true negatives", "false positives"), ("false negatives", "true positives"))
    for (row, column), count in np.ndenumerate(cells):
        axes.text(
            column, row, f"{count:,.0f}\n{names[row][column]}\n{shares[row, column]:.1%} of {CLASSES[row]}",
            ha="center", va="center", color="white" if shares[row, column] > 0.55 else "black",
        )  # fmt: skip
    axes.set_xticks([0, 1], ["pass", "alert"])
    axes.set_yticks([0, 1], CLASSES)
    axes.grid(visible=False)
    return figure


def score_distribution(labels: Floats, scores: Floats, points: OperatingPoints) -> Figure:
    """Score histograms of fraud and legitimate rows, each summing to 100 %, with the operating points."""
    figure, axes = _canvas(
        7.5, 4.6, "Score distribution by class", "Score (probability of fraud)", "Share of the class (%), log scale"
    )
    reachable = [point for _, point in points.named() if point <= 1]
    top = min(1.0, 1.05 * max([float(scores.max()), *reachable]))
    edges = np.linspace(0, max(top, 1e-6), 51).tolist()
    for name, colour, rows in (("legitimate", LEGITIMATE, labels == 0), ("fraud", FRAUD, labels == 1)):
        if rows.any():
            share = np.full(int(rows.sum()), 1 / rows.sum())
            axes.hist(scores[rows], edges, weights=share, color=colour, alpha=0.25)
            axes.hist(
                scores[rows], edges, weights=share, color=colour, histtype="step", label=f"{name} ({rows.sum():,})"
            )
    axes.set_yscale("log")
    for name, point in points.named():
        if point <= 1:
            axes.axvline(point, color="black", ls=LINE_STYLES[name], lw=1.2, label=f"{name} from {point:.4f}")
        else:
            axes.plot([], [], " ", label=f"{name}: never")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend(loc="upper right")
    return figure


def calibration(labels: Floats, scores: Floats, bins: int = 10) -> Figure:
    """Reliability diagram: observed fraud rate against mean score, in bins of equal size, with Wilson's 95 % intervals.

    labels, scores: shape (n,), n at least 1.
    """
    groups = [g for g in np.array_split(np.argsort(scores, kind="stable"), bins) if g.size]
    predicted = np.array([scores[g].mean() for g in groups])
    frauds = np.array([labels[g].sum() for g in groups])
    sizes = np.array([float(g.size) for g in groups])
    low, high = wilson(frauds, sizes)
    observed = frauds / sizes
    figure, axes = _canvas(
        6, 5.6, "Calibration: score against observed fraud", "Mean score of the bin (%)", "Observed fraud (%)"
    )
    top = 1.08 * max(float(predicted.max()), float(high.max()))
    axes.plot([0, top], [0, top], color=NEUTRAL, ls="--", label="perfect calibration")
    axes.errorbar(
        predicted, observed, yerr=np.clip([observed - low, high - observed], 0, None), fmt="o", color=LEGITIMATE,
        capsize=3, label=f"{len(groups)} bins of about {sizes.mean():,.0f} rows, 95 % Wilson interval",
    )  # fmt: skip
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    axes.legend(loc="upper left")
    return _percent(figure, axes)


def threshold_table(evaluation: Evaluation) -> Figure:
    """Alerts, precision, recall and cost by threshold, as a table in a figure."""
    heads = ("threshold", "alerts", "precision", "recall", "F1", "F2", "false positive\nrate", "cost")
    texts = [
        [f"{r.threshold:.2f}", f"{r.alerts:,}", *map(_share, (r.precision, r.recall)), *map(_plain, (r.f1, r.f2)),
         _share(r.false_positive_rate, 2), f"{r.cost:,.0f}"]
        for r in evaluation.thresholds
    ]  # fmt: skip
    figure = Figure(figsize=(8.6, 1.3 + 0.29 * len(texts)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(f"Results by threshold on {_rows(evaluation)}\n(cost: every alert reviewed, none declined)")
    table = axes.table(texts, colLabels=heads, cellLoc="right", bbox=Bbox.unit())
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    for (row, _), cell in table.get_celld().items():
        cell.set(edgecolor="#DDDDDD", facecolor="#E8EEF4" if row == 0 else "white")
        if row == 0:
            cell.set_height(1.7 * cell.get_height())
    return figure


def beeswarm(contributions: npt.ArrayLike, values: npt.ArrayLike, names: Sequence[str]) -> Figure:
    """SHAP beeswarm: one dot per row and feature at its contribution, coloured by value, strongest feature on top.

    contributions: shape (n, k + 1), XGBoost's `pred_contribs`, in log-odds, the bias last.
    values: shape (n, k), nan drawn grey. names: k of them. Raises ValueError when shapes do not match.
    Source: Lundberg & Lee (2017), A Unified Approach to Interpreting Model Predictions.
    """
    parts, order = _strongest(contributions, names)
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.shape != parts.shape:
        raise ValueError(f"values must have shape {parts.shape}, not {matrix.shape}")
    figure, axes = _canvas(
        8,
        1.6 + 0.36 * len(order),
        "SHAP values by feature",
        "Contribution (log-odds; positive raises the score)",
        "",
    )
    shown = np.unique(np.linspace(0, len(parts) - 1, 2000).astype(int)) if len(parts) > 2000 else np.arange(len(parts))
    dots = None
    for height, at in enumerate(order[::-1]):
        x, v = parts[shown, at], matrix[shown, at]
        finite = np.isfinite(v)
        level = _levels(v[finite])
        y = height + _spread(x)
        axes.scatter(x[~finite], y[~finite], s=5, color=NEUTRAL, lw=0)
        dots = axes.scatter(x[finite], y[finite], s=5, c=level, cmap="cividis", vmin=0, vmax=1, lw=0)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(order)), [label(names[at]) for at in order[::-1]])
    axes.grid(visible=False, axis="x")
    if dots is not None:
        bar = figure.colorbar(dots, ax=axes, aspect=40, ticks=[0.03, 1])
        bar.set_ticklabels(["low", "high"])
        bar.set_label("Value of the feature (rank; categories by code)", labelpad=-12)
    return figure


def importance(contributions: npt.ArrayLike, names: Sequence[str]) -> Figure:
    """Mean absolute contribution of each feature; arguments as for `beeswarm`."""
    parts, order = _strongest(contributions, names)
    strength = np.abs(parts).mean(axis=0)[order[::-1]]
    figure, axes = _canvas(
        7, 1.4 + 0.32 * len(order), "Feature importance", "Mean absolute contribution (log-odds)", ""
    )
    bars = axes.barh(range(len(order)), strength, color=LEGITIMATE)
    axes.set_yticks(range(len(order)), [label(names[at]) for at in order[::-1]])
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    return figure


def label(text: str, max_length: int = MAX_LABEL_LENGTH) -> str:
    """External text as a figure label: no markup, at most `max_length` characters, missing glyphs as escapes."""
    known = _glyphs()
    return "".join(c if ord(c) in known else c.encode("unicode_escape").decode() for c in plot_text(text, max_length))


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def _strongest(contributions: npt.ArrayLike, names: Sequence[str]) -> tuple[Floats, list[int]]:
    matrix = np.asarray(contributions, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != len(names) + 1 or not matrix.shape[0]:
        raise ValueError(f"contributions must have shape (n, {len(names) + 1}), n > 0, not {matrix.shape}")
    order = np.argsort(-np.abs(matrix[:, :-1]).mean(axis=0), kind="stable")[:MAX_FEATURES]
    return matrix[:, :-1], [int(at) for at in order]


def _levels(values: Floats) -> Floats:
    """Mid-ranks scaled to [0, 1], so that a skewed feature uses the whole colour scale."""
    ordered = np.sort(values)
    middle = np.searchsorted(ordered, values, side="left") + np.searchsorted(ordered, values, side="right")
    width = np.ptp(middle) if middle.size else 0
    return (middle - middle.min()) / width if width else np.full(values.shape, 0.5)


def _spread(x: Floats, bins: int = 100) -> Floats:
    """Vertical offsets in ±0.4 that separate dots with similar contributions."""
    width = max(float(np.ptp(x)), 1e-12) / bins
    column = ((x - x.min()) / width).astype(int)
    order = np.argsort(column, kind="stable")
    _, starts, counts = np.unique(column[order], return_index=True, return_counts=True)
    place = np.arange(x.size) - np.repeat(starts, counts)
    side = np.where(place % 2, 1, -1) * ((place + 1) // 2)
    offsets = np.empty(x.size)
    offsets[order] = 0.8 * side / max(int(counts.max()), 10)
    return offsets


def _canvas(width: float, height: float, title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(color="#E5E5E5")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _percent(figure: Figure, axes: Axes) -> Figure:
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    return figure


def _rows(evaluation: Evaluation) -> str:
    return f"{evaluation.n:,} rows, {evaluation.frauds:,} frauds"


def _with_interval(metric: Metric) -> str:
    if metric.value is None:
        return "unknown (too few rows)"
    return f"{metric.value:.3f}" + (f" ({metric.low:.3f} to {metric.high:.3f})" if metric.low is not None else "")


def _share(number: float | None, decimals: int = 1) -> str:
    return "–" if number is None else f"{number:.{decimals}%}"


def _plain(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}"
