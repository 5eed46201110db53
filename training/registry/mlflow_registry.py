"""Access to MLflow: runs, artifacts, model versions and the aliases `champion` and `challenger`.

The artifacts of a version's run:

* ``bundle/`` holds ``model.ubj``, ``manifest.json`` and ``baseline.json``. The tracking URI and an alias are enough to
  find it: alias -> version -> run id -> ``runs:/RUN_ID/bundle``, on a local folder and on a server that proxies
  artifacts alike;
* ``evaluation/`` holds metrics.json, operating_points.json and the figures;
* ``model/``, the version's source, is an MLflow model of the xgboost flavour (the same trees, no pickle) with signature
  and input example, for generic tools. Its input is the matrix of `scoring.features.featurize`.

`training.registry.version_transitions` changes the status of versions, through `mlflow_client`.
"""

import logging
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

import mlflow.environment_variables as mlflow_env
import numpy as np
import xgboost as xgb
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException as MlflowException  # re-exported for users of `mlflow_client`
from mlflow.telemetry import set_telemetry_client

from schemas.configuration.registry_config import export_credentials, local_store, unreadable_store
from schemas.configuration.settings import Settings
from schemas.errors import ConfigError, ModelUnavailableError
from schemas.files.private_files import narrow_state, private_folder
from schemas.promotion_log import BUNDLE, CHAMPION, Registration
from schemas.security.actor import os_actor
from schemas.security.sanitizer import without_credentials
from scoring.bundle.manifest import MODEL_FILE, Manifest, bundle_digest, read_manifest
from training.registry import transition_log
from training.registry.model_versions import ensure_registered_model, version_of_alias

CHALLENGER = "challenger"
EVALUATION = "evaluation"
GENERIC_MODEL = "model"
REPORT = "report.pdf"  # at the root of a run's artifacts
TAG = "tamiz."


def register(
    settings: Settings,
    bundle: Path,
    *,
    report: Path,
    metrics: Mapping[str, float],
    params: Mapping[str, object],
    tags: Mapping[str, str],
) -> int:
    """Log a run with the bundle and register it as the model's next version; returns the version's number.

    The bundle's digest is appended to the transition log; later transitions of the version need the same bundle.
    bundle: folder with model.ubj and manifest.json, already checked. report: folder with metrics and figures, logged
    as `evaluation/`. tags: set on run and version as `tamiz.NAME`, together with the bundle's digest.
    Raises ModelUnavailableError when the registry cannot be reached or refuses the request.
    """
    manifest = read_manifest(bundle)
    sha256 = bundle_digest(bundle)
    all_tags = {TAG + name: value for name, value in {**tags, "bundle_sha256": sha256}.items()}
    with mlflow_client(settings) as client:
        run = client.create_run(_experiment(client, settings), tags=all_tags)
        run_id = run.info.run_id
        try:
            client.log_batch(
                run_id,
                metrics=[Metric(name, value, int(time() * 1000), 0) for name, value in metrics.items()],
                params=[Param(name, str(value)) for name, value in params.items()],
                tags=[RunTag("mlflow.source.name", "tamiz train"), RunTag("mlflow.user", os_actor())],
            )
            client.log_artifacts(run_id, str(bundle), BUNDLE)
            client.log_artifacts(run_id, str(report), EVALUATION)
            with tempfile.TemporaryDirectory() as scratch:
                generic = Path(scratch) / GENERIC_MODEL
                _save_generic_model(generic, bundle / MODEL_FILE, manifest)
                client.log_artifacts(run_id, str(generic), GENERIC_MODEL)
            ensure_registered_model(client, settings.model_name)
            version = client.create_model_version(
                settings.model_name, source=f"{run.info.artifact_uri}/{GENERIC_MODEL}", run_id=run_id, tags=all_tags
            )
            registered = Registration(version=int(version.version), bundle_sha256=sha256)
            transition_log.append(client, settings.model_name, registration=registered)
        except BaseException:
            client.set_terminated(run_id, status="FAILED")
            raise
        client.set_terminated(run_id)
    return int(version.version)


