"""Throughput, CPU time and memory of a process that decides transactions, measured from outside."""

import time
from collections.abc import Callable

import msgspec
import psutil

from benchmarks.components.batch_scoring import resident_peak_kb

START_TIMEOUT_S = 60.0


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
        """CPU time per transaction in µs, user and system, of all threads."""
        return 1e6 * self.cpu_seconds / self.rows


def measure(pid: int, counted: Callable[[], int], rows: int, at_most_s: float, every_s: float = 0.1) -> ProcessMetrics:
    """Measure until `rows` transactions are answered, or for a limited time since the first answer.

    Starting is not measured: the clocks start when the first outputs are there.
    """
    process = psutil.Process(pid)

    def cpu() -> float:
        times = process.cpu_times()
        return times.user + times.system

    begun = time.monotonic()
    while not (first := counted()):
        if time.monotonic() - begun > START_TIMEOUT_S or process.status() == psutil.STATUS_ZOMBIE:
            return ProcessMetrics(rows=0, seconds=1.0, cpu_seconds=0.0, peak_mb=0.0)
        time.sleep(every_s / 5)
    started, cpu_before = time.monotonic(), cpu()
    out, now = first, started
    while out < rows and now - started < at_most_s:
        time.sleep(every_s)
        out, now = counted(), time.monotonic()
    used = cpu() - cpu_before
    return ProcessMetrics(
        rows=out - first, seconds=now - started, cpu_seconds=used, peak_mb=resident_peak_kb(pid) / 1024
    )
