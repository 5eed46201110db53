"""`make bench`: throughput, CPU and latency of Tamiz and its peers, in one table.

Each contender runs alone, as one process on a core of its own; the broker, the sender and the reader of decisions share
the other core. All score with the same trees and the same pure handler, acknowledged by all replicas.

* Full load: a topic is filled, then read to its end. Throughput counts from the first output, for at most 20 s.
* At a rate (open loop): latency is the time from the moment at which a transaction was due, whether or not the sender
  was in time, until its decision was read. "CPU" is the contender's CPU time, with its children, as a share of a core.

`python -m benchmarks.stream --only tamiz,loop --rates full,1000` repeats single rows; `NAME@COMMIT` is a contender as
of a commit, e.g. `--only tamiz,tamiz@main`. New rows replace those in `stream.json`.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.contest.contenders import CONTENDERS, RATES, Contender, selected
from benchmarks.contest.contest import Contest
from benchmarks.contest.environment import ROOT, BenchmarkEnvironment, benchmark_environment
from benchmarks.results.charts import draw_stream
from benchmarks.results.result_rows import FULL, ResultRow, machine, median_row, merge, read, write
from benchmarks.results.result_tables import print_bars, print_rows

ROWS = 500_000


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    order = [contender.name for contender in CONTENDERS]
    parser.add_argument("--only", default=",".join(order), help=f"contenders: {','.join(order)}")
    parser.add_argument("--rates", default="", help="full, transactions per second, or both; default: all")
    parser.add_argument("--rows", type=int, default=ROWS, help="transactions on the topic at full load")
    parser.add_argument("--rounds", type=int, default=3, help="runs at full load, alternating; the median counts")
    parser.add_argument("--paced-rounds", type=int, default=1, help="runs at each rate, alternating; the median counts")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured at each rate")
    parser.add_argument("--budget", type=float, default=27.0, help="minutes, after which no contender is started")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    path = options.out / "stream.json"
    runs: dict[tuple[str, str], list[ResultRow]] = {}
    with benchmark_environment() as stage:
        for row in measured(stage, options, Console(width=120)):
            runs.setdefault((row.contender, row.rate), []).append(row)
            # Written at once, so that an interrupted run loses nothing.
            rows = [median_row(found) for found in runs.values()]
            write(path, merge(read(path), machine(), rows, order))
    draw_stream(merge(read(path), machine(), [], order), options.out)
    print_rows(rows, Console(width=150))
    print_bars(rows, Console(width=150))


def measured(stage: BenchmarkEnvironment, options: argparse.Namespace, console: Console) -> Iterator[ResultRow]:
    """A row for every run: every contender at full load and at its rates, as often as there are rounds."""
    until = time.monotonic() + 60 * options.budget
    contenders = selected(options.only)
    wanted = options.rates.split(",") if options.rates else [FULL, *map(str, RATES)]
    save_pyfunc_model(stage, contenders)
    contest = Contest(stage, console, rows=options.rows, seconds=options.seconds)
    contest.warm_up(contenders[0])
    for turn in range(max(options.rounds, options.paced_rounds)):
        for contender in contenders:
            if time.monotonic() > until:
                console.print(f"{contender.name}: no time left in round {turn + 1}")
                continue
            if FULL in wanted and (turn == 0 or (contender.rounds and turn < options.rounds)):
                yield contest.full_load(contender)
            if turn < options.paced_rounds:
                yield from contest.paced(contender, [rate for rate in contender.rates if str(rate) in wanted])


def save_pyfunc_model(stage: BenchmarkEnvironment, contenders: Sequence[Contender]) -> None:
    """Save the model of the contender that scores with `mlflow.pyfunc`, if it takes part."""
    if any(contender.program == "pandas_pyfunc" for contender in contenders):
        words = [sys.executable, "-m", "benchmarks.peers.pyfunc_model", str(stage.bundle)]
        subprocess.run(words, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