def champion(settings: Settings) -> int | None:
    """The version with the alias `champion`, or None."""
    with mlflow_client(settings) as client:
        return version_of_alias(client, settings.model_name, CHAMPION)


def challenger(settings: Settings) -> int | None:
    """The version with the alias `challenger`, or None."""
    with mlflow_client(settings) as client:
        return version_of_alias(client, settings.model_name, CHALLENGER)


def log_artifact(settings: Settings, version: int, path: Path) -> None:
    """Log a file to a version's run, at the root of its artifacts.

    Raises ModelUnavailableError when there is no such version, or the registry cannot be reached.
    """
    with mlflow_client(settings) as client:
        client.log_artifact(client.get_model_version(settings.model_name, str(version)).run_id, str(path))


def run_id_of(settings: Settings, version: int) -> str:
    """The id of a version's run.

    Raises ModelUnavailableError when there is no such version, or the registry cannot be reached.
    """
    with mlflow_client(settings) as client:
        return str(client.get_model_version(settings.model_name, str(version)).run_id)


def version_tags(settings: Settings, version: int) -> dict[str, str]:
    """Tamiz's tags of a version, without the prefix `tamiz.`.

    Raises ModelUnavailableError when there is no such version, or the registry cannot be reached.
    """
    with mlflow_client(settings) as client:
        tags = client.get_model_version(settings.model_name, str(version)).tags
    return {name.removeprefix(TAG): value for name, value in tags.items() if name.startswith(TAG)}


def read_artifact(settings: Settings, run_id: str, name: str) -> bytes:
    """The content of a run's artifact.

    Raises ModelUnavailableError when there is no such run or file, or the registry cannot be reached.
    """
    with mlflow_client(settings) as client, tempfile.TemporaryDirectory() as scratch:
        return _download(client, settings, run_id, name, Path(scratch)).read_bytes()


def download_bundle(settings: Settings, version: int, folder: Path) -> Path:
    """Download a version's bundle into a folder, created if missing; returns the folder that holds the files.

    Raises ModelUnavailableError when there is no such version, or the registry cannot be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with mlflow_client(settings) as client:
        run_id = client.get_model_version(settings.model_name, str(version)).run_id
        return _download(client, settings, run_id, BUNDLE, folder)


def _download(client: MlflowClient, settings: Settings, run_id: str, name: str, folder: Path) -> Path:
    # By the run's artifact URI, not `runs:/`, because MLflow hides the cause of errors there.
    uri = f"{client.get_run(run_id).info.artifact_uri}/{name}"
    if missing := unreadable_store(uri):
        raise ModelUnavailableError(missing)
    return Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=settings.tracking_uri))


def ensure_reachable(settings: Settings) -> None:
    """Create the local store if it is missing, or contact the server.

    Raises ModelUnavailableError when the registry cannot be reached.
    """
    with mlflow_client(settings) as client:
        _experiment(client, settings)


def ui_command(settings: Settings) -> str:
    """How to open the MLflow UI: a command for the local store, or the server's address.

    >>> ui_command(Settings(mlflow_tracking_uri="http://registry:5000"))
    'http://registry:5000'
    """
    uri = settings.tracking_uri
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(without_credentials(uri))}"


@contextmanager
def mlflow_client(settings: Settings) -> Iterator[MlflowClient]:
    """An MLflow client. Errors of MLflow and its stores become a ModelUnavailableError of one line."""
    uri = settings.tracking_uri
    export_credentials(settings, os.environ)
    _configure_mlflow()
    try:
        yield _mlflow_client(uri, settings.state_dir)
    except _store_errors() as error:
        first = without_credentials((str(error) or repr(error)).splitlines()[0])[:500]
        raise ModelUnavailableError(
            without_credentials(
                f"the registry {uri}: {first}; check TAMIZ_MLFLOW_TRACKING_URI (MLFLOW_TRACKING_URI), its credentials "
                "(TAMIZ_MLFLOW_USERNAME, TAMIZ_MLFLOW_TOKEN, TAMIZ_MLFLOW_CAFILE), and the server"
            )
        ) from error


def _store_errors() -> tuple[type[Exception], ...]:
    """Exceptions of MLflow's client, and of its S3 client (extra `s3`), which MLflow does not wrap, if it is in use."""
    if sys.modules.get("boto3") is None:
        return (MlflowException, OSError)
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return (MlflowException, OSError, BotoCoreError, ClientError, Boto3Error)


