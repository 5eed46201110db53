"""Training functions that fail in a given way; tests run them in a child process."""

import os
import threading
import time
from pathlib import Path

from schemas.configuration.settings import Settings
from schemas.errors import TrainingError
from schemas.records import ModelEvent, RetrainRequest


def hanging_training(settings: Settings, request: RetrainRequest, history: Path | None) -> tuple[ModelEvent, ...]:
    time.sleep(600)
    return ()


def crashing_training(settings: Settings, request: RetrainRequest, history: Path | None) -> tuple[ModelEvent, ...]:
    os._exit(9)


def file_training(settings: Settings, request: RetrainRequest, history: Path | None) -> tuple[ModelEvent, ...]:
    if history is None or not history.exists():
        raise TrainingError(f"{history}: No such file")
    return (
        ModelEvent(
            model=request.model,
            model_version=2,
            change="promoted",
            reason="it is better",
            by="tests",
            happened_at_ms=0,
            correlation_id=request.correlation_id,
        ),
    )


def recorded_training(settings: Settings, request: RetrainRequest, history: Path | None) -> tuple[ModelEvent, ...]:
    assert history is not None
    with history.open("a") as lines:
        lines.write(f"{os.getpid()}\n")
    time.sleep(2)
    return file_training(settings, request, history)


def leaking_training(settings: Settings, request: RetrainRequest, history: Path | None) -> tuple[ModelEvent, ...]:
    address = "postgresql://ana:alpha/beta gamma@db/mlflow"

    def raise_in_thread() -> None:
        raise ValueError(f"in a thread: {address}")

    thread = threading.Thread(target=raise_in_thread)
    thread.start()
    thread.join()
    raise OSError(f"cannot reach {address}")
