"""The figures of the stream benchmarks."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS, THEIRS = "#0b6e4f", "#9aa5b1"


def bars(found: dict[str, Any], path: Path) -> None:
    """Throughput of every contender, the fastest on top; a logarithm would flatter the slow."""
    contenders = sorted(found["contenders"], key=lambda c: c["per_second"])
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
