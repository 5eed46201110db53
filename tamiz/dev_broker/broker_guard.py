"""Guard process of the embedded broker: ends the broker when the program that started it ends, even by SIGKILL.

Run as a script, with the standard library only: ``python -I -S broker_guard.py FOLDER COMMAND...``. Standard input is a
pipe whose other end only the program holds. A byte on the pipe: end the command. End of file: the program has died; end
the command and remove FOLDER (unless it is empty).

Why a process of its own: `PR_SET_PDEATHSIG` exists on Linux only and follows the *thread* that started the child, code
between fork and exec is unsafe with threads, and neither can remove a folder after a SIGKILL.
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
    """Run the command until it ends, the pipe signals the end, or SIGTERM arrives. Returns its exit code.

    folder: removed if the pipe is closed without a byte; empty for none. pipe: file descriptor.
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
                process.kill()  # no effect if it has ended
                break
        code = process.wait()
    if abandoned and folder:
        shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1], sys.argv[2:], sys.stdin.fileno()))
