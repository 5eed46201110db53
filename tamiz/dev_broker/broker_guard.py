"""Stands between a program and the broker it started, and ends the broker when the program ends, however it ends.

Run as a script, with the standard library alone: ``python -I -S broker_guard.py FOLDER COMMAND...``, the standard
input a pipe whose other end only the program holds. A byte on it: end the command. Its end without one: the program
is gone; end the command and remove FOLDER (unless that is empty text).

Why a process of its own: `PR_SET_PDEATHSIG` is Linux's alone and follows the *thread* that started the child, code
between fork and exec is unsafe beside other threads, and neither could remove a folder after a SIGKILL.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import types

STOP_TIMEOUT_S = 20.0
POLL_INTERVAL_S = 0.2


def guard(folder: str, command: list[str], pipe: int) -> int:
    """Run the command until it ends, the pipe says so, or a SIGTERM does; its exit code.

    folder: removed when the pipe ends unsaid; empty: none is.
    """
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:

        def end(_number: int, _frame: types.FrameType | None) -> None:
            process.terminate()

        signal.signal(signal.SIGTERM, end)
        abandoned = False
        while process.poll() is None:
            if select.select([pipe], [], [], POLL_INTERVAL_S)[0]:
                abandoned = not os.read(pipe, 1)
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_TIMEOUT_S)
                process.kill()  # of one that has ended: nothing
                break
        code = process.wait()
    if abandoned and folder:
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1], sys.argv[2:], sys.stdin.fileno()))
