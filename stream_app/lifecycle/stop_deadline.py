"""One deadline for the whole stop of a program: whatever still runs then is ended, in one line.

A broker or a registry that is away can hold up each step of an orderly stop; a supervisor that kills says nothing.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

from schemas.configuration.settings import Settings

log = logging.getLogger("tamiz.stop")
MARGIN_S = 10  # to close clients, after what was consumed is decided
EXIT_CODE = 75  # EX_TEMPFAIL: what was not finished is done again at the next start


class StopDeadline:
    """Ends the process when its stop takes longer than `drain_timeout_seconds` and ten seconds more."""

    def __init__(self, settings: Settings, left: str, end: Callable[[int], None] = os._exit) -> None:
        """left: what becomes of unfinished work, for the log. end: ends the process with an exit code."""
        self.seconds = settings.drain_timeout_seconds + MARGIN_S
        self._left = left
        self._end = end
        self._begun = False

    def begin(self) -> None:
        """The stop was asked for; a second time changes nothing."""
        if self._begun:
            return
        self._begun = True
        timer = threading.Timer(self.seconds, self._over)
        timer.daemon = True
        timer.start()

    def _over(self) -> None:
        try:
            log.error(
                "not stopped within %d s (drain_timeout_seconds + %d): ended with code %d; %s",
                self.seconds,
                MARGIN_S,
                EXIT_CODE,
                self._left,
            )
            for child in multiprocessing.active_children():
                child.kill()
            logging.shutdown()
        finally:
            self._end(EXIT_CODE)


def stop_on_signals(stop: threading.Event, deadline: StopDeadline | None = None) -> None:
    """On SIGTERM and SIGINT: set the event and begin the deadline, if there is one. Call it from the main thread."""

    def asked(*_: object) -> None:
        stop.set()
        if deadline is not None:
            deadline.begin()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
