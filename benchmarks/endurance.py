"""Endurance: memory per minute, p99.9 and every pause of a worker at a constant rate, and what happened then.

`python -m benchmarks.endurance --minutes 60` is the hour at 2,000/s. A pause is a time in which transactions became due
that were decided only after more than 100 ms. For each, the report lists what was seen in the same second: a late
sender, garbage collections of the broker, CPU time that the hypervisor gave to others, and from the worker's metrics
how long its batches took to score and to be acknowledged, and how many there were.
"""

import argparse
import contextlib
import re
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.contest.contenders import TAMIZ, selected
from benchmarks.contest.contest import LINGER_S, await_first, tree_and_champion
from benchmarks.contest.environment import ROOT, benchmark_environment
from benchmarks.contest.process_metrics import broker_pid, cpu_seconds, resident_mb
from benchmarks.load.paced_run import Latencies, run_paced
from benchmarks.load.schedule import percentiles_ms
from benchmarks.results.result_rows import Machine, machine, now, this_commit
from schemas.configuration.settings import Settings

RATE = 2_000
PAUSE_S = 0.1
GAP_S = 0.25  # late transactions further apart are two pauses
SETTLING_SHARE, MAX_SETTLING_MINUTES = 1 / 6, 10.0  # of the run, before memory must be flat
FLAT = 0.02
STEAL_SHARE, BUSY_SHARE = 0.1, 0.95
SLOW_BATCH_S = 0.03
METRICS = ("batch_records_count", "batch_scoring_seconds_sum", "batch_publishing_seconds_sum")
GC_LINE = re.compile(r"\[(\d+)ms\].* Pause .* ([\d.]+)ms$")


