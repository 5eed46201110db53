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
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.charts import draw_stream
from benchmarks.contenders import CONTENDERS, RATES, Contender, selected
from benchmarks.environment import ROOT, BenchmarkEnvironment, Champion, benchmark_environment
from benchmarks.load.paced_run import run_paced
from benchmarks.process_metrics import measure
from benchmarks.result_rows import FULL, Row, machine, median_row, merge, now, read, this_commit, write
from benchmarks.result_tables import print_bars, print_rows
from benchmarks.trees import THIS_TREE, tree_of
from schemas.configuration.settings import Settings

ROWS = 500_000
TIMEOUT_S = 20.0
LINGER_S = 0.005  # within which peers that work in batches close a batch at a rate; part of their latency
FIRST_TIMEOUT_S = 60.0
PROFILE_DAYS = 1  # event time. Over a month, tiles of five minutes would close every few transactions
DAYS = 29


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ",".join(contender.name for contender in CONTENDERS)
    parser.add_argument("--only", default=names, help=f"contenders: {names}")
    parser.add_argument("--rates", default="", help="full, transactions per second, or both; default: all")
    parser.add_argument("--rows", type=int, default=ROWS, help="transactions on the topic at full load")
    parser.add_argument("--rounds", type=int, default=3, help="runs at full load, alternating; the median counts")
    parser.add_argument("--paced-rounds", type=int, default=1, help="runs at each rate, alternating; the median counts")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured at each rate")
    parser.add_argument("--budget", type=float, default=30.0, help="minutes, after which no contender is started")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    rates = options.rates.split(",") if options.rates else [FULL, *map(str, RATES)]
    console = Console(width=120)
    with benchmark_environment() as stage:
        rows = Contest(stage, options, rates, console).run(selected(options.only))
    path = options.out / "stream.json"
    order = [contender.name for contender in CONTENDERS]
    write(path, merge(read(path), machine(), rows, order))
    draw_stream(merge(read(path), machine(), [], order), options.out)
    console = Console(width=150)
    print_rows(rows, console)
    print_bars(rows, console)


