"""Figures of a backtest: percentiles and drift of the score, alerts, and precision and recall, by day."""

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.evaluation.backtest import MIN_SHIFT_PSI, Backtest
from training.reports.figures import ACCENT, FRAUD, LEGITIMATE, NEUTRAL


def draw_backtest(backtest: Backtest) -> dict[str, Figure]:
    """All figures of a backtest, by file name without extension. Days without rows stay empty."""
    return {
        "backtest_percentiles": percentiles(backtest),
        "backtest_drift": drift(backtest),
        "backtest_alerts": alerts(backtest),
        "backtest_precision_recall": precision_and_recall(backtest),
    }


def percentiles(backtest: Backtest) -> Figure:
    """Percentiles of the score by day, with the training percentiles as dashed lines."""
    figure, axes = _canvas("Percentiles of the score by day", "Score (probability of fraud)", backtest)
    filled = [(at, day.percentiles) for at, day in enumerate(backtest.days) if day.percentiles is not None]
    colours = ("#BDD7E7", "#6BAED6", LEGITIMATE, "#6BAED6", "#E69F00", FRAUD)
    for k, level in enumerate(backtest.levels):
        axes.plot(
            [at for at, _ in filled], [p[k] for _, p in filled], marker="o", ms=4, color=colours[k % len(colours)],
            label=f"{level} %",
        )  # fmt: skip
        if backtest.reference:
            axes.axhline(backtest.reference[k], color=colours[k % len(colours)], ls="--", lw=0.9)
    axes.plot([], [], color=NEUTRAL, ls="--", lw=0.9, label="training")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
    return figure


def drift(backtest: Backtest) -> Figure:
    """PSI and KS of each day's scores against training, with the PSI expected without drift."""
    figure, axes = _canvas("Drift of the score by day", "Distance from training", backtest)
    filled = [(at, day.shift) for at, day in enumerate(backtest.days) if day.shift is not None]
    axes.bar([at - 0.2 for at, _ in filled], [s.psi for _, s in filled], 0.4, color=LEGITIMATE, label="PSI")
    axes.bar([at + 0.2 for at, _ in filled], [s.ks for _, s in filled], 0.4, color="#E69F00", label="KS distance")
    axes.plot(
        [at - 0.2 for at, _ in filled], [s.expected_psi for _, s in filled], "_", ms=16, mew=2, color="black",
        label="PSI expected without drift",
    )  # fmt: skip
    axes.axhline(MIN_SHIFT_PSI, color=NEUTRAL, ls="--", lw=1, label=f"threshold of a shift (PSI {MIN_SHIFT_PSI:g})")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def alerts(backtest: Backtest) -> Figure:
    """Share of each day's rows at or above each operating point and fixed threshold."""
    figure, axes = _canvas("Alerts by day", "Share of the day's transactions (%)", backtest)
    filled = [(at, day) for at, day in enumerate(backtest.days) if day.n]
    names = [a.name for a in backtest.whole.alerts]
    colours = {"review": LEGITIMATE, "challenge": ACCENT, "decline": FRAUD}
    for name in sorted(names, key=lambda n: (n not in colours, n)):
        total = backtest.whole.alerts_at(name).alerts
        chosen, colour = name in colours, colours.get(name, NEUTRAL)
        axes.plot(
            [at for at, _ in filled], [d.alerts_at(name).alerts / d.n for _, d in filled], color=colour,
            marker="o", ms=5 if chosen else 3, lw=1.8 if chosen else 0.8, ls="-" if chosen else ":",
            label=_point(name, backtest) if chosen else f"from {name}: {total:,} in total",
        )  # fmt: skip
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def precision_and_recall(backtest: Backtest) -> Figure:
    """Precision and recall at the review point by day, with 95 % intervals and the base rate."""
    figure, axes = _canvas("Precision and recall at the review point", "Share (%)", backtest)
    days = [(at, day.alerts_at("review")) for at, day in enumerate(backtest.days)]
    highest = 0.0
    for name, offset, colour in (("precision", -0.1, LEGITIMATE), ("recall", 0.1, ACCENT)):
        known = [(at, share) for at, alert in days if (share := getattr(alert, name)) is not None]
        if known:
            highest = max(highest, *(s.high for _, s in known))
            axes.errorbar(
                [at + offset for at, _ in known], [s.value for _, s in known], fmt="o", color=colour, capsize=3,
                yerr=[[s.value - s.low for _, s in known], [s.high - s.value for _, s in known]],
                label=f"{name}, 95 % interval",
            )  # fmt: skip
    if (rate := backtest.evaluation.base_rate) is not None:
        axes.axhline(rate, color=NEUTRAL, ls="--", label=f"random score: base rate {rate:.2%}")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.set_ylim(0, min(1.02, 1.2 * max(highest, backtest.evaluation.base_rate or 0.0, 0.05)))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _point(name: str, backtest: Backtest) -> str:
    point = getattr(backtest.points, name)
    return f"{name}: never" if point > 1 else f"{name} from {point:.4f}"


def _canvas(title: str, y: str, backtest: Backtest) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(title=f"{title}, version {backtest.version}", ylabel=y, xlim=(-0.5, len(backtest.days) - 0.5))
    axes.set_xticks(
        range(len(backtest.days)), [f"{d.name[5:]}\n{f'n = {d.n:,}' if d.n else 'no rows'}" for d in backtest.days]
    )
    axes.grid(color="#E5E5E5")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
