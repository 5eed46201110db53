"""MLflow's library as a client of the registry: for local stores, and for artifact stores such as S3."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.environment_variables import (
    MLFLOW_DISABLE_TELEMETRY,
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException

from schemas.configuration.registry_config import export_credentials
from schemas.configuration.settings import Settings
from schemas.errors import ModelIncompatibleError
from schemas.promotion_log import BUNDLE
from stream_app.registry.registry_client import (
    ABSENT,
    ATTEMPTS,
    TIMEOUT_S,
    RegisteredVersion,
    RegistryUnavailableError,
    check_size,
    check_store,
    first_line,
)


def configure_mlflow(settings: Settings) -> None:
    """Set MLflow's credentials and time limits in this process's environment, where MLflow reads them."""
    MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(ATTEMPTS - 1)
    MLFLOW_HTTP_REQUEST_TIMEOUT.set(TIMEOUT_S)
    MLFLOW_DISABLE_TELEMETRY.set(True)
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # a log is not a terminal
    export_credentials(settings, os.environ)


class MlflowLibrary:
    """A `RegistryClient` for every registry that MLflow's library can read."""

    def __init__(self, settings: Settings) -> None:
        self._uri = settings.tracking_uri
        configure_mlflow(settings)
        self._client = mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def alias_version(self, model: str, alias: str) -> int | None:
        """As `RegistryClient.alias_version`."""
        found = _present(self._client.get_model_version_by_alias, model, alias)
        return None if found is None else int(found.version)

    def model_tags(self, model: str) -> dict[str, str] | None:
        """As `RegistryClient.model_tags`."""
        found = _present(self._client.get_registered_model, model)
        return None if found is None else dict(found.tags)

    def version(self, model: str, version: int) -> RegisteredVersion:
        """As `RegistryClient.version`."""
        try:
            found = self._client.get_model_version(model, str(version))
        except (MlflowException, OSError) as error:
            raise RegistryUnavailableError(first_line(error)) from error
        return RegisteredVersion(version=version, run_id=found.run_id, tags=dict(found.tags))

    def versions(self, model_filter: str) -> list[RegisteredVersion]:
        """As `RegistryClient.versions`."""
        found, token = [], None
        try:
            while True:
                page = self._client.search_model_versions(
                    model_filter, page_token=token, order_by=["version_number ASC"]
                )
                found += [
                    RegisteredVersion(version=int(v.version), run_id=v.run_id or "", tags=dict(v.tags)) for v in page
                ]
                if not (token := page.token):
                    return found
        except (MlflowException, OSError) as error:
            raise RegistryUnavailableError(first_line(error)) from error

    def download(self, run_id: str, folder: Path) -> Path:
        """As `RegistryClient.download`."""
        try:
            # The artifact's URI, not `runs:/`, with which MLflow hides the error.
            artifacts = self._client.get_run(run_id).info.artifact_uri
            check_store(artifacts)
            for file in self._client.list_artifacts(run_id, BUNDLE):
                check_size(file.path, file.file_size or 0, run_id)
            return Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{artifacts}/{BUNDLE}", dst_path=str(folder), tracking_uri=self._uri
                )
            )
        except ModelIncompatibleError:
            raise
        except Exception as error:  # each kind of store has its own exceptions, and none may end the program
            raise RegistryUnavailableError(first_line(error)) from error


def _present(read: Callable[..., Any], *names: str) -> Any:
    """What a call returns; None if the registry has no such thing."""
    try:
        return read(*names)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise RegistryUnavailableError(first_line(error)) from error
    except OSError as error:
        raise RegistryUnavailableError(first_line(error)) from error
