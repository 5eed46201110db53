"""`make bench-batch`: `tamiz score` and pandas on a million simulated rows, on one core.

Each contender is a new process on one core, measured from start to end with imports. The bar applies to its CPU time,
user and system; the wall-clock time is reported, too, and is equal on an idle core. Memory is the peak of the resident
set. Exits with 1 when the bar is missed or the scores differ. Linux only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.components.batch_peers import ROWS_ONE_BY_ONE
from schemas.configuration.settings import load
from tamiz.simulation.payload_formats import write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train
from training.registry.mlflow_registry import download_bundle

BAR_SECONDS = 60.0
BAR_ROWS = 1_000_000
SCORE_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run of one contender."""

    name: str
    rows: int
    cpu_seconds: float
    wall_seconds: float
    peak_mb: float

    @property
    def us_a_row(self) -> float:
        """CPU µs per row, including the start of the process."""
        return 1e6 * self.cpu_seconds / self.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=BAR_ROWS)
    rows = parser.parse_args().rows
    console = Console()
    with tempfile.TemporaryDirectory() as scratch, console.status("simulating and training …"):
        folder = Path(scratch)
        settings = msgspec.structs.replace(load({}), state_dir=folder / "state")
        for name, n, seed in (("history", 30_000, 0), ("big", rows, 1), ("tenth", rows // 10, 1)):
            traffic = Traffic(rows=n, seed=seed, signal=True)
            write(traffic, simulate(traffic), folder / f"{name}.csv")
        version = train(settings, folder / "history.csv", force="a benchmark decides nothing").version
        bundle = download_bundle(settings, version, folder / "bundle")
        peers = [sys.executable, "-m", "benchmarks.components.batch_peers"]
        tamiz = [sys.executable, "-m", "tamiz", "score", "--version", str(version)]
        state = {"TAMIZ_STATE_DIR": str(settings.state_dir)}

        def path(name: str) -> str:
            return str(folder / f"{name}.csv")

        runs = [
            measure_run("tamiz score", rows, [*tamiz, path("big"), "-o", path("ours")], state),
            measure_run("tamiz score, a tenth", rows // 10, [*tamiz, path("tenth"), "-o", path("small")], state),
            measure_run("pandas, whole file", rows, [*peers, "columns", path("big"), str(bundle), path("columns")]),
            measure_run(
                "pandas, row by row", ROWS_ONE_BY_ONE, [*peers, "rows", path("big"), str(bundle), path("rows")]
            ),
        ]
        ours, theirs = (pd.read_csv(path(name), sep=";", usecols=["score"]).score for name in ("ours", "columns"))
        furthest = float(np.abs(ours - theirs).max())
    show(console, runs, furthest)
    sys.exit(0 if runs[0].us_a_row * BAR_ROWS / 1e6 <= BAR_SECONDS and furthest <= SCORE_TOLERANCE else 1)


def measure_run(name: str, rows: int, command: list[str], environment: dict[str, str] | None = None) -> Run:
    """Run a command on one core."""
    core = min(os.sched_getaffinity(0))
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            env=os.environ | one_thread | (environment or {}),
            stdout=output,
            stderr=output,
        )
        peak_kb, ended = 0, (0, 0, None)
        while not ended[0]:
            # The peak that `wait4` reports includes the memory of the parent at the fork.
            peak_kb = max(peak_kb, resident_peak_kb(process.pid))
            time.sleep(0.02)
            ended = os.wait4(process.pid, os.WNOHANG)
        wall, (_, status, used) = time.perf_counter() - start, ended
        if status:
            output.seek(0)
            raise SystemExit(f"{name} failed: {output.read().decode()[-1000:]}")
    cpu = used.ru_utime + used.ru_stime
    return Run(name=name, rows=rows, cpu_seconds=cpu, wall_seconds=wall, peak_mb=peak_kb / 1024)


def resident_peak_kb(pid: int) -> int:
    """Peak resident set of a running process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def show(console: Console, runs: list[Run], furthest: float) -> None:
    table = Table(title="A file, scored on one core; start of the program included", title_justify="left")
    for head in ("", "rows", "CPU", "wall", "µs a row", "a million", "peak"):
        table.add_column(head, justify="left" if not head else "right")
    for run in runs:
        million = f"{run.us_a_row * BAR_ROWS / 1e6:,.0f} s"
        seconds = f"{run.cpu_seconds:.1f} s", f"{run.wall_seconds:.1f} s"
        table.add_row(run.name, f"{run.rows:,}", *seconds, f"{run.us_a_row:,.1f}", million, f"{run.peak_mb:,.0f} MB")
    console.print(table)
    console.print(
        f"bar: a million rows in {BAR_SECONDS:.0f} s. Largest difference between our scores and pandas': {furthest:.1e}"
    )


if __name__ == "__main__":
    main()
