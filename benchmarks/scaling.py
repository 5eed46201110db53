"""Scaling: cost by size of batch and payload, number of features, trees, partitions and workers, and time."""

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xgboost as xgb
from msgspec.structs import replace
from rich.console import Console

from benchmarks.charts import growths
from benchmarks.environment import CORES, PEERS_PYTHON, ROOT, BenchmarkEnvironment, benchmark_environment
from benchmarks.latency import await_first
from benchmarks.peers.job import Job, PeerRecord, Work
from benchmarks.process_metrics import measure
from tamiz.dev_broker.embedded_broker import free_port

ROWS = 100_000
BATCH = 2_000
MIN_MEASUREMENT_S = 1.0
Points = list[tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="of the run that watches memory; 60 for the hour")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    with benchmark_environment() as stage:
        values = stage.simulated_file(20_000).read_bytes().splitlines()
        found: dict[str, Any] = {
            "batch": batches(stage, values),
            "payload": payloads(stage, values),
            "trees": trees(),
            "partitions": partitions(stage),
            "workers": workers(stage),
            "memory": memory(stage, options.minutes),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "growth.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    growths(found, options.out / "growth.png")
    Console(width=100).print_json(data=found)


def cpu_us(work: Callable[[], object], rows: int) -> float:
    """CPU microseconds per row, over at least `MIN_MEASUREMENT_S` of repetitions."""
    work()
    times, started = 0, time.process_time()
    while (used := time.process_time() - started) < MIN_MEASUREMENT_S:
        work()
        times += 1
    return 1e6 * used / times / rows


def batches(stage: BenchmarkEnvironment, values: list[bytes]) -> Points:
    """CPU µs per transaction of the pure handler, by size of the batch."""
    work = _work(stage)
    sizes = 1, 10, 100, 1_000, 2_000, 10_000
    return [(size, cpu_us(partial(_worked, work, values[:size]), size)) for size in sizes]


def payloads(stage: BenchmarkEnvironment, values: list[bytes]) -> Points:
    """CPU µs per transaction of the pure handler, by bytes per payload; the padding is an undeclared field."""
    work = _work(stage)
    points = [(len(values[0]), cpu_us(partial(_worked, work, values[:BATCH]), BATCH))]
    for size in (1_000, 2_000, 4_000):
        padded = [value[:-1] + b',"nota":"' + b"x" * (size - len(value) - 10) + b'"}' for value in values[:BATCH]]
        points.append((size, cpu_us(partial(_worked, work, padded), BATCH)))
    return points


def trees() -> dict[str, Points]:
    """CPU µs per row of XGBoost's prediction in batches of 2,000, by trees of depth 6 and number of features."""
    rng = np.random.default_rng(0)
    found = {}
    for features in (10, 100):
        matrix = rng.normal(size=(BATCH, features)).astype(np.float32)
        learned = xgb.QuantileDMatrix(matrix, rng.integers(0, 2, BATCH))
        booster = xgb.train({"max_depth": 6, "nthread": 1, "min_child_weight": 0.01}, learned, 1_000)
        found[str(features)] = [
            (n, cpu_us(partial(booster[:n].inplace_predict, matrix), BATCH)) for n in (100, 300, 1_000)
        ]
    return found


def partitions(stage: BenchmarkEnvironment) -> Points:
    """Transactions per second of one worker, by number of partitions."""
    points = []
    for count in (1, 4, 16, 64):
        settings = stage.create_topics(count)
        stage.fill(settings, stage.simulated_file(ROWS))
        with stage.run_contender("tamiz", settings) as worker, stage.count_outputs(settings) as counted:
            points.append((count, measure(worker.pid, counted, ROWS, 20.0).per_second))
    return points


def workers(stage: BenchmarkEnvironment) -> Points:
    """Transactions per second by number of workers, one per core; the second shares its core with the broker."""
    points = []
    for count in (1, 2):
        settings = stage.create_topics(4)
        stage.fill(settings, stage.simulated_file(3 * ROWS))
        with ExitStack() as stack:
            started = [
                stack.enter_context(stage.run_contender("tamiz", replace(settings, web_port=free_port()), core=core))
                for core in CORES[:count]
            ]
            counted = stack.enter_context(stage.count_outputs(settings))
            points.append((count, measure(started[0].pid, counted, 3 * ROWS, 20.0).per_second))
    return points


def memory(stage: BenchmarkEnvironment, minutes: float) -> Points:
    """Resident megabytes of a worker, by second, at 2,000 transactions a second."""
    settings = stage.create_topics(4)
    with stage.run_contender("tamiz", settings) as worker:
        await_first(stage, settings)
        topics = settings.transactions_topic, settings.decisions_topic
        words = [PEERS_PYTHON, "-m", "benchmarks.open_loop", stage.bootstrap, *topics, "2000", str(60 * minutes)]
        load = subprocess.Popen([*words, stage.simulated_file(20_000), "1"], cwd=ROOT, stdout=subprocess.DEVNULL)
        process, started, points = psutil.Process(worker.pid), time.monotonic(), []
        while load.poll() is None:
            points.append((round(time.monotonic() - started, 1), process.memory_info().rss / 2**20))
            time.sleep(1.0)
    return points


def _work(stage: BenchmarkEnvironment) -> Work:
    return Work(Job("", "transactions", "", "", "growth", 0.0, stage.bundle))


def _worked(work: Work, values: list[bytes]) -> None:
    work(_records(values))


def _records(values: list[bytes]) -> list[PeerRecord]:
    return [PeerRecord("transactions", 0, i, b"17", value) for i, value in enumerate(values)]


if __name__ == "__main__":
    main()
