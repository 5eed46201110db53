"""Charts of the stream benchmarks."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, THEIRS = "#0b6e4f", "#9aa5b1"


def bars(results: dict[str, Any], path: Path) -> None:
    """Throughput of every contender, the fastest on top; linear scale."""
    contenders = sorted(results["contenders"], key=lambda c: c["per_second"])
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(contenders) + 1), layout="constrained")
    colours = [OURS if c["letter"] in "ab" else THEIRS for c in contenders]
    drawn = axes.barh([c["name"] for c in contenders], [c["per_second"] for c in contenders], color=colours)
    axes.bar_label(drawn, [f"{c['per_second']:,.0f}" for c in contenders], padding=4)
    axes.set_xlabel("transactions decided per second, one process on one core")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def latencies(results: dict[str, Any], path: Path) -> None:
    """Latency percentiles of every contender by rate, and the maximum per tenth of a second around a swap."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for colour, letter in zip((OURS, "#1f4e79", "#c1666b", "#d4a24c"), "afde", strict=True):
        runs = [r for r in results["runs"] if r["letter"] == letter and r["ms"]["p99"] is not None]
        if runs:
            rates = [r["rate"] for r in runs]
            for percentile, style in (("p50", ":"), ("p99", "-")):
                label = f"{runs[0]['name']}, {percentile}"
                left.plot(rates, [r["ms"][percentile] for r in runs], style, marker="o", color=colour, label=label)
    left.set(xscale="log", yscale="log", xlabel="transactions per second", ylabel="latency, ms")
    left.legend(fontsize=7, frameon=False)
    if swap := results.get("swap"):
        worst = [ms or 0.0 for ms in swap["worst_ms"]]
        right.plot([tenth / 10 for tenth in range(len(worst))], worst, color=OURS)
        right.axvline(swap["promoted_after_s"], color="#c1666b", linestyle="--", label="another champion promoted")
        right.set(xlabel="seconds", ylabel="maximum per 0.1 s, ms", ylim=(0, None))
        right.set_title(f"Tamiz at {swap['rate']:,}/s", fontsize=10)
        right.legend(fontsize=7, frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def growths(results: dict[str, Any], path: Path) -> None:
    """One small chart per scaling experiment."""
    figure, grid = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    trees = [(f"{features} features", points) for features, points in results["trees"].items()]
    drawn = (
        ([("", results["batch"])], "transactions per batch", "handler, CPU µs each", "log"),
        ([("", results["payload"])], "bytes per payload", "handler, CPU µs each", "linear"),
        (trees, "trees of depth 6", "prediction, CPU µs each", "linear"),
        ([("", results["partitions"])], "partitions", "one worker, per second", "log"),
        ([("", results["workers"])], "workers on two cores, with the broker", "per second", "linear"),
        ([("", results["memory"])], "seconds at 2,000/s", "resident MB", "linear"),
    )
    for axes, (series, x, y, scale) in zip(grid.flat, drawn, strict=True):
        for colour, (label, points) in zip((OURS, "#1f4e79"), series, strict=False):
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=label or None)
        axes.set(xscale=scale, xlabel=x, ylabel=y, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        if series[0][0]:
            axes.legend(fontsize=8, frameon=False)
    grid[0][0].set_yscale("log")
    figure.savefig(path, dpi=130)
    plt.close(figure)
