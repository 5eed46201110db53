"""One deadline for the whole shutdown of a program: after it, the process exits with one log line.

An unreachable broker or registry can delay each step of an orderly shutdown, and a supervisor's kill leaves no log.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

from schemas.configuration.settings import Settings

log = logging.getLogger("tamiz.stop")
CLOSE_TIMEOUT_S = 10  # to close clients, after the drain timeout
EXIT_CODE = 75  # EX_TEMPFAIL: unfinished work is repeated at the next start


class StopDeadline:
    """Ends the process if its shutdown takes longer than `drain_timeout_seconds` + `CLOSE_TIMEOUT_S`."""

    def __init__(self, settings: Settings, consequence: str, end: Callable[[int], None] = os._exit) -> None:
        """consequence: what happens to unfinished work, for the log. end: ends the process with an exit code."""
        self.seconds = settings.drain_timeout_seconds + CLOSE_TIMEOUT_S
        self._consequence = consequence
        self._end = end
        self._is_started = False

    def begin(self) -> None:
        """Start the deadline. A second call has no effect."""
        if self._is_started:
            return
        self._is_started = True
        timer = threading.Timer(self.seconds, self._on_timeout)
        timer.daemon = True
        timer.start()

    def _on_timeout(self) -> None:
        try:
            log.error(
                "not stopped within %d s (drain_timeout_seconds + %d): exit with code %d; %s",
                self.seconds,
                CLOSE_TIMEOUT_S,
                EXIT_CODE,
                self._consequence,
            )
            for child in multiprocessing.active_children():
                child.kill()
            logging.shutdown()
        finally:
            self._end(EXIT_CODE)


def stop_on_signals(stop: threading.Event, deadline: StopDeadline | None = None) -> None:
    """On SIGTERM and SIGINT, set the event and start the deadline. Call it from the main thread."""

    def on_signal(*_: object) -> None:
        stop.set()
        if deadline is not None:
            deadline.begin()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
