"""Read-only access of serving programs to MLflow: champion alias, promotion history, bundles."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import mlflow
import msgspec
from filelock import FileLock
from mlflow.environment_variables import (
    MLFLOW_DISABLE_TELEMETRY,
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)
from mlflow.exceptions import MlflowException

from schemas.configuration.registry_config import (
    LocalStore,
    export_credentials,
    local_store,
    model_filter,
    unreadable_store,
)
from schemas.configuration.settings import Settings
from schemas.errors import ModelIncompatibleError
from schemas.files.private_files import narrow_state, private_folder
from schemas.log_chain import START, Head, read_head
from schemas.promotion_log import BUNDLE, CHAMPION, HEAD_TAG, LogState, log_name, read_log
from schemas.security.sanitizer import without_credentials
from scoring.model import MAX_BYTES

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


class RegistryUnavailableError(Exception):
    """The registry does not respond, or does not provide the bundle."""


class RegisteredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version as registered in MLflow."""

    version: int
    run_id: str
    tags: dict[str, str]  # as `tamiz.NAME`


class ChampionRegistry:
    """Blocking client. Every method raises RegistryUnavailableError if the registry does not respond."""

    def __init__(self, settings: Settings) -> None:
        self._model = settings.model_name
        self._uri = settings.tracking_uri
        self._state_dir = settings.state_dir
        self._incomplete_store: LocalStore | None = local_store(self._uri)  # None: complete, or a server
        self._last_history = LogState()
        self._head = START  # last history entry seen; restored after a restart by `remember`
        # With MLflow's default retries (minutes) a worker could not report what it waits for.
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(1)
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(10)
        MLFLOW_DISABLE_TELEMETRY.set(True)
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # a log is not a terminal
        export_credentials(settings, os.environ)
        self._client = mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @property
    def last_history(self) -> LogState:
        """The state of the promotion history when it was last read."""
        return self._last_history

    def remember(self, head: Head) -> None:
        """Require that the history still contains this entry, which the caller has read before."""
        self._head = head

    def alias_and_history(self) -> tuple[int | None, LogState]:
        """The version of the alias `champion`, and the state of the promotion history."""
        if self._is_store_missing():
            return None, LogState()
        try:
            return self._alias(), self._read_history()
        except (MlflowException, OSError) as error:
            raise RegistryUnavailableError(first_line(error)) from error

    def history(self) -> LogState:
        """The state of the promotion history."""
        if self._is_store_missing():
            return LogState()
        try:
            return self._read_history()
        except (MlflowException, OSError) as error:
            raise RegistryUnavailableError(first_line(error)) from error

    def version(self, version: int) -> RegisteredVersion:
        """A version. Raises RegistryUnavailableError also if it does not exist."""
        try:
            found = self._client.get_model_version(self._model, str(version))
        except (MlflowException, OSError) as error:
            raise RegistryUnavailableError(first_line(error)) from error
        return RegisteredVersion(version=version, run_id=found.run_id, tags=dict(found.tags))

    def versions(self) -> set[int]:
        """Numbers of the registered versions."""
        try:
            return {int(v.version) for v in self._client.search_model_versions(model_filter(self._model))}
        except (MlflowException, OSError) as error:
            raise RegistryUnavailableError(first_line(error)) from error

    def download(self, run_id: str, folder: Path) -> None:
        """Download a run's bundle to a folder, which is renamed into place when it is complete.

        Raises ModelIncompatibleError if a file exceeds its limit, or if the library for the artifact store is missing.
        """
        try:
            private_folder(folder.parent)
            narrow_state(self._state_dir)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="download-") as scratch:
                # The artifact's URI, not `runs:/`, with which MLflow hides the error.
                artifacts = self._client.get_run(run_id).info.artifact_uri
                if missing := unreadable_store(artifacts):
                    raise ModelIncompatibleError(missing)
                for file in self._client.list_artifacts(run_id, BUNDLE):
                    max_bytes = MAX_BYTES.get(Path(file.path).name, 0)
                    if (file.file_size or 0) > max_bytes:
                        raise ModelIncompatibleError(
                            f"{file.path} of run {run_id} has {file.file_size} bytes, at most {max_bytes} are allowed"
                        )
                found = mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{artifacts}/{BUNDLE}", dst_path=scratch, tracking_uri=self._uri
                )
                try:
                    os.replace(found, folder)
                except OSError:
                    if not folder.is_dir():  # otherwise another program was first; its digest is checked
                        raise
        except ModelIncompatibleError:
            raise
        except Exception as error:  # each kind of store has its own exceptions, and none may end the program
            raise RegistryUnavailableError(f"the bundle of run {run_id}: {first_line(error)}") from error

    def _is_store_missing(self) -> bool:
        """Whether the local store does not exist yet. MLflow would create it, in a race with the first training."""
        if (store := self._incomplete_store) is None:
            return False
        if not store.database.exists():
            return True
        # Wait until the training that creates the store has created its tables, too. If the folder is read-only here,
        # the lock cannot be taken; its store is complete.
        with suppress(OSError), FileLock(store.lock):
            pass
        self._incomplete_store = None
        return False

    def _alias(self) -> int | None:
        try:
            return int(self._client.get_model_version_by_alias(self._model, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise

    def _read_history(self) -> LogState:
        """Read the whole history each time, because an entry may have been edited or deleted."""
        name = log_name(self._model)
        try:
            head = read_head(self._client.get_registered_model(name).tags.get(HEAD_TAG))
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            head = START
        found, token = [], None
        while True:
            page = self._client.search_model_versions(
                model_filter(name), page_token=token, order_by=["version_number ASC"]
            )
            found += [(int(v.version), dict(v.tags)) for v in page]
            if not (token := page.token):
                break
        self._last_history = read_log(found, [head, self._head])
        if self._last_history.damage is None:
            self._head = self._last_history.head
        return self._last_history


def first_line(error: BaseException) -> str:
    """The first line of an error, shortened for the log."""
    return without_credentials((str(error) or repr(error)).splitlines()[0])[:200]
