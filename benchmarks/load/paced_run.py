"""Open loop: runs sender and reader at a rate, and measures latency and the CPU time of everybody involved."""

import contextlib
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.contest.environment import PEERS_PYTHON, ROOT, BenchmarkEnvironment, keyed_records
from benchmarks.contest.process_metrics import broker_pid, cpu_seconds, resident_mb
from benchmarks.load.produce_requests import ProduceRequest, record_batch
from benchmarks.load.schedule import Schedule, latencies, percentiles_ms, schedule, sent_records
from schemas.configuration.settings import Settings

WARM_UP_S = 2.0  # sent, but not measured
DRAIN_TIMEOUT_S = 5.0  # for the last decisions
START_S = 1.0  # within which the sender starts; it catches up during the warm-up if it does not
PAYLOADS = 20_000  # sent in turn


class PacedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What one contender did at one rate."""

    sent: int
    unanswered: int
    ms: dict[str, float | None]  # percentiles
    cpu_share: float  # of a core: the contender with its children
    load_shares: dict[str, float]  # the same for sender, reader and broker, which share the other core
    sender_late_ms: dict[str, float]
    acknowledged_ms: dict[str, float]  # until the broker had taken a transaction; part of the latency
    resident_mb: float


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """Every measured transaction's due time, in seconds since the measurement began, and its latency."""

    due: NDArray[np.float64]
    late: NDArray[np.float64]
    begun: float  # of the monotonic clock
    sender_late: list[list[float]]  # seconds since the measurement began, and how late; only what exceeds 50 ms


def run_paced(
    stage: BenchmarkEnvironment,
    settings: Settings,
    pid: int,
    rate: int,
    seconds: float,
    meanwhile: Callable[[float], None] | None = None,
) -> tuple[PacedRun, Latencies]:
    """Send at a rate. pid: of the contender. meanwhile: called with the moment at which the measurement begins."""
    plan = schedule(rate, WARM_UP_S + seconds)
    requests, counts = prepared(stage, settings, plan)
    job, answers, stamps = (stage.folder / name for name in ("load.job", "load.answers", "decisions.stamps"))
    stamps.unlink(missing_ok=True)
    length = plan.ticks * plan.tick_s
    words = settings.decisions_topic, str(plan.total), str(START_S + length + DRAIN_TIMEOUT_S), str(stamps)
    with _module(PEERS_PYTHON, "benchmarks.load.reader", stage.bootstrap, *words) as reader:
        assert reader.stdout is not None
        if reader.stdout.readline() != b"ready\n":
            raise RuntimeError("the reader of decisions failed")
        start = time.monotonic() + START_S
        job.write_bytes(pickle.dumps((requests, start, plan.tick_s, plan.ticks)))
        with _module(sys.executable, "benchmarks.load.sender", stage.bootstrap, str(job), str(answers)) as sender:
            pids = {"contender": pid, "sender": sender.pid, "reader": reader.pid, "broker": broker_pid()}
            begun, end = start + WARM_UP_S, start + length
            _sleep_until(begun)
            before = {name: cpu_seconds(one) for name, one in pids.items()}
            if meanwhile:
                meanwhile(begun)
            _sleep_until(end - 0.05)  # sender and reader must still run
            elapsed = time.monotonic() - begun
            shares = {name: (cpu_seconds(one) - before[name]) / elapsed for name, one in pids.items()}
            printed, _ = sender.communicate(timeout=seconds + 60)
            if sender.returncode:
                raise RuntimeError("the sender failed")
        report = json.loads(printed)
        reader.communicate(timeout=DRAIN_TIMEOUT_S + 30)
    places = np.frombuffer(answers.read_bytes(), np.int64).reshape(-1, 3)
    due, late = latencies(sent_records(plan, counts, places), *_decisions(stamps, start))
    measured = due >= WARM_UP_S
    due, late = due[measured] - WARM_UP_S, late[measured]
    run = PacedRun(
        sent=len(late),
        unanswered=int(np.isinf(late).sum()),
        ms=percentiles_ms(late),
        cpu_share=shares.pop("contender"),
        load_shares=shares,
        sender_late_ms=report["late_ms"],
        acknowledged_ms=report["acknowledged_ms"],
        resident_mb=resident_mb(pid),
    )
    sender_late = [[at - WARM_UP_S, one] for at, one in report["late"] if at >= WARM_UP_S]
    return run, Latencies(due=due, late=late, begun=begun, sender_late=sender_late)


def prepared(
    stage: BenchmarkEnvironment, settings: Settings, plan: Schedule
) -> tuple[list[ProduceRequest], list[dict[int, int]]]:
    """Requests for ticks until every payload was sent once, and the number of payloads by partition of each."""
    records = list(keyed_records(stage.simulated_file(PAYLOADS), settings.partitions))
    records = records[: min(plan.total, len(records) // plan.per_tick * plan.per_tick)]
    requests, counts = [], []
    for first in range(0, len(records), plan.per_tick):
        groups: dict[int, list[tuple[bytes | None, bytes]]] = {}
        for partition, key, value in records[first : first + plan.per_tick]:
            groups.setdefault(partition, []).append((key, value))
        batches = [(partition, record_batch(group)) for partition, group in groups.items()]
        requests.append(ProduceRequest(settings.transactions_topic, batches))
        counts.append({partition: len(group) for partition, group in groups.items()})
    return requests, counts


def _decisions(stamps: Path, start: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Partition, offset and time since the start, as the reader wrote them."""
    read = stamps.read_bytes()
    n = len(read) // 24
    places, times = np.frombuffer(read, np.int64, 2 * n), np.frombuffer(read, np.float64, n, 16 * n)
    return places[:n], places[n:], times - start


@contextlib.contextmanager
def _module(python: Path | str, module: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(python), "-m", module, *words], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
