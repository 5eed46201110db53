"""What other processes do while promotions meet. They are forks of one that has imported MLflow already."""

import os
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from training.registry import aliases, mlflow_registry, version_transitions

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


def promote_when_asked(asked: Connection, state_dir: Path, name: str) -> None:
    """Promote each version received, compared with a champion or not, and send what became of it."""
    settings = Settings(state_dir=state_dir, model_name="small")
    mlflow_registry.ensure_reachable(settings)
    asked.send("ready")
    while True:
        version, compared = asked.recv()
        given: dict[str, Any] = {} if compared is None else {"compared_with": compared}
        try:
            version_transitions.promote(settings, version, "a race", by=name, **given)
            asked.send("moved")
        except ModelUnavailableError as error:
            asked.send(str(error))


def die_before_the_alias(state_dir: Path) -> None:
    """Promote version 2, and die once the history says so."""
    aliases._set_alias = lambda *_: os._exit(9)  # type: ignore[assignment]
    version_transitions.promote(Settings(state_dir=state_dir, model_name="small"), 2, "the process dies here")


class Racer:
    """A process that promotes when asked."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._asks, asked = FORKS.Pipe()
        self._process = FORKS.Process(target=promote_when_asked, args=(asked, settings.state_dir, name), daemon=True)
        self._process.start()
        asked.close()

    def answer(self) -> str:
        """Raises EOFError when the process has ended."""
        return str(self._asks.recv())

    def promote(self, version: int, compared: int | None = None) -> str:
        """Promote a version; "moved", or why not."""
        self._asks.send((version, compared))
        return self.answer()

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()
        self._asks.close()
