"""`make bench`: throughput of Tamiz and of its peers on one topic of transactions, with the embedded broker.

Each contender reads the same topic as one process on the same core, with the same trees and the same pure handler:
decode, clean, score, decide, produce; acknowledged by all replicas, uncompressed. The clock starts at the first output.
A slow contender has a time limit; its throughput is that within the limit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.charts import bars
from benchmarks.environment import CORES, ONE_THREAD, ROOT, BenchmarkEnvironment, benchmark_environment
from benchmarks.process_metrics import ProcessMetrics, measure

ROWS = 500_000
PARTITIONS = 4
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Contender:
    """A contender and its settings."""

    letter: str
    name: str
    program: str  # `tamiz`, or a module of `benchmarks.peers`
    configuration: str
    processing_guarantee: str = "at-least-once"


CONTENDERS = (
    Contender("a", "Tamiz", "tamiz", "drift counting on; batches of 2,000; acks=all, idempotent"),
    Contender(
        "f", "confluent-kafka by hand", "confluent_loop", "batches of 1,000, flush, commit; acks=all, idempotent"
    ),
    Contender("b", "Tamiz, not counting", "uncounted_worker", "drift counting off; else as a"),
    Contender(
        "x",
        "Tamiz, exactly once",
        "tamiz",
        "a transaction for each partition of a batch (its markers count as rows here, 1 in 500); else as a",
        processing_guarantee="exactly-once",
    ),
    Contender("c", "Faust, event by event", "faust_events", "one event; acks=all; commits every 2.8 s"),
    Contender("d", "Faust, take()", "faust_take", "batches of 1,000 within 1 s; else as c"),
    Contender("e", "Quix Streams", "quix_streams", "one event; acks=all, idempotent; commits every 5 s"),
    Contender("g", "kafka-python, pandas, pyfunc", "pandas_pyfunc", "one event; acks=all, idempotent; no reasons"),
)
REPEATED = "afbx"  # fast contenders run several times, to show the noise of the machine
BARS = (("c", 10.0), ("d", 5.0), ("e", 3.0), ("f", 0.9))
EXACTLY_ONCE_BAR = 0.5
HANDLER_BAR = 2.0
MEMORY_BAR_MB = 500.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="transactions on the topic")
    parser.add_argument(
        "--rounds", type=int, default=3, help="number of runs of the fast contenders, alternating; the median counts"
    )
    parser.add_argument("--only", default="abcdefgx", help="letters of the contenders")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    console = Console()
    with benchmark_environment() as stage:
        results = contest(stage, options.rows, options.rounds, options.only, console)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "stream.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    bars(results, options.out / "stream.png")
    show(results, Console(width=100))


def contest(stage: BenchmarkEnvironment, rows: int, rounds: int, letters: str, console: Console) -> dict[str, object]:
    """Run all contenders; returns the content of the JSON file."""
    console.print(f"filling a topic with {rows:,} transactions")
    topic = stage.create_topics(PARTITIONS)
    path = stage.simulated_file(rows)
    stage.fill(topic, path)
    subprocess.run([sys.executable, "-m", "benchmarks.peers.pyfunc_model", stage.bundle], cwd=ROOT, check=True)
    runs: dict[str, list[ProcessMetrics]] = {c.letter: [] for c in CONTENDERS if c.letter in letters}
    for turn in range(rounds):
        for contender in CONTENDERS:
            if contender.letter in runs and (turn == 0 or contender.letter in REPEATED):
                run = one_run(stage, contender, topic.transactions_topic, rows)
                runs[contender.letter].append(run)
                console.print(f"{contender.letter} {contender.name}: {run.per_second:,.0f}/s, {run.cpu_us:,.1f} µs")
    return {
        "rows": rows,
        "partitions": PARTITIONS,
        "payload_bytes": path.stat().st_size // rows,
        "handler_cpu_us": {
            "batches of 2,000": handler_cpu_us(stage, path, 2_000),
            "one by one": handler_cpu_us(stage, path, 1),
        },
        "contenders": [
            {
                "letter": c.letter,
                "name": c.name,
                "settings": c.configuration,
                "rows": max(run.rows for run in runs[c.letter]),
                "per_second": statistics.median(run.per_second for run in runs[c.letter]),
                "cpu_us": statistics.median(run.cpu_us for run in runs[c.letter]),
                "peak_mb": max(run.peak_mb for run in runs[c.letter]),
                "runs_per_second": [round(run.per_second) for run in runs[c.letter]],
            }
            for c in sorted(CONTENDERS, key=lambda c: c.letter)
            if c.letter in runs
        ],
    }


def one_run(stage: BenchmarkEnvironment, contender: Contender, topic: str, rows: int) -> ProcessMetrics:
    """Run one contender on the whole topic."""
    settings = stage.create_topics(PARTITIONS, topic, processing_guarantee=contender.processing_guarantee)
    with stage.run_contender(contender.program, settings) as process, stage.count_outputs(settings) as counted:
        return measure(process.pid, counted, rows, TIMEOUT_S)


def handler_cpu_us(stage: BenchmarkEnvironment, path: Path, size: int) -> float:
    """CPU microseconds per transaction of the pure handler alone, on the contenders' core."""
    words = [sys.executable, "-m", "benchmarks.peers.handler_alone", path, str(size), "4", stage.bundle]
    pinned = ["taskset", "-c", str(CORES[0]), *words]
    done = subprocess.run(pinned, cwd=ROOT, check=True, capture_output=True, env=environ())
    return float(msgspec.json.decode(done.stdout))


