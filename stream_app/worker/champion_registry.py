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

from schemas.configuration.registry_config import export_credentials, model_filter, unreadable_store
from schemas.configuration.settings import Settings
from schemas.errors import ModelIncompatibleError
from schemas.files.private_files import narrow_state, private_folder
from schemas.log_chain import START, Head, read_head
from schemas.promotion_log import BUNDLE, CHAMPION, HEAD_TAG, LogState, log_name, read_log
from schemas.security.sanitizer import without_credentials
from scoring.model import MAX_BYTES

ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


class RegistryAwayError(Exception):
    """The registry does not respond, or does not provide the bundle."""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version."""

    version: int
    run_id: str
    tags: dict[str, str]  # as `tamiz.NAME`


class ChampionRegistry:
    """Blocking client. Every method raises RegistryAwayError if the registry does not respond."""

    def __init__(self, settings: Settings) -> None:
        self._model = settings.model_name
        self._uri = settings.tracking_uri
        self._state_dir = settings.state_dir
        self._is_made = False
        self._standing = LogState()
        self._head = START  # last history entry seen; restored after a restart by `remember`
        # With MLflow's default retries (minutes) a worker could not report what it waits for.
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(1)
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(10)
        MLFLOW_DISABLE_TELEMETRY.set(True)
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # a log is not a terminal
        export_credentials(settings, os.environ)
        self._client = mlflow.MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @property
    def standing(self) -> LogState:
        """The state of the promotion history when it was last read."""
        return self._standing

    def remember(self, head: Head) -> None:
        """Require that the history still contains this entry, which the caller has read before."""
        self._head = head

    def ask(self) -> tuple[int | None, LogState]:
        """The version of the alias `champion`, and the state of the promotion history."""
        if self._is_unmade():
            return None, LogState()
        try:
            return self._alias(), self._history()
        except (MlflowException, OSError) as error:
            raise RegistryAwayError(first_line(error)) from error

    def history(self) -> LogState:
        """The state of the promotion history."""
        if self._is_unmade():
            return LogState()
        try:
            return self._history()
        except (MlflowException, OSError) as error:
            raise RegistryAwayError(first_line(error)) from error

    def version(self, version: int) -> Registered:
        """A version. Raises RegistryAwayError also if it does not exist."""
        try:
            found = self._client.get_model_version(self._model, str(version))
        except (MlflowException, OSError) as error:
            raise RegistryAwayError(first_line(error)) from error
        return Registered(version=version, run_id=found.run_id, tags=dict(found.tags))

    def versions(self) -> set[int]:
        """Numbers of the registered versions."""
        try:
            return {int(v.version) for v in self._client.search_model_versions(model_filter(self._model))}
        except (MlflowException, OSError) as error:
            raise RegistryAwayError(first_line(error)) from error

    def download(self, run_id: str, folder: Path) -> None:
        """Fetch a run's bundle into a folder, which appears whole or not at all.

        Raises ModelIncompatibleError when a file is larger than a bundle's may be, or no library here reads its store.
        """
        try:
            private_folder(folder.parent)
            narrow_state(self._state_dir)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="download-") as scratch:
                # The artifact's URI, not `runs:/`, with which MLflow hides the error.
                kept = self._client.get_run(run_id).info.artifact_uri
                if missing := unreadable_store(kept):
                    raise ModelIncompatibleError(missing)
                for file in self._client.list_artifacts(run_id, BUNDLE):
                    max_bytes = MAX_BYTES.get(Path(file.path).name, 0)
                    if (file.file_size or 0) > max_bytes:
                        raise ModelIncompatibleError(
                            f"{file.path} of run {run_id} has {file.file_size} bytes, at most {max_bytes} are allowed"
                        )
                found = mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{kept}/{BUNDLE}", dst_path=scratch, tracking_uri=self._uri
                )
                try:
                    os.replace(found, folder)
                except OSError:
                    if not folder.is_dir():  # otherwise another program was first; its digest is checked
                        raise
        except ModelIncompatibleError:
            raise
        except Exception as error:  # every kind of store raises errors of its own, and none may end the program
            raise RegistryAwayError(f"the bundle of run {run_id}: {first_line(error)}") from error

    def _is_unmade(self) -> bool:
        """Whether the local store does not exist yet. MLflow would create it, in a race with the first training."""
        if not self._uri.startswith("sqlite:///") or self._is_made:
            return False
        path = Path(self._uri.removeprefix("sqlite:///"))
        if not path.exists():
            return True
        # The file appears before its tables. A training creates both under this lock. A store in a folder that is
        # read-only here is complete.
        with suppress(OSError), FileLock(path.with_suffix(".lock")):
            pass
        self._is_made = True
        return False

    def _alias(self) -> int | None:
        try:
            return int(self._client.get_model_version_by_alias(self._model, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise

    def _history(self) -> LogState:
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
        self._standing = read_log(found, [head, self._head])
        if self._standing.damage is None:
            self._head = self._standing.head
        return self._standing


def first_line(error: BaseException) -> str:
    """The first line of an error, shortened for the log."""
    return without_credentials((str(error) or repr(error)).splitlines()[0])[:200]
