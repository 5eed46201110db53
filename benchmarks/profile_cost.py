"""`make bench-profile-cost`: what profiles cost a worker: throughput, CPU and latency with and without, and its peers.

Profiles: three entities, each with four windows and five aggregates: the card (the key, exact), and the merchant and
the city through closed tiles; 60 features. Contenders run as in `benchmarks.stream`. Quix Streams and Faust, which
have no such features, only count and sum one amount over one window by key.
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.environment import ROOT, BenchmarkEnvironment, benchmark_environment
from benchmarks.latency import WARM_UP, await_first, run_paced
from benchmarks.process_metrics import ProcessMetrics, measure
from benchmarks.stream import PARTITIONS, TIMEOUT_S, print_bar
from training.pipeline import train
from training.registry.mlflow_registry import download_bundle

AGGREGATES = '["count", "sum(monto)", "mean(monto)", "max(monto)", "std(monto)"]'
ENTITIES = ("ID_USER", "establecimiento", "ciudad")
CONTENDERS = (
    ("a", "Tamiz, no profiles", "tamiz", "at-least-once", False),
    ("p", "Tamiz, 60 profile features", "tamiz", "at-least-once", True),
    ("f", "confluent-kafka by hand, the same reducer", "confluent_loop", "at-least-once", True),
    ("x", "Tamiz, no profiles, exactly once", "tamiz", "exactly-once", False),
    ("y", "Tamiz, 60 profile features, exactly once", "tamiz", "exactly-once", True),
    ("q", "Quix Streams, one count and sum", "quix_windows", "at-least-once", False),
    ("t", "Faust table, one count and sum", "faust_windows", "at-least-once", False),
)
SLOW = "qt"  # one round
RATE = 2_000
DAYS = 1  # event time of all transactions. Over a month, tiles of five minutes would close every few transactions
AT_LEAST_ONCE_BAR, EXACTLY_ONCE_BAR, P99_BAR = 25_000, 18_000, 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000, help="transactions on the topic")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender, alternating; the median counts")
    parser.add_argument("--only", default="apfxyqt", help="letters of the contenders")
    parser.add_argument("--seconds", type=float, default=8.0, help="of the latency measured at 2,000/s; 0 for none")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    console = Console(width=110)
    with benchmark_environment() as month:
        plain = dataclasses.replace(month, days=DAYS)
        stages = {False: plain, True: with_profiles(plain)}
        topic = plain.create_topics(PARTITIONS)
        plain.fill(topic, plain.simulated_file(options.rows))
        runs: dict[str, list[ProcessMetrics]] = {}
        for turn in range(options.rounds):
            for letter, name, program, guarantee, remembers in CONTENDERS:
                if letter in options.only and (turn == 0 or letter not in SLOW):
                    stage = stages[remembers]
                    settings = stage.create_topics(PARTITIONS, topic.transactions_topic, processing_guarantee=guarantee)
                    with stage.run_contender(program, settings) as process, stage.count_outputs(settings) as counted:
                        run = measure(process.pid, counted, options.rows, TIMEOUT_S)
                    runs.setdefault(letter, []).append(run)
                    console.print(f"{letter} {name}: {run.per_second:,.0f}/s, {run.cpu_us:,.1f} us")
        paced = {
            letter: latency(stages[remembers], options.seconds)
            for letter, remembers in (("a", False), ("p", True))
            if options.seconds and letter in options.only
        }
    results = {
        "rows": options.rows,
        "contenders": [
            {
                "letter": letter,
                "name": name,
                "per_second": statistics.median(run.per_second for run in runs[letter]),
                "cpu_us": statistics.median(run.cpu_us for run in runs[letter]),
                "peak_mb": max(run.peak_mb for run in runs[letter]),
                "runs_per_second": [round(run.per_second) for run in runs[letter]],
            }
            for letter, name, *_ in CONTENDERS
            if letter in runs
        ],
        "latency_ms": paced,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "profile_cost.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    show(results, console)


def with_profiles(stage: BenchmarkEnvironment) -> BenchmarkEnvironment:
    """The environment with a data set that declares profiles, and a champion trained with them."""
    path = stage.folder / "remembered.toml"
    tables = "".join(
        f'\n[[profiles]]\nentity = "{entity}"\nwindows = ["1h", "1d", "7d", "30d"]\nfeatures = {AGGREGATES}\n'
        for entity in ENTITIES
    )
    declared = (ROOT / "schemas" / "dataset" / "card_transactions.toml").read_text(encoding="utf-8")
    path.write_text(declared + tables, encoding="utf-8")
    settings = msgspec.structs.replace(stage.settings, dataset=str(path), model_name="remembered")
    version = train(settings, stage.folder / "history.csv", force="a benchmark decides nothing").version
    bundle = download_bundle(settings, version, stage.folder / "remembered")
    return dataclasses.replace(stage, settings=settings, bundle=bundle)


def latency(stage: BenchmarkEnvironment, seconds: float) -> dict[str, float | None]:
    """Percentiles at 2,000/s, in ms."""
    settings = stage.create_topics(PARTITIONS)
    with stage.run_contender("tamiz", settings):
        await_first(stage, settings)
        run_paced(stage, settings, *WARM_UP)
        return dict(run_paced(stage, settings, RATE, seconds)["ms"])


def show(results: dict[str, Any], console: Console) -> None:
    """Print contenders, latencies and bars."""
    table = Table(title=f"{results['rows']:,} transactions, four partitions, one core", title_justify="left")
    for head in ("", "a second", "CPU us", "peak MB"):
        table.add_column(head, justify="right" if head else "left")
    found = {c["letter"]: c for c in results["contenders"]}
    for c in found.values():
        table.add_row(
            f"{c['letter']} {c['name']}", f"{c['per_second']:,.0f}", f"{c['cpu_us']:.1f}", f"{c['peak_mb']:,.0f}"
        )
    console.print(table)
    for letter, ms in results["latency_ms"].items():
        console.print(f"{letter} at {RATE:,}/s: " + ", ".join(f"{name} {value} ms" for name, value in ms.items()))
    for letter, bar in (("p", AT_LEAST_ONCE_BAR), ("y", EXACTLY_ONCE_BAR)):
        if letter in found:
            print_bar(console, found[letter]["per_second"] >= bar, f"{letter} >= {bar:,}/s")
    if len(results["latency_ms"]) == 2:
        ours, stateless = (results["latency_ms"][letter]["p99"] for letter in "pa")
        if ours and stateless:
            print_bar(console, ours <= P99_BAR * stateless, f"p99 of p <= {P99_BAR} x a's: {ours / stateless:.2f}")


if __name__ == "__main__":
    main()
