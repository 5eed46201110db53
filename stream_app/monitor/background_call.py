"""Runs one blocking call at a time in a daemon thread, with a limit on how long the monitor's loop waits."""

import threading
from collections.abc import Callable


class BackgroundCall:
    """At most one running call. Start and wait from one thread."""

    def __init__(self, name: str) -> None:
        """name: of the thread."""
        self._name = name
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether the last call has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, function: Callable[[], None]) -> None:
        """Call the function in a thread. It must handle its own errors. Raises RuntimeError while a call is running."""
        if self.is_running:
            raise RuntimeError(f"the previous call of {self._name} has not ended")
        self._thread = threading.Thread(target=function, name=self._name, daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether the call has ended within this time."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.is_running