class Contest:
    """Runs contenders in turns. One that fails is a row that says so."""

    def __init__(
        self, stage: BenchmarkEnvironment, options: argparse.Namespace, rates: list[str], console: Console
    ) -> None:
        """options: of the command line. rates: `full` and transactions per second."""
        self._stage, self._options, self._rates, self._console = stage, options, rates, console
        self._topics: dict[tuple[int, int], str] = {}
        self._rows: dict[tuple[str, str], list[Row]] = {}
        self._until = time.monotonic() + 60 * options.budget

    def run(self, contenders: list[Contender]) -> list[Row]:
        """Every contender at full load and at its rates, as often as there are rounds."""
        if any(contender.program == "pandas_pyfunc" for contender in contenders):
            words = [sys.executable, "-m", "benchmarks.peers.pyfunc_model", str(self._stage.bundle)]
            subprocess.run(words, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
        self._warm_up()
        for turn in range(max(self._options.rounds, self._options.paced_rounds)):
            for contender in contenders:
                if time.monotonic() > self._until:
                    self._console.print(f"{contender.name}: no time left in round {turn + 1}")
                    continue
                if FULL in self._rates and (turn == 0 or (contender.rounds and turn < self._options.rounds)):
                    self._try(contender, FULL, self._full_load)
                rates = [rate for rate in contender.rates if str(rate) in self._rates]
                if rates and turn < self._options.paced_rounds:
                    self._paced(contender, rates)
        return [median_row(rows) for rows in self._rows.values()]

    def _warm_up(self) -> None:
        """Let the broker's JVM compile what it needs, so that the first contender has no disadvantage."""
        contender = CONTENDERS[0]
        settings = self._settings(contender)
        with self._stage.run_contender(contender.program, settings) as process:
            await_first(self._stage, settings)
            run_paced(self._stage, settings, process.pid, 2_000, 5.0)

    def _champion(self, contender: Contender) -> Champion:
        tree = tree_of(contender.commit) if contender.commit else THIS_TREE
        return self._stage.champion(tree, contender.profiles)

    def _settings(self, contender: Contender, transactions: str | None = None) -> Settings:
        return self._stage.create_topics(
            contender.partitions,
            transactions,
            self._champion(contender),
            processing_guarantee=contender.guarantee,
        )

    def _full_load(self, contender: Contender) -> Row:
        days = PROFILE_DAYS if contender.profiles else DAYS
        place = contender.partitions, days
        if place not in self._topics:
            settings = self._stage.create_topics(contender.partitions)
            self._stage.fill(settings, self._stage.simulated_file(self._options.rows, days=days))
            self._topics[place] = settings.transactions_topic
        settings = self._settings(contender, self._topics[place])
        with self._start(contender, settings, 1.0) as process, self._stage.count_outputs(settings) as counted:
            run = measure(process.pid, counted, self._options.rows, TIMEOUT_S)
        return msgspec.structs.replace(
            self._row(contender, FULL),
            per_second=run.per_second,
            runs_per_second=[round(run.per_second)],
            cpu_us=run.cpu_us,
            cpu_share=run.cpu_seconds / run.seconds,
            peak_mb=run.peak_mb,
        )

    def _paced(self, contender: Contender, rates: list[int]) -> None:
        """One process at all rates; one that falls behind skips the higher ones."""
        try:
            settings = self._settings(contender)
            with self._start(contender, settings, LINGER_S) as process:
                await_first(self._stage, settings)
                for rate in rates:
                    row = self._try(contender, str(rate), lambda c, r=rate: self._at_rate(c, settings, process.pid, r))
                    if row.failure or row.unanswered:
                        break
        except Exception as error:  # a contender that fails is a row
            self._add(msgspec.structs.replace(self._row(contender, str(rates[0])), failure=_line(error)))

    def _at_rate(self, contender: Contender, settings: Settings, pid: int, rate: int) -> Row:
        run, _ = run_paced(self._stage, settings, pid, rate, self._options.seconds)
        return msgspec.structs.replace(
            self._row(contender, str(rate)),
            per_second=float(rate),
            cpu_share=run.cpu_share,
            cpu_us=1e6 * run.cpu_share / rate,
            ms=run.ms,
            sent=run.sent,
            unanswered=run.unanswered,
            load_shares=run.load_shares,
            sender_late_ms=run.sender_late_ms,
            peak_mb=run.resident_mb,
        )

    def _start(self, contender: Contender, settings: Settings, within_s: float):
        tree = tree_of(contender.commit) if contender.commit else THIS_TREE
        bundle = self._champion(contender).bundle
        return self._stage.run_contender(
            contender.program, settings, within_s, bundle=bundle, tree=tree, options=contender.options
        )

    def _try(self, contender: Contender, rate: str, run: Callable[[Contender], Row]) -> Row:
        try:
            row = run(contender)
        except Exception as error:  # a contender that fails is a row
            row = msgspec.structs.replace(self._row(contender, rate), failure=_line(error))
        self._add(row)
        return row

    def _add(self, row: Row) -> None:
        self._rows.setdefault((row.contender, row.rate), []).append(row)
        if row.failure:
            self._console.print(f"{row.contender} {row.rate}: FAILED: {row.failure}", markup=False)
        elif row.rate == FULL:
            self._console.print(f"{row.contender} full: {row.per_second:,.0f}/s, {row.cpu_us:.1f} µs")
        else:
            shares = ", ".join(f"{name} {share:.0%}" for name, share in row.load_shares.items())
            self._console.print(
                f"{row.contender} {row.rate}: CPU {row.cpu_share:.1%}, {row.ms}, unanswered {row.unanswered}; "
                f"{shares}, sender late {row.sender_late_ms['p99']:.1f}/{row.sender_late_ms['max']:.1f} ms",
                highlight=False,
            )

    def _row(self, contender: Contender, rate: str) -> Row:
        return Row(
            contender=contender.name,
            title=contender.title,
            settings=contender.settings,
            guarantee=contender.guarantee,
            partitions=contender.partitions,
            profiles=contender.profiles,
            rate=rate,
            commit=contender.commit or this_commit(),
            measured_at=now(),
            command=f"python -m benchmarks.stream --only {contender.name} --rates {rate}",
        )


def await_first(stage: BenchmarkEnvironment, settings: Settings) -> None:
    """Send transactions until the first is decided, so that the contender has started."""
    few = stage.folder / "few.jsonl"
    few.write_bytes(b"\n".join(stage.simulated_file(1_000).read_bytes().splitlines()[:8]) + b"\n")
    stage.fill(settings, few)
    with stage.count_outputs(settings) as counted:
        until = time.monotonic() + FIRST_TIMEOUT_S
        while counted() < 8:
            if time.monotonic() > until:
                raise RuntimeError(f"no decision within {FIRST_TIMEOUT_S:.0f} s of the start")
            time.sleep(0.1)
    time.sleep(0.5)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:600]


if __name__ == "__main__":
    main()
