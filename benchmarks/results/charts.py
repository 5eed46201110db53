"""Charts of the stream benchmarks."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.results.result_rows import FULL, Results

OURS, THEIRS = "#0b6e4f", "#9aa5b1"
LINES = (
    (OURS, "tamiz"),
    ("#7fb69e", "tamiz-eo"),
    ("#1f4e79", "loop"),
    ("#6a8fb5", "pipeline"),
    ("#c1666b", "faust-take"),
    ("#d4a24c", "quix"),
)


def draw_stream(results: Results, folder: Path) -> None:
    """Charts of throughput, latency and CPU."""
    _throughput(results, folder / "stream.png")
    _by_rate(results, folder / "latency.png")


def _throughput(results: Results, path: Path) -> None:
    """Throughput of every contender, the fastest on top; linear scale."""
    rows = sorted((r for r in results.rows if r.rate == FULL and r.per_second), key=lambda r: r.per_second or 0.0)
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(rows) + 1), layout="constrained")
    colours = [OURS if row.contender.startswith("tamiz") else THEIRS for row in rows]
    drawn = axes.barh([row.title for row in rows], [row.per_second or 0.0 for row in rows], color=colours)
    axes.bar_label(drawn, [f"{row.per_second:,.0f}" for row in rows], padding=4)
    axes.set_xlabel("transactions decided per second, one process on one core")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _by_rate(results: Results, path: Path) -> None:
    """Latency and CPU by rate."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for colour, contender in LINES:
        rows = [r for r in results.rows if r.contender == contender and r.rate != FULL and r.cpu_share is not None]
        rates = [int(row.rate) for row in rows]
        if not rows:
            continue
        for percentile, style in (("p50", ":"), ("p99", "-")):
            points = [
                (rate, row.ms[percentile]) for rate, row in zip(rates, rows, strict=True) if row.ms.get(percentile)
            ]
            if points:
                label = f"{rows[0].title}, {percentile}"
                left.plot(*zip(*points, strict=True), style, marker="o", markersize=3, color=colour, label=label)
        shares = [100 * (row.cpu_share or 0.0) for row in rows]
        right.plot(rates, shares, marker="o", markersize=3, color=colour, label=rows[0].title)
    left.set(xscale="log", yscale="log", xlabel="transactions per second", ylabel="latency, ms")
    right.set(xscale="log", xlabel="transactions per second", ylabel="CPU, % of a core", ylim=(0, None))
    for axes in (left, right):
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_costs(results: dict[str, Any], path: Path) -> None:
    """One small chart per cost of the handler."""
    figure, grid = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    trees = [(f"{features} features", points) for features, points in results["trees"].items()]
    drawn = (
        ([("", results["batch"])], "transactions per batch", "handler, CPU µs each", "log"),
        ([("", results["payload"])], "bytes per payload", "handler, CPU µs each", "linear"),
        (trees, "trees of depth 6", "XGBoost, CPU µs each", "linear"),
    )
    for axes, (series, x, y, scale) in zip(grid.flat, drawn, strict=True):
        for colour, (label, points) in zip((OURS, "#1f4e79"), series, strict=False):
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=label or None)
        axes.set(xscale=scale, xlabel=x, ylabel=y, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        if series[0][0]:
            axes.legend(fontsize=8, frameon=False)
    grid[0].set(yscale="log", ylim=(1, None))
    figure.savefig(path, dpi=130)
    plt.close(figure)
