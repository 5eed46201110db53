"""Worker processes under a supervisor that restarts each one that ends."""

import contextlib
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings

POLL_INTERVAL_S = 0.2
STOP_TIMEOUT_S = 60.0


@dataclass
class WorkerSlot:
    """A slot of the pool; its process may end and be replaced."""

    log: Path
    process: subprocess.Popen[bytes]
    paused: bool = False


@dataclass
class WorkerPool:
    """Context manager: several supervised workers; all are stopped at the end."""

    settings: Settings
    folder: Path
    size: int
    kill_at: Sequence[str] = ()  # STEP NTH: the first worker kills itself at the NTH visit of STEP
    deaths: dict[int, int] = field(default_factory=dict)  # by exit code; negative for a signal
    _slots: list[WorkerSlot] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "WorkerPool":
        """Start all workers and the supervisor."""
        for _ in range(self.size):
            self.add()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all workers: by SIGTERM, after a timeout by SIGKILL."""
        self._over.set()
        self._supervisor.join()
        for slot in self._slots:
            slot.process.send_signal(signal.SIGCONT)
            slot.process.terminate()
        for slot in self._slots:
            with contextlib.suppress(subprocess.TimeoutExpired):
                slot.process.wait(STOP_TIMEOUT_S)
            if slot.process.poll() is None:
                slot.process.kill()
                slot.process.wait()

    def __len__(self) -> int:
        """Number of workers."""
        return len(self._slots)

    def tail(self) -> str:
        """The last lines of all logs."""
        return "\n".join(f"{s.log.name} ends:\n{s.log.read_text(errors='replace')[-3000:]}" for s in self._slots)

    def kill(self, number: int) -> None:
        """Send SIGKILL; the supervisor starts another worker."""
        self._signal(number, signal.SIGKILL)

    def pause(self, number: int) -> None:
        """Send SIGSTOP, until `resume`."""
        self._slots[number % len(self._slots)].paused = True
        self._signal(number, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """Send SIGCONT."""
        self._slots[number % len(self._slots)].paused = False
        self._signal(number, signal.SIGCONT)

    @contextlib.contextmanager
    def stopped_workers(self) -> Iterator[None]:
        """Context manager: stops all workers, and starts them again at the end."""
        with self._lock:
            for slot in self._slots:
                slot.process.terminate()
            for slot in self._slots:
                slot.process.wait(STOP_TIMEOUT_S)
            yield
            for slot in self._slots:
                slot.process = self._start(slot.log, first=False)

    def limit_files(self, size: int) -> None:
        """Limit the size of files that workers write, in bytes, which has the effect of a full disk."""
        with self._lock:
            for slot in self._slots:
                if slot.process.poll() is None:
                    resource.prlimit(slot.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def add(self) -> None:
        """Start one more worker; the group rebalances."""
        log = self.folder / f"worker-{len(self._slots)}.log"
        with self._lock:
            self._slots.append(WorkerSlot(log, self._start(log, first=not self._slots)))

    def remove(self) -> None:
        """Stop the last worker by SIGTERM; it is not replaced."""
        with self._lock:
            slot = self._slots.pop()
        slot.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            slot.process.wait(STOP_TIMEOUT_S)
        if slot.process.poll() is None:
            slot.process.kill()
            slot.process.wait()

    def _start(self, log: Path, *, first: bool) -> subprocess.Popen[bytes]:
        dying, self.kill_at = (self.kill_at, ()) if first else ((), self.kill_at)
        command = ["-m", "chaos.worker", *dying] if dying else ["-m", "tamiz", "worker"]
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *command],
                env=child_environment(self.settings),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _signal(self, number: int, signal_number: int) -> None:
        with self._lock:
            self._slots[number % len(self._slots)].process.send_signal(signal_number)

    def _supervise(self) -> None:
        while not self._over.wait(POLL_INTERVAL_S):
            with self._lock:
                for slot in self._slots:
                    code = slot.process.poll()
                    if code is not None:
                        self.deaths[code] = self.deaths.get(code, 0) + 1
                        slot.process = self._start(slot.log, first=False)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition; returns whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True
