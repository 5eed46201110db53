"""CPU cost of the pure handler alone, by size of batch and payload, and of XGBoost by number of trees and features."""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from rich.console import Console

from benchmarks.contest.environment import CORES, ROOT, benchmark_environment
from benchmarks.peers.job import Job, PeerRecord, Work
from benchmarks.results.charts import draw_costs

BATCH = 2_000
SIZES = (1, 10, 50, 100, 500, 1_000, 2_000, 10_000)
MIN_MEASUREMENT_S = 1.0
Points = list[tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    with benchmark_environment() as stage:
        values = stage.simulated_file(20_000).read_bytes().splitlines()
        bundle = stage.bundle
        os.sched_setaffinity(0, {CORES[0]})
        found: dict[str, Any] = {
            "batch": batches(bundle, values),
            "payload": payloads(bundle, values),
            "trees": trees(),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "handler.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw_costs(found, options.out / "handler.png")
    Console(width=100).print_json(data=found)


def cpu_us(work: Callable[[], object], rows: int) -> float:
    """CPU microseconds per row, over at least `MIN_MEASUREMENT_S` of repetitions."""
    work()
    times, started = 0, time.process_time()
    while (used := time.process_time() - started) < MIN_MEASUREMENT_S:
        work()
        times += 1
    return round(1e6 * used / times / rows, 3)


def batches(bundle: Path, values: list[bytes], sizes: tuple[int, ...] = SIZES) -> Points:
    """CPU µs per transaction, by size of the batch."""
    work = _work(bundle)
    return [(size, cpu_us(partial(work, _records(values[:size])), size)) for size in sizes]


def payloads(bundle: Path, values: list[bytes]) -> Points:
    """CPU µs per transaction, by bytes per payload; the padding is an undeclared field."""
    work = _work(bundle)
    points = [(len(values[0]), cpu_us(partial(work, _records(values[:BATCH])), BATCH))]
    for size in (1_000, 2_000, 4_000):
        padded = [value[:-1] + b',"nota":"' + b"x" * (size - len(value) - 10) + b'"}' for value in values[:BATCH]]
        points.append((size, cpu_us(partial(work, _records(padded)), BATCH)))
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


def _work(bundle: Path) -> Work:
    return Work(Job("", "transactions", "", "", "costs", 0.0, bundle))


def _records(values: list[bytes]) -> list[PeerRecord]:
    return [PeerRecord("transactions", 0, i, b"17", value) for i, value in enumerate(values)]


if __name__ == "__main__":
    main()
