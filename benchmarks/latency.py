"""Open-loop latency: from the scheduled time of each transaction until its decision is read.

Each contender runs alone on its core, at increasing rates; one that leaves transactions unanswered at a rate skips the
higher ones. Tamiz runs once more with its champion swapped under load.
"""

import argparse
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.charts import latencies
from benchmarks.environment import PEERS_PYTHON, ROOT, BenchmarkEnvironment, benchmark_environment
from schemas.configuration.settings import Settings
from stream_app.kafka.topic_admin import partition_counts
from training.pipeline import train
from training.registry.version_transitions import promote

RATES = (200, 2_000, 10_000)
SWAP_RATE = 2_000
CONTENDERS = (
    ("a", "Tamiz", "tamiz"),
    ("f", "confluent-kafka by hand", "confluent_loop"),
    ("d", "Faust, take()", "faust_take"),
    ("e", "Quix Streams", "quix_streams"),
)
PARTITIONS = 4
DEADLINE_S = 0.005  # linger of d and f; part of their latency
START_TIMEOUT_S = 60.0
WARM_UP = 1_000, 1.0  # transactions per second, seconds: warm-up of the JVM of the broker
P99_BAR_MS, P99_BAR_TIMES = 25.0, 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="measured at each rate")
    parser.add_argument("--only", default="afde", help="letters of the contenders")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    with benchmark_environment() as stage:
        results = {"within_s": DEADLINE_S, "runs": contest(stage, options.seconds, options.only)}
        if "a" in options.only:
            results["swap"] = run_swap(stage, options.seconds)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latency.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    latencies(results, options.out / "latency.png")
    show(results, Console(width=100))


def contest(stage: BenchmarkEnvironment, seconds: float, letters: str) -> list[dict[str, Any]]:
    """Run every contender at every rate."""
    runs = []
    for letter, name, program in CONTENDERS:
        if letter not in letters:
            continue
        settings = stage.create_topics(PARTITIONS)
        with stage.run_contender(program, settings, within_s=DEADLINE_S):
            await_first(stage, settings)
            run_paced(stage, settings, *WARM_UP)
            for rate in RATES:
                run = run_paced(stage, settings, rate, seconds)
                runs.append({"letter": letter, "name": name, "rate": rate} | run)
                if run["never_heard"]:
                    break
    return runs


def run_swap(stage: BenchmarkEnvironment, seconds: float) -> dict[str, Any]:
    """Run Tamiz under load and promote another version halfway."""
    # The second version is champion now; the first one is promoted again under load.
    train(stage.settings, stage.folder / "history.csv", force="a benchmark decides nothing")
    promote(stage.settings, 2, "a benchmark decides nothing")
    settings = stage.create_topics(PARTITIONS, registry_poll_seconds=1)
    promoted: list[float] = []

    def swap() -> None:
        time.sleep(3.0 + seconds / 2)
        promote(settings, 1, "a benchmark swaps under load")
        promoted.append(time.time())

    with stage.run_contender("tamiz", settings):
        await_first(stage, settings)
        run_paced(stage, settings, *WARM_UP)
        swapper = threading.Thread(target=swap)
        swapper.start()
        run = run_paced(stage, settings, SWAP_RATE, seconds)
        swapper.join()
    decided_by = versions(stage, settings)
    return run | {"rate": SWAP_RATE, "promoted_after_s": promoted[0] - run["judged_from"], "versions": decided_by}


def await_first(stage: BenchmarkEnvironment, settings: Settings) -> None:
    """Send transactions until the first is decided, so that the contender has started."""
    ready = stage.folder / "few.jsonl"
    ready.write_bytes(b"\n".join(stage.simulated_file(1_000).read_bytes().splitlines()[:8]) + b"\n")
    stage.fill(settings, ready)
    with stage.count_outputs(settings) as counted:
        until = time.monotonic() + START_TIMEOUT_S
        while counted() < 8:
            if time.monotonic() > until:
                raise SystemExit("nothing is decided")
            time.sleep(0.1)
    time.sleep(1.0)


def run_paced(
    stage: BenchmarkEnvironment, settings: Settings, rate: int, seconds: float, linger_ms: int = 1
) -> dict[str, Any]:
    """Run benchmarks/open_loop.py. linger_ms: of the sender."""
    topics = settings.transactions_topic, settings.decisions_topic
    load = str(rate), str(seconds), str(stage.simulated_file(20_000)), str(linger_ms)
    words = [PEERS_PYTHON, "-m", "benchmarks.open_loop", stage.bootstrap, *topics, *load]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    return dict(json.loads(done.stdout))


def versions(stage: BenchmarkEnvironment, settings: Settings) -> dict[str, int]:
    """Number of decisions by model version."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=stage.bootstrap, enable_auto_commit=False, consumer_timeout_ms=2_000)
    count = partition_counts(stage.bootstrap, [settings.decisions_topic])[settings.decisions_topic]
    consumer.assign([TopicPartition(settings.decisions_topic, p) for p in range(count)])
    consumer.seek_to_beginning()
    counts: dict[str, int] = {}
    for record in consumer:
        version = str(json.loads(record.value)["model_version"])
        counts[version] = counts.get(version, 0) + 1
    consumer.close()
    return counts


def show(results: dict[str, Any], console: Console) -> None:
    """Print percentiles and the bars."""
    table = Table(title="From due to decided, in milliseconds; - for never", title_justify="left")
    for head in ("", "a second", "p50", "p95", "p99", "p99.9", "unheard"):
        table.add_column(head, justify="right" if head else "left")
    rows = [(f"{run['letter']} {run['name']}", run) for run in results["runs"]]
    if swap := results.get("swap"):
        rows.append(("a Tamiz, champion swapped", swap))
    for name, run in rows:
        percentiles = ["-" if ms is None else f"{ms:,.1f}" for ms in run["ms"].values()]
        table.add_row(name, f"{run['rate']:,}", *percentiles, f"{run['never_heard']:,} of {run['sent']:,}")
    console.print(table)
    if swap:
        console.print(f"the swap: promoted after {swap['promoted_after_s']:.1f} s; decisions by {swap['versions']}")
    at = {run["letter"]: run["ms"]["p99"] for run in results["runs"] if run["rate"] == SWAP_RATE}
    if None not in (ours := at.get("a"), theirs := at.get("f")):
        met = ours <= P99_BAR_MS and ours <= P99_BAR_TIMES * theirs
        console.print(
            f"{'met   ' if met else 'MISSED'} p99 at 2,000/s ≤ 25 ms and ≤ 1.5 × f's: {ours:.1f}, {theirs:.1f}"
        )


if __name__ == "__main__":
    main()
