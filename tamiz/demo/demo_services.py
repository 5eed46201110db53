"""Starts the services of the demo, each in a process of its own."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.errors import TamizError
from schemas.json_codec import decode
from stream_app.web.health_server import Readiness

SWAP_TIMEOUT_S = 150  # for a worker to switch to a new champion; its child process alone may take 120 s to load it


@contextmanager
def ready_service(command: str, page: str, settings: Settings, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `tamiz COMMAND` in a process until exit. On entry its health page has responded."""
    with service_process(command, settings, log) as process:
        _wait_until_ready(process, command, page, log)
        yield process


@contextmanager
def service_process(command: str, settings: Settings, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `tamiz COMMAND` in a process until exit."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tamiz", command],
            env=child_environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(settings.drain_timeout_seconds + 30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_takeover(page: str, before: Collection[int], check: Callable[[], None]) -> None:
    """Wait until the worker with `/readyz` at `page` serves a version that is not among `before`.

    check: called often; raises when there is nothing more to wait for. Raises TamizError after SWAP_TIMEOUT_S.
    """
    deadline = time.monotonic() + SWAP_TIMEOUT_S
    while time.monotonic() < deadline:
        check()
        try:
            with urllib.request.urlopen(page, timeout=2) as answer:
                version = decode(answer.read(), Readiness).model_version
            if version is not None and version not in before:
                return
        except OSError:  # busy, or not ready for a moment: retry
            pass
        time.sleep(0.2)
    raise TamizError(f"the worker did not switch to the new champion within {SWAP_TIMEOUT_S} s; see worker.log")


def _wait_until_ready(process: "subprocess.Popen[bytes]", command: str, page: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(page, timeout=2):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
    raise TamizError(f"the {command} did not become ready; the end of its log {log}:\n{last}")