class ResourceSample(msgspec.Struct, frozen=True, kw_only=True):
    """What happened between the sample before and this one."""

    at: float  # seconds since the measurement began
    worker_cpu: float  # of a core
    broker_cpu: float
    steal: float  # of all cores
    worker_mb: float
    metrics: dict[str, float] = {}


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Transactions that became due close together and were decided late."""

    at: float  # seconds since the measurement began, of the first
    seconds: float  # until the last of them became due
    worst_ms: float | None  # None: never decided
    transactions: int
    causes: list[str] = []


class Endurance(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the JSON file."""

    machine: Machine
    commit: str
    measured_at: str
    command: str
    contender: str
    rate: int
    minutes: float
    sent: int
    unanswered: int
    ms: dict[str, float | None]
    cpu_share: float
    load_shares: dict[str, float]
    memory_mb: list[float]  # median of each minute
    memory_growth: float | None  # the largest deviation after settling, as a share of the first value after settling
    ms_per_minute: list[dict[str, float | None]]
    pauses: list[Pause]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.endurance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=RATE, help="transactions per second")
    parser.add_argument("--only", default=TAMIZ.name, help="the contender: a name of `benchmarks.stream`")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    (contender,) = selected(options.only)
    with benchmark_environment(broker_gc_log=True) as stage:
        tree, champion = tree_and_champion(stage, contender)
        settings = stage.create_topics(
            contender.partitions, champion=champion, processing_guarantee=contender.guarantee
        )
        with stage.run_contender(
            contender.program, settings, LINGER_S, bundle=champion.bundle, tree=tree, options=contender.options
        ) as process:
            await_first(stage, settings)
            run_paced(stage, settings, process.pid, options.rate, 5.0)
            sampler = Sampler(settings, process.pid)
            run, seen = run_paced(
                stage, settings, process.pid, options.rate, 60 * options.minutes, meanwhile=sampler.start
            )
            samples = sampler.stop()
        collections = gc_pauses(stage.gc_log.read_text(), seen.begun + time.time() - time.monotonic())
    report = Endurance(
        machine=machine(),
        commit=contender.commit or this_commit(),
        measured_at=now(),
        command=f"python -m benchmarks.endurance --minutes {options.minutes:g} --rate {options.rate}"
        + ("" if contender is TAMIZ else f" --only {contender.name}"),
        contender=contender.name,
        rate=options.rate,
        minutes=options.minutes,
        sent=run.sent,
        unanswered=run.unanswered,
        ms=run.ms,
        cpu_share=run.cpu_share,
        load_shares=run.load_shares,
        memory_mb=memory_per_minute(samples),
        memory_growth=memory_growth(memory_per_minute(samples)),
        ms_per_minute=latency_per_minute(seen.due, seen.late),
        pauses=explained(pauses(seen.due, seen.late), samples, collections, seen),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    content = msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
    (options.out / "endurance.json").write_bytes(content)
    show(report, Console(width=140))


class Sampler:
    """Samples processes and the worker's metrics once a second, in a thread."""

    def __init__(self, settings: Settings, pid: int) -> None:
        """pid: of the worker."""
        self._url = f"http://127.0.0.1:{settings.web_port}/metrics"
        self._pid, self._broker = pid, broker_pid()
        self._samples: list[ResourceSample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._begun = 0.0

    def start(self, begun: float) -> None:
        """begun: the moment at which the measurement begins, of the monotonic clock."""
        self._begun = begun
        self._thread.start()

    def stop(self) -> list[ResourceSample]:
        """All samples."""
        self._ended.set()
        self._thread.join()
        return self._samples

    def _run(self) -> None:
        before, at = self._state(), time.monotonic()
        while not self._ended.wait(1.0):
            state, moment = self._state(), time.monotonic()
            used = {name: value - before.get(name, 0.0) for name, value in state.items()}
            elapsed = moment - at
            self._samples.append(
                ResourceSample(
                    at=moment - self._begun,
                    worker_cpu=used.pop("worker") / elapsed,
                    broker_cpu=used.pop("broker") / elapsed,
                    steal=used.pop("steal") / elapsed / (psutil.cpu_count() or 1),
                    worker_mb=resident_mb(self._pid),
                    metrics=used,
                )
            )
            before, at = state, moment

    def _state(self) -> dict[str, float]:
        processes = {"worker": cpu_seconds(self._pid), "broker": cpu_seconds(self._broker)}
        return processes | {"steal": psutil.cpu_times().steal} | self._metrics()

    def _metrics(self) -> dict[str, float]:
        text = ""
        with contextlib.suppress(OSError), urllib.request.urlopen(self._url, timeout=5) as page:
            text = page.read().decode()
        return metric_values(text)


def metric_values(text: str) -> dict[str, float]:
    """The values of `METRICS` on a page of metrics.

    >>> metric_values("tamiz_batch_records_count 12.0")
    {'batch_records_count': 12.0}
    """
    lines = (line.removeprefix("tamiz_").split(" ") for line in text.splitlines())
    return {words[0]: float(words[1]) for words in lines if words[0] in METRICS}


def gc_pauses(log: str, begun: float) -> list[tuple[float, float]]:
    """Seconds since the measurement began, and milliseconds, of every collection in the log of a JVM.

    begun: seconds since 1970.

    >>> gc_pauses("[1700000001500ms] GC(3) Pause Young (Allocation Failure) 40M->20M(1024M) 5.250ms", 1_700_000_000.0)
    [(1.5, 5.25)]
    """
    found = (GC_LINE.search(line) for line in log.splitlines())
    return [(int(match[1]) / 1000 - begun, float(match[2])) for match in found if match]


def pauses(due: NDArray[np.float64], late: NDArray[np.float64]) -> list[Pause]:
    """Groups of transactions that were decided after more than `PAUSE_S`. due: ascending."""
    places = np.flatnonzero(late > PAUSE_S)
    if not len(places):
        return []
    found = []
    for group in np.split(places, np.flatnonzero(np.diff(due[places]) > GAP_S) + 1):
        worst = float(late[group].max())
        found.append(
            Pause(
                at=round(float(due[group[0]]), 3),
                seconds=round(float(due[group[-1]] - due[group[0]]), 3),
                worst_ms=None if np.isinf(worst) else round(1e3 * worst, 1),
                transactions=len(group),
            )
        )
    return found


def explained(
    found: Sequence[Pause],
    samples: Sequence[ResourceSample],
    collections: Sequence[tuple[float, float]],
    seen: Latencies,
) -> list[Pause]:
    """The pauses, each with what was seen in the same time."""
    return [
        msgspec.structs.replace(pause, causes=causes(pause, samples, collections, seen.sender_late)) for pause in found
    ]


def causes(
    pause: Pause,
    samples: Sequence[ResourceSample],
    collections: Sequence[tuple[float, float]],
    sender_late: Sequence[Sequence[float]],
) -> list[str]:
    """What was seen while transactions of a pause waited."""
    first, last = pause.at - 0.1, pause.at + pause.seconds + (pause.worst_ms or 0.0) / 1e3
    found = []
    if late := [one for at, one in sender_late if first <= at <= last]:
        found.append(f"the sender was up to {1e3 * max(late):.0f} ms late")
    if gc := [ms for at, ms in collections if first <= at <= last and ms > 10]:
        found.append(f"garbage collection of the broker: {max(gc):.0f} ms")
    near = [sample for sample in samples if first <= sample.at <= last + 1.0]
    if near:
        steal = max(sample.steal for sample in near)
        if steal > STEAL_SHARE:
            found.append(f"the hypervisor took {steal:.0%} of the cores")
        if (busy := max(sample.worker_cpu for sample in near)) > BUSY_SHARE:
            found.append(f"the worker used {busy:.0%} of its core")
        if (busy := max(sample.broker_cpu for sample in near)) > BUSY_SHARE / 2:
            found.append(f"the broker used {busy:.0%} of a core")
        found += _slow_batches(near)
    return found or ["nothing that this program observes"]


def _slow_batches(near: Sequence[ResourceSample]) -> list[str]:
    found = []
    for name, what in (("scoring", "scored"), ("publishing", "acknowledged")):
        means = [
            sample.metrics[f"batch_{name}_seconds_sum"] / batches
            for sample in near
            if (batches := sample.metrics.get("batch_records_count", 0.0))
        ]
        if means and max(means) > SLOW_BATCH_S:
            found.append(f"batches of a second were {what} in {1e3 * max(means):.0f} ms on average")
    counts = [sample.metrics["batch_records_count"] for sample in near if "batch_records_count" in sample.metrics]
    if counts:
        found.append(f"{min(counts):.0f} to {max(counts):.0f} batches per second")
    return found


def memory_per_minute(samples: Sequence[ResourceSample]) -> list[float]:
    """Median resident megabytes of each minute."""
    minutes: dict[int, list[float]] = {}
    for sample in samples:
        minutes.setdefault(int(sample.at // 60), []).append(sample.worker_mb)
    return [round(float(np.median(minutes[minute])), 1) for minute in sorted(minutes)]


def memory_growth(per_minute: Sequence[float]) -> float | None:
    """The largest deviation from the first value after settling; None for a run that is too short."""
    settled = per_minute[int(min(MAX_SETTLING_MINUTES, SETTLING_SHARE * len(per_minute) + 1)) :]
    if not settled:
        return None
    return max((value / settled[0] - 1 for value in settled), key=abs)


def latency_per_minute(due: NDArray[np.float64], late: NDArray[np.float64]) -> list[dict[str, float | None]]:
    """Percentiles of each minute."""
    minute = (due // 60).astype(np.int64)
    return [percentiles_ms(late[minute == one]) for one in np.unique(minute)]


def show(report: Endurance, console: Console) -> None:
    """Print memory, latency and pauses."""
    console.print(f"{report.contender} at {report.rate:,}/s for {report.minutes:g} minutes: {_ms(report.ms)}")
    console.print(f"CPU {report.cpu_share:.1%} of a core; unanswered {report.unanswered:,} of {report.sent:,}")
    console.print("memory, MB per minute: " + " ".join(f"{mb:.0f}" for mb in report.memory_mb), highlight=False)
    if report.memory_growth is not None:
        flat = "met   " if abs(report.memory_growth) <= FLAT else "MISSED"
        console.print(f"{flat} memory after settling changes by {report.memory_growth:+.1%}; limit {FLAT:.0%}")
    console.print(f"pauses above {1e3 * PAUSE_S:.0f} ms: {len(report.pauses)}")
    for pause in report.pauses:
        worst = "never decided" if pause.worst_ms is None else f"up to {pause.worst_ms:.0f} ms"
        where = f"after {pause.at:.1f} s, {pause.transactions:,} transactions due within {pause.seconds:.2f} s, {worst}"
        console.print(f"  {where}: {'; '.join(pause.causes)}", highlight=False)


def _ms(ms: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {'never' if value is None else f'{value:.1f} ms'}" for name, value in ms.items())


if __name__ == "__main__":
    main()
