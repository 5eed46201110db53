"""Workers as processes, and the supervisor that every one of them is to have: what ends is started again."""

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
class Seat:
    """A place in the fleet; who sits in it may die and be replaced."""

    log: Path
    process: subprocess.Popen[bytes]
    paused: bool = False


@dataclass
class Fleet:
    """Several workers under supervision; a context manager. Nobody is left behind."""

    settings: Settings
    folder: Path
    size: int
    dying_at: Sequence[str] = ()  # STEP NTH: the first worker kills itself there
    deaths: dict[int, int] = field(default_factory=dict)  # by exit code; a signal's is negative
    _seats: list[Seat] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Fleet":
        """Start everybody, and the supervisor."""
        for _ in range(self.size):
            self.add()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everybody: orderly first, then whatever it takes."""
        self._over.set()
        self._supervisor.join()
        for seat in self._seats:
            seat.process.send_signal(signal.SIGCONT)
            seat.process.terminate()
        for seat in self._seats:
            with contextlib.suppress(subprocess.TimeoutExpired):
                seat.process.wait(STOP_TIMEOUT_S)
            if seat.process.poll() is None:
                seat.process.kill()
                seat.process.wait()

    def __len__(self) -> int:
        """How many seats there are."""
        return len(self._seats)

    def tail(self) -> str:
        """The ends of everybody's logs."""
        return "\n".join(f"{s.log.name} ends:\n{s.log.read_text(errors='replace')[-3000:]}" for s in self._seats)

    def kill(self, number: int) -> None:
        """SIGKILL; the supervisor starts another."""
        self._signal(number, signal.SIGKILL)

    def pause(self, number: int) -> None:
        """SIGSTOP, until `wake`."""
        self._seats[number % len(self._seats)].paused = True
        self._signal(number, signal.SIGSTOP)

    def wake(self, number: int) -> None:
        """SIGCONT."""
        self._seats[number % len(self._seats)].paused = False
        self._signal(number, signal.SIGCONT)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody works inside: every worker is stopped in order, and started again behind it."""
        with self._lock:
            for seat in self._seats:
                seat.process.terminate()
            for seat in self._seats:
                seat.process.wait(STOP_TIMEOUT_S)
            yield
            for seat in self._seats:
                seat.process = self._start(seat.log, first=False)

    def limit_files(self, size: int) -> None:
        """Let no file that a worker writes be larger than so many bytes: to it the disk is full, as quotas do it."""
        with self._lock:
            for seat in self._seats:
                if seat.process.poll() is None:
                    resource.prlimit(seat.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def add(self) -> None:
        """One worker more: the group is shared out anew."""
        log = self.folder / f"worker-{len(self._seats)}.log"
        with self._lock:
            self._seats.append(Seat(log, self._start(log, first=not self._seats)))

    def remove(self) -> None:
        """SIGTERM for the last one, who is not replaced."""
        with self._lock:
            seat = self._seats.pop()
        seat.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            seat.process.wait(STOP_TIMEOUT_S)
        if seat.process.poll() is None:
            seat.process.kill()
            seat.process.wait()

    def _start(self, log: Path, *, first: bool) -> subprocess.Popen[bytes]:
        dying, self.dying_at = (self.dying_at, ()) if first else ((), self.dying_at)
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
            self._seats[number % len(self._seats)].process.send_signal(signal_number)

    def _supervise(self) -> None:
        while not self._over.wait(POLL_INTERVAL_S):
            with self._lock:
                for seat in self._seats:
                    code = seat.process.poll()
                    if code is not None:
                        self.deaths[code] = self.deaths.get(code, 0) + 1
                        seat.process = self._start(seat.log, first=False)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True
