"""Training in a process of its own: it may take memory, hang or die, and the service that asked lives on."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from schemas.configuration.settings import Settings
from schemas.errors import TamizError, TrainingError
from schemas.records import ModelEvent, RetrainRequest
from schemas.security.sanitizer import without_credentials
from schemas.security.standard_error import guard_standard_error

BY = "tamiz retrainer"
POLL_INTERVAL_S = 0.2  # between two looks at whether it is done, over time or to be given up
TERMINATE_TIMEOUT_S = 10


class TrainingOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a training's process says at its end."""

    events: tuple[ModelEvent, ...] = ()  # what became of the version it made
    failure: str | None = None


Training = Callable[[Settings, RetrainRequest, Path | None], tuple[ModelEvent, ...]]


def run_in_child_process(
    training: Training, settings: Settings, request: RetrainRequest, history: Path | None, *, stop: threading.Event
) -> tuple[ModelEvent, ...]:
    """Run a training in a new process, for `retrain_timeout_seconds` at most; what became of it.

    training: a function that a new process can import. history: a file to train on instead of what Kafka keeps.
    stop: once set, the process is ended.
    Raises TrainingError, in one line, when it failed, died, took too long or was stopped.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork would take XGBoost's threads and our clients along by halves
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_work, args=(theirs, training, settings, request, history), daemon=True)
    process.start()
    theirs.close()
    limit_s = settings.retrain_timeout_seconds
    deadline = time.monotonic() + limit_s
    try:
        while not ours.poll(POLL_INTERVAL_S):
            if stop.is_set():
                raise TrainingError("it was stopped")
            if time.monotonic() > deadline:
                raise TrainingError(f"it took longer than the {limit_s} s of retrain_timeout_seconds")
        done = msgspec.json.decode(ours.recv_bytes(), type=TrainingOutcome)
    except EOFError:
        process.join(TERMINATE_TIMEOUT_S)
        raise TrainingError(f"its process ended with exit code {process.exitcode}, without a word") from None
    finally:
        ours.close()
        _end(process)
    if done.failure is not None:
        raise TrainingError(done.failure)
    return done.events


def _end(process: multiprocessing.process.BaseProcess) -> None:
    process.join(POLL_INTERVAL_S)
    if process.is_alive():
        process.terminate()
        process.join(TERMINATE_TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def _work(
    answer: Connection, training: Training, settings: Settings, request: RetrainRequest, history: Path | None
) -> None:
    guard_standard_error()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        done = TrainingOutcome(events=training(settings, request, history))
    except TamizError as error:
        done = TrainingOutcome(failure=without_credentials(str(error)))
    except Exception as error:  # whatever it is: told as an event, and the service lives on
        done = TrainingOutcome(failure=without_credentials(f"{type(error).__name__}: {error}").splitlines()[0])
    answer.send_bytes(msgspec.json.encode(done))


def _end_with_the_parent() -> None:
    """A training whose service was killed must not go on to promote what a second one is being trained for."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
