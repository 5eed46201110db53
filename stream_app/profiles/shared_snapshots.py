"""Snapshots in a place that all workers share (`profile_snapshot_root`), through MLflow's access to artifacts."""

from pathlib import Path

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from schemas.configuration.registry_config import unreadable_store
from schemas.configuration.settings import Settings
from schemas.errors import ConfigError
from stream_app.registry.mlflow_library import configure_mlflow


class SharedFolder:
    """A `SharedPlace` at a path or URI."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError if the setting names no usable place."""
        root = settings.profile_snapshot_root or ""
        if missing := unreadable_store(root):
            raise ConfigError(f"profile_snapshot_root: {missing}")
        configure_mlflow(settings)
        try:
            self._artifacts = get_artifact_repository(root, tracking_uri=settings.tracking_uri)
        except Exception as error:  # of each kind of store
            raise ConfigError(f"profile_snapshot_root is {root!r}: {error}; set a folder or an artifact URI") from None

    def names(self, folder: str) -> list[str]:
        """As `SnapshotPlace.names`."""
        return [Path(found.path).name for found in self._artifacts.list_artifacts(folder) if not found.is_dir]

    def add(self, folder: str, path: Path) -> None:
        """As `SharedPlace.add`."""
        self._artifacts.log_artifact(str(path), folder)

    def fetch(self, folder: str, name: str, into: Path) -> Path:
        """As `SnapshotPlace.fetch`."""
        return Path(self._artifacts.download_artifacts(f"{folder}/{name}", str(into)))

    def remove(self, folder: str, name: str) -> None:
        """As `SnapshotPlace.remove`."""
        self._artifacts.delete_artifacts(f"{folder}/{name}")