def environ() -> dict[str, str]:
    """Environment of a process whose CPU time is measured: one thread."""
    return os.environ | ONE_THREAD


def show(results: dict[str, object], console: Console) -> None:
    """Print the contenders and the bars."""
    contenders: list[dict[str, float | str]] = results["contenders"]  # type: ignore[assignment]
    by_letter = {c["letter"]: c for c in contenders}
    ours = by_letter.get("a", contenders[0])
    table = Table(title=f"{results['rows']:,} transactions of {results['payload_bytes']} bytes", title_justify="left")
    for head in ("", "a second", "a is ×", "CPU µs", "peak MB", "rows"):
        table.add_column(head, justify="right" if head else "left")
    for c in contenders:
        ratio = f"{float(ours['per_second']) / float(c['per_second']):.2f}"
        numbers = f"{c['per_second']:,.0f}", ratio, f"{c['cpu_us']:,.1f}", f"{c['peak_mb']:,.0f}", f"{c['rows']:,}"
        table.add_row(f"{c['letter']} {c['name']}", *numbers)
    console.print(table)
    for c in contenders:
        console.print(f"{c['letter']}: {c['settings']}", highlight=False)
    handler: dict[str, float] = results["handler_cpu_us"]  # type: ignore[assignment]
    for name, cost in handler.items():
        console.print(f"the pure handler alone, {name}: {cost:.1f} µs of CPU each")
    if ours["letter"] != "a":
        return
    for letter, bar in BARS:
        if letter in by_letter:
            ratio = float(ours["per_second"]) / float(by_letter[letter]["per_second"])
            print_bar(console, ratio >= bar, f"a ≥ {bar:g} × {letter}: {ratio:.2f}")
    if "x" in by_letter:
        ratio = float(by_letter["x"]["per_second"]) / float(ours["per_second"])
        print_bar(console, ratio >= EXACTLY_ONCE_BAR, f"x ≥ {EXACTLY_ONCE_BAR:g} × a: {ratio:.2f}")
    times = float(ours["cpu_us"]) / handler["batches of 2,000"]
    print_bar(console, times <= HANDLER_BAR, f"CPU of a ≤ {HANDLER_BAR:g} × the handler's: {times:.2f}")
    peak = float(ours["peak_mb"])
    print_bar(console, peak <= MEMORY_BAR_MB, f"peak memory of a ≤ {MEMORY_BAR_MB:.0f} MB: {peak:.0f}")


def print_bar(console: Console, met: bool, bar: str) -> None:
    """Print a bar and whether it is met."""
    console.print(f"{'met   ' if met else 'MISSED'} {bar}")


if __name__ == "__main__":
    main()
