"""A worker that dies at a step of our choosing: `python -m chaos.worker STEP NTH`, settings from the environment.

It kills itself with SIGKILL when it reaches STEP (as `Scorer` and `Output` name them) for the NTH time: nothing is
flushed, closed or committed on the way out.
"""

import os
import signal
import sys
from itertools import count

from schemas.configuration import settings as config
from stream_app.worker.worker import run


class Dying:
    """Counts the visits to one step, and dies at the nth."""

    def __init__(self, step: str, nth: int) -> None:
        self._step = step
        self._nth = nth
        self._visits = count(1)

    def __call__(self, step: str) -> None:
        """Told of a step."""
        if step == self._step and next(self._visits) == self._nth:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run(config.load(), at=Dying(sys.argv[1], int(sys.argv[2])))
