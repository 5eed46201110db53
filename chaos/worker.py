"""A worker that kills itself at a chosen step: `python -m chaos.worker STEP NTH`, settings from the environment.

It sends itself SIGKILL at the NTH visit of STEP (a name from the `on_step` hook of the worker loop), so nothing is
flushed, closed or committed.
"""

import os
import signal
import sys
from itertools import count

from schemas.configuration import settings as config
from stream_app.worker.worker import run


class KillAtStep:
    """Counts the visits to one step, and kills the process at the nth."""

    def __init__(self, step: str, nth: int) -> None:
        self._step = step
        self._nth = nth
        self._visits = count(1)

    def __call__(self, step: str) -> None:
        """Called at each step."""
        if step == self._step and next(self._visits) == self._nth:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run(config.load(), on_step=KillAtStep(sys.argv[1], int(sys.argv[2])))
