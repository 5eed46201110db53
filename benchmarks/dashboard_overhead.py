"""Overhead of the dashboard on a worker at 5,000 transactions/s: CPU and latency without and with a dashboard.

Runs alternate, so that load on the machine affects both alike. The dashboard shares the last core with broker and
sender. The sender sends batches every 100 ms, so that this core is not saturated: otherwise larger batches would reduce
the CPU time of the worker.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psutil
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from benchmarks.environment import ROOT, BenchmarkEnvironment, benchmark_environment, environment
from benchmarks.latency import WARM_UP, await_first, run_paced
from schemas.configuration.settings import Settings
from tamiz.dev_broker.embedded_broker import free_port

RATE = 5_000
BAR = 0.02  # of a core
LINGER_MS = 100
PARTITIONS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    with benchmark_environment() as stage:
        settings = replace(stage.create_topics(PARTITIONS), dashboard_port=free_port())
        with stage.run_contender("tamiz", settings) as worker:
            await_first(stage, settings)
            run_paced(stage, settings, *WARM_UP)
            runs = [
                {"page": watched} | run(stage, settings, worker.pid, options.seconds, watched)
                for _ in range(options.turns)
                for watched in (False, True)
            ]
    results = {"rate": RATE, "runs": runs, "costs_of_a_core": cost(runs)}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "page.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    show(results, Console(width=100))


def run(stage: BenchmarkEnvironment, settings: Settings, worker: int, seconds: float, watched: bool) -> dict[str, Any]:
    """One run: CPU of worker and dashboard as shares of a core, and latency."""
    with dashboard(settings) if watched else nullcontext() as viewed:
        before, started = cpu_seconds(worker), time.monotonic()
        before_page = cpu_seconds(viewed.pid) if viewed else 0.0
        measured = run_paced(stage, settings, RATE, seconds, LINGER_MS)
        elapsed = time.monotonic() - started
        return {
            "worker": (cpu_seconds(worker) - before) / elapsed,
            "page_process": (cpu_seconds(viewed.pid) - before_page) / elapsed if viewed else None,
            "ms": measured["ms"],
            "never_heard": measured["never_heard"],
        }


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process since its start."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def dashboard(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Context manager: `tamiz dashboard` with one client that reads its events."""
    url = f"http://127.0.0.1:{settings.dashboard_port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tamiz", "dashboard"], env=environment(settings), stderr=subprocess.DEVNULL, cwd=ROOT
    )
    try:
        until = time.monotonic() + 60
        while not _answers(url):
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit("the dashboard did not start within 60 s")
            time.sleep(0.2)
        threading.Thread(target=_look, args=(url,), daemon=True).start()
        time.sleep(2.0)
        yield process
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/livez", timeout=2):
            return True
    except OSError:
        return False


def _look(url: str) -> None:
    try:
        with urllib.request.urlopen(f"{url}/events", timeout=30) as events:
            while events.readline():
                pass
    except OSError:
        return


def cost(runs: list[dict[str, Any]]) -> float:
    """Median CPU of the worker with dashboard minus that without, as a share of a core."""
    with_it, without = ([r["worker"] for r in runs if r["page"] == watched] for watched in (True, False))
    return statistics.median(with_it) - statistics.median(without)


def show(results: dict[str, Any], console: Console) -> None:
    """Print every run and the bar."""
    table = Table(title=f"The worker at {results['rate']:,} transactions a second", title_justify="left")
    for head in ("", "worker, of a core", "dashboard, of a core", "p50 ms", "p99 ms", "unanswered"):
        table.add_column(head, justify="right" if head else "left")
    for one in results["runs"]:
        own = "-" if one["page_process"] is None else f"{one['page_process']:.1%}"
        late = [f"{one['ms'][q]:,.1f}" if one["ms"][q] is not None else "-" for q in ("p50", "p99")]
        name = "with dashboard" if one["page"] else "without"
        table.add_row(name, f"{one['worker']:.1%}", own, *late, str(one["never_heard"]))
    console.print(table)
    costs = results["costs_of_a_core"]
    word = "met" if costs <= BAR else "missed"
    console.print(f"the dashboard costs the worker {costs:+.1%} of a core; bar {BAR:.0%}: {word}")


if __name__ == "__main__":
    main()
