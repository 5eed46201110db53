"""Which model decides now: the registry's champion, kept on disk for when the registry is away.

The registry is the truth. A bundle is downloaded beside the others (`state_dir/models/NAME/VERSION/`), checked, and
only then named as the one to fall back on (`champion.json`), so that a half-written download is never served.
"""

import logging
import os
import shutil
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

from monitoring.model import ScoringModel
from schemas.dataset import Dataset
from schemas.errors import ModelIncompatible, ModelUnavailable
from schemas.private_files import narrow_state, private_folder
from schemas.settings import Settings
from schemas.wire import decode

log = logging.getLogger("tamiz.models")
CHAMPION = "champion"


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """`champion.json`: the version to serve while the registry is away."""

    version: int


class ModelStore:
    """Blocking: call `open` before the loop runs and `refresh` from a thread; read `current` anywhere."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        self._settings = settings
        self._dataset = dataset
        self._folder = settings.state_dir / "models" / settings.model
        self._model: ScoringModel | None = None
        # MLflow's own patience (minutes) would keep a worker from saying what it waits for.
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(1)
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(10)
        MLFLOW_DISABLE_TELEMETRY.set(True)
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # a log is not a terminal
        self._client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)

    @property
    def current(self) -> ScoringModel:
        """The model that decides now. Raises ModelUnavailable before `open`."""
        if self._model is None:
            raise ModelUnavailable("no model is loaded yet")
        return self._model

    @property
    def loaded(self) -> ScoringModel | None:
        """The model that decides now, or None before there is one."""
        return self._model

    def open(self) -> None:
        """Load the champion; with the registry away, the last one served.

        Raises ModelUnavailable when there is neither, ModelIncompatible when the champion cannot be served.
        """
        try:
            self.refresh()
        except RegistryAwayError as away:
            version = self._last_served()
            if version is None:
                raise ModelUnavailable(
                    f"the registry {self._settings.tracking_uri} cannot be reached ({away}) and no bundle is kept in "
                    f"{self._folder}; start the registry, or set TAMIZ_MLFLOW_TRACKING_URI"
                ) from None
            log.warning("the registry is away (%s); serving version %d from disk", away, version)
            self._model = self._load(self._folder / str(version), version)
        if self._model is None:
            raise ModelUnavailable(
                f"the registry {self._settings.tracking_uri} has no champion of {self._settings.model!r}; "
                "train one with `tamiz train FILE`"
            )

    def refresh(self) -> bool:
        """Ask the registry; True when another version took over.

        Raises RegistryAwayError when it does not answer, ModelIncompatible when its champion cannot be served; in both
        cases the model that decides now goes on deciding.
        """
        found = self._champion()
        if found is None or (self._model is not None and self._model.version == found[0]):
            return False
        version, run_id = found
        folder = self._folder / str(version)
        if not folder.is_dir():
            self._download(run_id, folder)
        try:
            model = self._load(folder, version)
        except ModelIncompatible:
            shutil.rmtree(folder, ignore_errors=True)  # damaged on its way or on disk: fetch it anew next time
            raise
        self._model = model
        try:
            _write_atomically(self._folder / "champion.json", msgspec.json.encode(Pointer(version=version)))
        except OSError as error:  # a full disk; it serves all the same, and only a start without a registry misses it
            log.warning("version %d is not kept as the one to start with: %s", version, error)
        log.info("%s version %d decides from now on", self._settings.model, version)
        return True

    def at_version(self, version: int) -> ScoringModel:
        """A version that need not decide now, e.g. to repeat what it once decided.

        Raises ModelUnavailable when the registry does not give it, ModelIncompatible when it cannot be served.
        """
        return self._load(self.folder(version), version)

    def folder(self, version: int) -> Path:
        """Where a version's bundle lies on disk, fetched first if need be.

        Raises ModelUnavailable when the registry does not give it.
        """
        folder = self._folder / str(version)
        if not folder.is_dir():
            try:
                run_id = self._client.get_model_version(self._settings.model, str(version)).run_id
                self._download(run_id, folder)
            except (MlflowException, OSError, RegistryAwayError) as error:
                raise ModelUnavailable(f"{self._settings.model} version {version}: {_first_line(error)}") from None
        return folder

    def versions(self) -> set[int]:
        """Numbers of the versions that are registered. Raises what MLflow raises when it is away."""
        name = self._settings.model
        quote = '"' if "'" in name else "'"
        return {int(v.version) for v in self._client.search_model_versions(f"name={quote}{name}{quote}")}

    def kept_versions(self) -> set[int]:
        """Numbers of the versions whose bundles are on disk."""
        names = [p.name for p in self._folder.iterdir()] if self._folder.is_dir() else []
        return {int(name) for name in names if name.isascii() and name.isdigit()}

    def _champion(self) -> tuple[int, str] | None:
        uri = self._settings.tracking_uri
        if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
            return None  # MLflow would make the store, racing with whoever trains for the first time
        try:
            version = self._client.get_model_version_by_alias(self._settings.model, CHAMPION)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
                return None
            raise RegistryAwayError(_first_line(error)) from error
        except OSError as error:
            raise RegistryAwayError(_first_line(error)) from error
        return int(version.version), version.run_id

    def _download(self, run_id: str, folder: Path) -> None:
        try:
            private_folder(folder.parent)
            narrow_state(self._settings.state_dir)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="download-") as scratch:
                # Where the run keeps it, not `runs:/`: that way MLflow hides what went wrong.
                kept = self._client.get_run(run_id).info.artifact_uri
                found = mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{kept}/bundle", dst_path=scratch, tracking_uri=self._settings.tracking_uri
                )
                os.replace(found, folder)
        except Exception as error:  # every kind of store that MLflow knows has errors of its own, and none may end us
            raise RegistryAwayError(f"the bundle of run {run_id}: {_first_line(error)}") from error

    def _load(self, folder: Path, version: int) -> ScoringModel:
        model = ScoringModel.load(folder, version)
        computed = {f.name for f in self._dataset.features}
        unknown = [name for name in model.manifest.names if name not in computed]
        if model.manifest.dataset != self._dataset.name or unknown:
            raise ModelIncompatible(
                f"version {version} was trained on {model.manifest.dataset!r}, this worker reads "
                f"{self._dataset.name!r}; features it does not compute: {', '.join(unknown) or 'none'}"
            )
        return model

    def _last_served(self) -> int | None:
        try:
            version = decode((self._folder / "champion.json").read_bytes(), Pointer).version
        except (OSError, msgspec.MsgspecError):
            return None
        return version if (self._folder / str(version)).is_dir() else None


class RegistryAwayError(Exception):
    """The registry does not answer, or not with the bundle. Never leaves the worker."""


def _first_line(error: BaseException) -> str:
    return (str(error) or repr(error)).splitlines()[0][:200]


def _write_atomically(path: Path, content: bytes) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_bytes(content)
    os.replace(scratch, path)
