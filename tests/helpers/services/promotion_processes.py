"""Processes that promote versions concurrently, forked from a server that has already imported MLflow."""

import os
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from training.registry import aliases, mlflow_registry, version_transitions

FORKSERVER = get_context("forkserver")
FORKSERVER.set_forkserver_preload([__name__])


def serve_promotions(child_end: Connection, state_dir: Path, name: str) -> None:
    """Promote each version received, with or without `compared_with`; sends "moved" or the error."""
    settings = Settings(state_dir=state_dir, model_name="small")
    mlflow_registry.ensure_reachable(settings)
    child_end.send("ready")
    while True:
        version, compared = child_end.recv()
        given: dict[str, Any] = {} if compared is None else {"compared_with": compared}
        try:
            version_transitions.promote(settings, version, "a race", by=name, **given)
            child_end.send("moved")
        except ModelUnavailableError as error:
            child_end.send(str(error))


def crash_before_alias(state_dir: Path) -> None:
    """Promote version 2, and crash between log entry and alias."""
    aliases._set_alias = lambda *_: os._exit(9)  # type: ignore[assignment]
    version_transitions.promote(Settings(state_dir=state_dir, model_name="small"), 2, "the process crashes here")


class PromotionProcess:
    """A process that promotes versions on request."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._requests, child_end = FORKSERVER.Pipe()
        self._process = FORKSERVER.Process(
            target=serve_promotions, args=(child_end, settings.state_dir, name), daemon=True
        )
        self._process.start()
        child_end.close()

    def answer(self) -> str:
        """The next answer. Raises EOFError when the process has ended."""
        return str(self._requests.recv())

    def promote(self, version: int, compared: int | None = None) -> str:
        """Promote a version; returns "moved" or the error."""
        self._requests.send((version, compared))
        return self.answer()

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()
        self._requests.close()
