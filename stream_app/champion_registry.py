"""What a program that serves asks of MLflow: the champion, what was promoted, and a version's bundle. Reads only."""

import os
import tempfile
from pathlib import Path

import mlflow
import msgspec
from mlflow.environment_variables import (
    MLFLOW_DISABLE_TELEMETRY,
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException

from monitoring.model import MAX_BYTES
from schemas.errors import ModelIncompatible
from schemas.private_files import narrow_state, private_folder
from schemas.promotion_log import Standing, log_name, read_log
from schemas.registry_access import lend_to_mlflow
from schemas.sanitize import without_credentials
from schemas.settings import Settings

CHAMPION = "champion"
BUNDLE = "bundle"
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


class RegistryAwayError(Exception):
    """The registry does not answer, or not with the bundle. Never leaves the worker."""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A version, as the registry has it."""

    version: int
    run_id: str
    tags: dict[str, str]  # as `tamiz.NAME`


class ChampionRegistry:
    """Blocking. Everything here raises RegistryAwayError when the registry does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._model = settings.model
        self._uri = settings.tracking_uri
        self._state_dir = settings.state_dir
        self._standing = Standing()
        # MLflow's own patience (minutes) would keep a worker from saying what it waits for.
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(1)
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(10)
        MLFLOW_DISABLE_TELEMETRY.set(True)
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # a log is not a terminal
        lend_to_mlflow(settings, os.environ)
        self._client = mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def ask(self) -> tuple[int | None, Standing]:
        """The version that the alias `champion` names, and what the history of promotions comes to."""
        if self._uri.startswith("sqlite:///") and not Path(self._uri.removeprefix("sqlite:///")).exists():
            return None, Standing()  # MLflow would make the store, racing with the first training
        try:
            return self._alias(), self._history()
        except (MlflowException, OSError) as error:
            raise RegistryAwayError(first_line(error)) from error

    def version(self, version: int) -> Registered:
        """A version. Raises RegistryAwayError when there is none, too."""
        try:
            found = self._client.get_model_version(self._model, str(version))
        except (MlflowException, OSError) as error:
            raise RegistryAwayError(first_line(error)) from error
        return Registered(version=version, run_id=found.run_id, tags=dict(found.tags))

    def versions(self) -> set[int]:
        """Numbers of the registered versions."""
        try:
            return {int(v.version) for v in self._client.search_model_versions(_named(self._model))}
        except (MlflowException, OSError) as error:
            raise RegistryAwayError(first_line(error)) from error

    def download(self, run_id: str, folder: Path) -> None:
        """Fetch a run's bundle into a folder, which appears whole or not at all.

        Raises ModelIncompatible when a file is larger than a bundle's may be.
        """
        try:
            private_folder(folder.parent)
            narrow_state(self._state_dir)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="download-") as scratch:
                for file in self._client.list_artifacts(run_id, BUNDLE):
                    most = MAX_BYTES.get(Path(file.path).name, 0)
                    if (file.file_size or 0) > most:
                        raise ModelIncompatible(
                            f"{file.path} of run {run_id} has {file.file_size} bytes, at most {most}"
                        )
                # Where the run keeps it, not `runs:/`: that way MLflow hides what went wrong.
                kept = self._client.get_run(run_id).info.artifact_uri
                found = mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{kept}/{BUNDLE}", dst_path=scratch, tracking_uri=self._uri
                )
                os.replace(found, folder)
        except ModelIncompatible:
            raise
        except Exception as error:  # every kind of store that MLflow knows has errors of its own, and none may end us
            raise RegistryAwayError(f"the bundle of run {run_id}: {first_line(error)}") from error

    def _alias(self) -> int | None:
        try:
            return int(self._client.get_model_version_by_alias(self._model, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise

    def _history(self) -> Standing:
        """Read anew only when it has grown."""
        of = _named(log_name(self._model))
        newest = self._client.search_model_versions(of, order_by=["version_number DESC"], max_results=1)
        if not newest:
            self._standing = Standing()
        elif int(newest[0].version) != self._standing.last:
            found, token = [], None
            while True:
                page = self._client.search_model_versions(of, page_token=token)
                found += [(int(v.version), dict(v.tags)) for v in page]
                if not (token := page.token):
                    break
            self._standing = read_log(found)
        return self._standing


def _named(name: str) -> str:
    quote = '"' if "'" in name else "'"
    return f"name = {quote}{name}{quote}"


def first_line(error: BaseException) -> str:
    """What an error says, short enough for a log."""
    return without_credentials((str(error) or repr(error)).splitlines()[0])[:200]
