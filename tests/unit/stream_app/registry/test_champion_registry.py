"""The worker's access to the registry."""

import threading
from pathlib import Path

from filelock import FileLock

from schemas.configuration.registry_config import local_store
from schemas.configuration.settings import Settings
from schemas.promotion_log import LogState
from stream_app.registry.champion_registry import ChampionRegistry
from training.registry import mlflow_registry


def test_a_local_store_is_not_read_while_a_training_creates_it(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    mlflow_registry.ensure_reachable(settings)
    store = local_store(settings.tracking_uri)
    assert store is not None
    complete = store.database.rename(tmp_path / "complete.db")
    registry = ChampionRegistry(settings)
    answers: list[tuple[int | None, LogState]] = []
    reader = threading.Thread(target=lambda: answers.append(registry.alias_and_history()))
    with FileLock(store.lock):
        store.database.touch()  # created, without tables
        reader.start()
        reader.join(0.5)
        assert reader.is_alive()
        complete.rename(store.database)
    reader.join(60)
    assert answers == [(None, LogState())]
