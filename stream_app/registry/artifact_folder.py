"""Files in a folder or an artifact store that several programs share, through MLflow's access to artifacts.

A file appears whole or not at all: MLflow writes to a temporary name and renames it, and object stores do the same.
"""

from pathlib import Path

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from schemas.configuration.registry_config import unreadable_store
from schemas.configuration.settings import Settings
from schemas.errors import ConfigError
from stream_app.registry.mlflow_library import configure_mlflow


class ArtifactFolder:
    """A path or URI. Methods other than the first raise the exceptions of the store."""

    def __init__(self, settings: Settings, root: str, *, setting: str) -> None:
        """setting: name of the setting that gives `root`. Raises ConfigError if it names no usable place."""
        if missing := unreadable_store(root):
            raise ConfigError(f"{setting}: {missing}")
        configure_mlflow(settings)
        try:
            self._artifacts = get_artifact_repository(root, tracking_uri=settings.tracking_uri)
        except Exception as error:  # of each kind of store
            raise ConfigError(f"{setting} is {root!r}: {error}; set a folder or an artifact URI") from None

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder; none if it does not exist."""
        return [Path(found.path).name for found in self._artifacts.list_artifacts(folder) if not found.is_dir]

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder; none if it does not exist."""
        return [Path(found.path).name for found in self._artifacts.list_artifacts(folder) if found.is_dir]

    def add(self, folder: str, path: Path) -> None:
        """Copy a file into a folder, under its name."""
        self._artifacts.log_artifact(str(path), folder)

    def fetch(self, folder: str, name: str, into: Path) -> Path:
        """A path at which a file can be read. into: a temporary folder."""
        return Path(self._artifacts.download_artifacts(f"{folder}/{name}", str(into)))

    def remove(self, folder: str, name: str) -> None:
        """Delete a file."""
        self._artifacts.delete_artifacts(f"{folder}/{name}")