def _mlflow_client(uri: str, state_dir: Path) -> MlflowClient:
    if (store := local_store(uri)) is None:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    folder = store.database.parent
    private_folder(folder)
    # A new store is created and migrated by the first request; concurrent migrations would break each other.
    with FileLock(store.lock):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
    if folder.resolve() == state_dir.resolve():  # do not change the permissions of other folders
        narrow_state(state_dir)
    return client


def _configure_mlflow() -> None:
    """Disable MLflow's telemetry, progress bars and info logs, and limit its retries and timeouts."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow_env.MLFLOW_DISABLE_TELEMETRY.set(True)
    set_telemetry_client()
    mlflow_env.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    mlflow_env.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # stdout is reserved for the output of commands
    for variable, value in (
        (mlflow_env.MLFLOW_HTTP_REQUEST_MAX_RETRIES, 2),
        (mlflow_env.MLFLOW_HTTP_REQUEST_TIMEOUT, 30),
    ):
        if not variable.is_set():
            variable.set(value)


def _experiment(client: MlflowClient, settings: Settings) -> str:
    """The id of the experiment with the model's name, created if missing.

    Raises ConfigError when its artifact location differs from `artifact_root`: MLflow cannot move artifacts.
    """
    root = None if settings.artifact_root is None else settings.artifact_root.rstrip("/")
    if (found := client.get_experiment_by_name(settings.model_name)) is not None:
        if root is not None and found.artifact_location.rstrip("/") != root:
            raise ConfigError(
                f"artifact_root is {root}, but the registry {settings.registry_name} keeps the artifacts of "
                f"{settings.model_name!r} in {found.artifact_location}: set artifact_root to that, or use another "
                "model_name"
            )
        if missing := unreadable_store(found.artifact_location):
            raise ConfigError(missing)
        return str(found.experiment_id)
    # A server has its own default; with SQLite, MLflow's default is the working directory.
    if root is None and local_store(settings.tracking_uri) is not None:
        root = (settings.state_dir.resolve() / "artifacts").as_uri()
    if missing := unreadable_store(root or ""):
        raise ConfigError(missing)
    try:
        return str(client.create_experiment(settings.model_name, artifact_location=root))
    except MlflowException as error:
        found = client.get_experiment_by_name(settings.model_name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
            raise
        return str(found.experiment_id)  # another process has created it meanwhile


def _save_generic_model(folder: Path, trees: Path, manifest: Manifest) -> None:
    import mlflow.xgboost  # imported here: these take 100 MB that only trainings need
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    golden = np.array([g.features for g in manifest.golden], dtype=np.float32)
    example: Any = pd.DataFrame(golden, columns=list(manifest.names))
    with warnings.catch_warnings():
        # Caused by MLflow itself: type hints of its chat model classes, and its comparison of column names.
        warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
        warnings.filterwarnings("ignore", message="Operation with range is deprecated", category=DeprecationWarning)
        mlflow.xgboost.save_model(
            xgb.Booster(model_file=trees),
            folder,
            signature=ModelSignature(
                inputs=Schema([ColSpec(DataType.float, name) for name in manifest.names]),
                outputs=Schema([TensorSpec(np.dtype(np.float32), (-1,))]),
            ),
            input_example=example,
            model_format="ubj",
            # Set explicitly; otherwise MLflow starts a process that loads the model to infer its requirements.
            pip_requirements=[f"xgboost=={xgb.__version__}"],
        )
