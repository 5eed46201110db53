"""Figures of daily reviews: precision@k by day, and value detected by the number of reviews a day."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from training.evaluation.review_metrics import ReviewEvaluation, ReviewMetric, metric_title

FOUND, ATTAINABLE, RANDOM = "#0072B2", "#009E73", "#7F7F7F"
REVIEW_FIGURES = ("precision_at_k", "value_detected")
MAX_DATES = 8  # on the axis
DAYS_PER_MONTH = 30


def draw_reviews(reviews: ReviewEvaluation) -> dict[str, Figure]:
    """The figures of daily reviews, by file name without extension; those that have no data are left out."""
    figures = {"precision_at_k": precision_by_day(reviews)} if reviews.days else {}
    return figures | ({"value_detected": value_by_budget(reviews)} if reviews.budgets else {})


def precision_by_day(reviews: ReviewEvaluation) -> Figure:
    """Precision@k of cards (of transactions, without a key) by day, with the mean, its interval and the attainable."""
    by_card = reviews.metric("card_precision").value is not None
    metric = reviews.metric("card_precision" if by_card else "transaction_precision")
    days = reviews.days
    found = [d.cards_found if by_card else d.frauds_found for d in days]
    most = [d.cards_attainable if by_card else d.frauds_attainable for d in days]
    at, k = np.arange(len(days)), reviews.per_day
    figure, axes = _canvas(f"{metric_title(metric.name, k)} by day", "Day (UTC)", "Precision (%)")
    axes.step(at, np.array(most, dtype=float) / k, where="mid", color=ATTAINABLE, lw=1.2,
              label=f"attainable: mean {metric.attainable:.3f}")  # fmt: skip
    axes.plot(at, np.array(found, dtype=float) / k, "o", ms=3.5, color=FOUND, label=_mean(metric))
    _line(axes, metric, FOUND)
    axes.axhline(metric.random or 0.0, color=RANDOM, ls="--", lw=1, label=f"random order: {metric.random:.3f}")
    shown = np.unique(np.linspace(0, len(days) - 1, min(len(days), MAX_DATES)).astype(int))
    axes.set_xticks(shown, [days[i].day[5:] for i in shown])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend(loc="best")
    return figure


def value_by_budget(reviews: ReviewEvaluation) -> Figure:
    """Value detected by the number of reviews a day, with its interval by day, and the same a month on top."""
    points = reviews.budgets
    budgets = [p.per_day for p in points]
    figure, axes = _canvas("Value detected by review budget", "Reviews (a day)", "Share of the fraud amount (%)")
    if all(p.low is not None for p in points):
        axes.fill_between(budgets, [p.low or 0.0 for p in points], [p.high or 0.0 for p in points], color=FOUND,
                          alpha=0.2, lw=0, label="95 % interval by day")  # fmt: skip
    axes.plot(budgets, [p.value for p in points], "o-", ms=3.5, color=FOUND, label="model")
    axes.plot(budgets, [p.attainable for p in points], color=ATTAINABLE, lw=1.2, label="attainable")
    axes.plot(budgets, [p.random for p in points], color=RANDOM, ls="--", lw=1, label="random order")
    axes.axvline(reviews.per_day, color="black", lw=0.8, ls=":", label=f"{reviews.per_day:,} reviews a day")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    month = axes.secondary_xaxis("top", functions=(_per_month, _per_day))
    month.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    month.set_xlabel(f"a month of {DAYS_PER_MONTH} days")
    axes.legend(loc="best")
    return figure


def _per_month(per_day: npt.ArrayLike) -> npt.ArrayLike:
    return np.multiply(per_day, DAYS_PER_MONTH)


def _per_day(per_month: npt.ArrayLike) -> npt.ArrayLike:
    return np.divide(per_month, DAYS_PER_MONTH)


def _mean(metric: ReviewMetric) -> str:
    interval = "" if metric.low is None else f" ({metric.low:.3f} to {metric.high:.3f})"
    return f"model: mean {metric.value:.3f}{interval}"


def _line(axes: Axes, metric: ReviewMetric, colour: str) -> None:
    axes.axhline(metric.value or 0.0, color=colour, lw=1)
    if metric.low is not None and metric.high is not None:
        axes.axhspan(metric.low, metric.high, color=colour, alpha=0.15, lw=0)


def _canvas(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(color="#E5E5E5")
    axes.set_axisbelow(True)
    axes.spines[["right"]].set_visible(False)
    return figure, axes
