"""CPU time, memory and throughput of processes, measured from outside."""

import contextlib
import time
from collections.abc import Callable

import msgspec
import psutil

from benchmarks.components.batch_scoring import resident_peak_kb

START_TIMEOUT_S = 180.0


class ProcessMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One contender's run, from its first outputs to its last."""

    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float

    @property
    def per_second(self) -> float:
        """Transactions per second."""
        return self.rows / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU time per transaction in µs, user and system, of all threads and children."""
        return 1e6 * self.cpu_seconds / self.rows


def measure(pid: int, counted: Callable[[], int], rows: int, at_most_s: float, every_s: float = 0.1) -> ProcessMetrics:
    """Measure until `rows` transactions are answered, or for a limited time since the first answer.

    Starting is not measured: the clocks start when the first outputs are there.
    """
    process = psutil.Process(pid)
    begun = time.monotonic()
    while not (first := counted()):
        if time.monotonic() - begun > START_TIMEOUT_S or process.status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError(f"no decision within {START_TIMEOUT_S:.0f} s of the start")
        time.sleep(every_s / 5)
    started, cpu_before = time.monotonic(), cpu_seconds(pid)
    out, now = first, started
    while out < rows and now - started < at_most_s:
        time.sleep(every_s)
        out, now = counted(), time.monotonic()
    used = cpu_seconds(pid) - cpu_before
    return ProcessMetrics(
        rows=max(1, out - first), seconds=now - started, cpu_seconds=used, peak_mb=resident_peak_kb(pid) / 1024
    )


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and its children since its start, user and system."""
    process = psutil.Process(pid)
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def broker_pid() -> int:
    """Process id of the embedded broker of this process."""
    (java,) = (child.pid for child in psutil.Process().children(recursive=True) if child.name() == "java")
    return java
