"""The worker's access to the registry."""

import threading
from pathlib import Path

from filelock import FileLock

from schemas.configuration.settings import Settings
from schemas.promotion_log import LogState
from stream_app.worker.champion_registry import ChampionRegistry
from training.registry import mlflow_registry


def test_a_local_store_is_not_read_while_a_training_creates_it(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    mlflow_registry.ensure_reachable(settings)
    path = Path(settings.tracking_uri.removeprefix("sqlite:///"))
    complete = path.rename(tmp_path / "complete.db")
    registry = ChampionRegistry(settings)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(registry.ask()))
    with FileLock(path.with_suffix(".lock")):
        path.touch()  # created, and without tables
        asking.start()
        asking.join(0.5)
        assert asking.is_alive()
        complete.rename(path)
    asking.join(60)
    assert answers == [(None, LogState())]
