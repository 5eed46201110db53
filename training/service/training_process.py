"""Runs a training in a child process with a time limit, so that a crash, hang or leak does not affect the retrainer."""

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

RETRAINER_ACTOR = "tamiz retrainer"
POLL_INTERVAL_S = 0.2  # for the result, the time limit and the stop event
TERMINATE_TIMEOUT_S = 10


class TrainingOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The message from the child process at its end."""

    events: tuple[ModelEvent, ...] = ()  # registration and transition of the new version
    failure: str | None = None  # the error, in one line


TrainingFunction = Callable[[Settings, RetrainRequest, Path | None], tuple[ModelEvent, ...]]


def run_in_child_process(
    training: TrainingFunction,
    settings: Settings,
    request: RetrainRequest,
    history: Path | None,
    *,
    stop: threading.Event,
) -> tuple[ModelEvent, ...]:
    """Run a training in a child process for at most `retrain_timeout_seconds`; returns the events of the new version.

    training: a function that the child process can import. history: a file to train on instead of the topics. stop:
    once set, the child process is terminated.
    Raises TrainingError, in one line, when the training failed, crashed, timed out or was stopped.
    """
    spawn = multiprocessing.get_context("spawn")  # fork is not safe with XGBoost's threads and our clients' connections
    reader, writer = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_run_child, args=(writer, training, settings, request, history), daemon=True)
    process.start()
    writer.close()
    limit_s = settings.retrain_timeout_seconds
    deadline = time.monotonic() + limit_s
    try:
        while not reader.poll(POLL_INTERVAL_S):
            if stop.is_set():
                raise TrainingError("the training was stopped")
            if time.monotonic() > deadline:
                raise TrainingError(f"the training took longer than retrain_timeout_seconds, {limit_s} s")
        outcome = msgspec.json.decode(reader.recv_bytes(), type=TrainingOutcome)
    except EOFError:
        process.join(TERMINATE_TIMEOUT_S)
        raise TrainingError(f"the training process crashed with exit code {process.exitcode}") from None
    finally:
        reader.close()
        _terminate(process)
    if outcome.failure is not None:
        raise TrainingError(outcome.failure)
    return outcome.events


def _terminate(process: multiprocessing.process.BaseProcess) -> None:
    process.join(POLL_INTERVAL_S)
    if process.is_alive():
        process.terminate()
        process.join(TERMINATE_TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def _run_child(
    writer: Connection, training: TrainingFunction, settings: Settings, request: RetrainRequest, history: Path | None
) -> None:
    guard_standard_error()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole process group; the parent terminates us
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        outcome = TrainingOutcome(events=training(settings, request, history))
    except TamizError as error:
        outcome = TrainingOutcome(failure=without_credentials(str(error)))
    except Exception as error:  # any error becomes a training-failed event and must not end the retrainer
        outcome = TrainingOutcome(failure=without_credentials(f"{type(error).__name__}: {error}").splitlines()[0])
    writer.send_bytes(msgspec.json.encode(outcome))


def _exit_with_parent() -> None:
    """Exit when the parent dies: otherwise an orphaned training could promote a version while its retry runs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
