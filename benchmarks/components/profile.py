"""`make profile`: CPU profile of the pure handler and of the worker's event loop.

The handler runs in the worker's scoring thread, everything of Kafka in the loop's: each is profiled by itself.
cProfile makes every Python call dearer, so read shares and counts, and take times from `make bench`.
"""

import argparse
import cProfile
import os
import pstats
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.contest.environment import ONE_THREAD, BenchmarkEnvironment, benchmark_environment, environment
from benchmarks.contest.process_metrics import measure
from benchmarks.peers.job import Job, PeerRecord, Work

ROWS, BATCH = 100_000, 2_000
LINES = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        run_worker(options.worker)
        return
    os.environ.update(ONE_THREAD)
    with benchmark_environment() as stage:
        path = stage.simulated_file(options.rows)
        show(profile_handler(path, stage.bundle), "the pure handler")
        show(profile_worker(stage, path, options.rows), "the worker's event loop")


def profile_handler(path: Path, bundle: Path) -> pstats.Stats:
    """Profile of the handler, in batches of the worker's size."""
    work = Work(Job("", "transactions", "", "", "profile", 0.0, bundle))
    values = path.read_bytes().splitlines()
    records = [PeerRecord("transactions", 0, i, b"17", value) for i, value in enumerate(values)]
    profile = cProfile.Profile()
    profile.enable()
    for start in range(0, len(records), BATCH):
        work(records[start : start + BATCH])
    profile.disable()
    return pstats.Stats(profile)


def profile_worker(stage: BenchmarkEnvironment, path: Path, rows: int) -> pstats.Stats:
    """Profile of a worker that reads a topic to its end and is then stopped."""
    settings = stage.create_topics(4)
    stage.fill(settings, path)
    saved = stage.folder / "worker.profile"
    words = [sys.executable, "-m", "benchmarks.components.profile", "--worker", str(saved)]
    process = subprocess.Popen(words, env=environment(settings))
    with stage.count_outputs(settings) as counted:
        measure(process.pid, counted, rows, 60.0)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    return pstats.Stats(str(saved))


def run_worker(saved: Path) -> None:
    """Run a worker and profile its event loop."""
    from schemas.configuration.settings import load
    from stream_app.worker.worker import run

    profile = cProfile.Profile()
    profile.enable()
    try:
        run(load())
    except SystemExit:
        profile.disable()
        profile.dump_stats(saved)


def show(stats: pstats.Stats, whose: str) -> None:
    """Print the functions with the most time of their own."""
    print(f"\n== {whose}")
    stats.strip_dirs().sort_stats("tottime").print_stats(LINES)


if __name__ == "__main__":
    main()
