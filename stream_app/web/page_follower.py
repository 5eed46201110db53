"""Base class of the threads that read topics for the page, without a consumer group. They reconnect after failures."""

import logging
import threading

from kafka.errors import KafkaError

from schemas.errors import BrokerError
from schemas.security.sanitizer import without_credentials

RECONNECT_DELAY_S = 3


class PageFollower(threading.Thread):
    """A subclass reads in `_read`. Readers of what it holds must hold `lock`."""

    def __init__(self, name: str, subject: str, unread: str, log: logging.Logger) -> None:
        """name: of the thread. subject: what is read, for the log. unread: the error until something is read."""
        super().__init__(name=name, daemon=True)
        self._subject = subject
        self._log = log
        self._stop_event = threading.Event()
        self.lock = threading.Lock()
        self.error: str | None = unread

    def run(self) -> None:
        """Read until `stop` is called."""
        while not self._stop_event.is_set():
            try:
                self._read()
            except Exception as error:  # if the thread ended, the page would silently show old data
                if not isinstance(error, BrokerError | KafkaError):
                    self._log.exception("internal error while reading %s", self._subject)
                self.error = without_credentials(str(error) or repr(error))
                self._log.warning("%s; retry in %d s", self.error, RECONNECT_DELAY_S)
                self._stop_event.wait(RECONNECT_DELAY_S)

    def stop(self) -> None:
        """Stop reading and wait until the thread has ended."""
        self._stop_event.set()
        self.join(30)

    def _read(self) -> None:
        """Read until stopped, or until topics must be opened again."""
        raise NotImplementedError
