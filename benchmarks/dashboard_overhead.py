"""Overhead of the dashboard on a worker at 5,000 transactions/s: CPU and latency without and with a dashboard.

Runs alternate, so that load on the machine affects both alike. The dashboard shares the last core with broker, sender
and reader; `load` is the share of it that they use.
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

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from benchmarks.contest.contest import await_first
from benchmarks.contest.environment import ROOT, BenchmarkEnvironment, benchmark_environment, environment
from benchmarks.contest.process_metrics import cpu_seconds
from benchmarks.load.paced_run import run_paced
from schemas.configuration.settings import Settings
from tamiz.dev_broker.embedded_broker import free_port

RATE = 5_000
BAR = 0.02  # of a core
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
            runs = [
                {"page": watched} | run(stage, settings, worker.pid, options.seconds, watched)
                for _ in range(options.turns)
                for watched in (False, True)
            ]
    results = {"rate": RATE, "runs": runs, "costs_of_a_core": cost(runs)}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "dashboard_overhead.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    show(results, Console(width=100))


def run(stage: BenchmarkEnvironment, settings: Settings, worker: int, seconds: float, watched: bool) -> dict[str, Any]:
    """One run: CPU of worker and dashboard as shares of a core, and latency."""
    with dashboard(settings) if watched else nullcontext() as viewed:
        before, started = cpu_seconds(viewed.pid) if viewed else 0.0, time.monotonic()
        measured, _ = run_paced(stage, settings, worker, RATE, seconds)
        elapsed = time.monotonic() - started
        return {
            "worker": measured.cpu_share,
            "page_process": (cpu_seconds(viewed.pid) - before) / elapsed if viewed else None,
            "load": sum(measured.load_shares.values()),
            "ms": measured.ms,
            "unanswered": measured.unanswered,
        }


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
        table.add_row(name, f"{one['worker']:.1%}", own, *late, str(one["unanswered"]))
    console.print(table)
    costs = results["costs_of_a_core"]
    word = "met" if costs <= BAR else "missed"
    console.print(f"the dashboard costs the worker {costs:+.1%} of a core; bar {BAR:.0%}: {word}")


if __name__ == "__main__":
    main()
