"""What serving programs read of an MLflow registry, and a client for its server's REST interface.

MLflow's library takes 50 MB and two seconds to import, so a worker with a registry server does without it. The library
(`mlflow_library.py`) reads local stores, and bundles that the server does not provide itself.

Source: MLflow's REST API, https://mlflow.org/docs/latest/rest-api.html.
"""

import base64
import http.client
import os
import ssl
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from schemas.configuration.registry_config import unreadable_store
from schemas.configuration.settings import Settings
from schemas.errors import ConfigError, ModelIncompatibleError
from schemas.promotion_log import BUNDLE
from schemas.security.sanitizer import without_credentials
from scoring.model import MAX_BYTES

TIMEOUT_S = 10  # of connecting, and of each read
ATTEMPTS = 2  # MLflow's default, retries for minutes, would hide what the worker waits for
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
PAGE_VERSIONS = 10_000
CHUNK_BYTES = 1024 * 1024
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")
# Ways to authenticate that only MLflow's library supports.
LIBRARY_VARIABLES = (
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_WORKSPACE",
)
T = TypeVar("T")


class RegistryUnavailableError(Exception):
    """The registry does not respond, or does not provide the bundle."""


class RegisteredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version as registered in MLflow."""

    version: int
    run_id: str
    tags: dict[str, str]  # as `tamiz.NAME`


class RegistryClient(Protocol):
    """A blocking client. Every method raises RegistryUnavailableError if the registry does not respond."""

    def alias_version(self, model: str, alias: str) -> int | None:
        """The version that an alias of a registered model names; None if there is no such model or alias."""

    def model_tags(self, model: str) -> dict[str, str] | None:
        """Tags of a registered model; None if there is none."""

    def version(self, model: str, version: int) -> RegisteredVersion:
        """A version. Raises RegistryUnavailableError also if it does not exist."""

    def versions(self, model_filter: str) -> list[RegisteredVersion]:
        """Versions of the models that a filter expression selects, in ascending order."""

    def download(self, run_id: str, folder: Path) -> Path:
        """Download a run's bundle into an empty folder; returns the bundle's folder.

        Raises ModelIncompatibleError if a file exceeds its limit, or if the library for the artifact store is missing.
        """


def make_client(settings: Settings) -> RegistryClient:
    """The client for the setting `mlflow_tracking_uri`."""
    is_server = settings.tracking_uri.startswith(("http://", "https://"))
    if is_server and not any(os.environ.get(name) for name in LIBRARY_VARIABLES):
        return RegistryServer(settings)
    return _library(settings)


class RegistryServer:
    """A `RegistryClient` for a server."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError if `mlflow_cafile` cannot be used."""
        self._settings = settings
        self._url = settings.tracking_uri.rstrip("/")
        self._headers = _authorization(settings)
        # Certificates take a megabyte: they are read only where they are needed.
        tls = [urllib.request.HTTPSHandler(context=_tls(settings))] if self._url.startswith("https:") else []
        self._opener = urllib.request.build_opener(_NoRedirects, *tls)

    def alias_version(self, model: str, alias: str) -> int | None:
        """As `RegistryClient.alias_version`."""
        try:
            found = self._get("registered-models/alias", _VersionAnswer, {"name": model, "alias": alias})
        except _AbsentError:
            return None
        return int(found.model_version.version)

    def model_tags(self, model: str) -> dict[str, str] | None:
        """As `RegistryClient.model_tags`."""
        try:
            found = self._get("registered-models/get", _ModelAnswer, {"name": model})
        except _AbsentError:
            return None
        return _tags(found.registered_model.tags)

    def version(self, model: str, version: int) -> RegisteredVersion:
        """As `RegistryClient.version`."""
        found = self._get("model-versions/get", _VersionAnswer, {"name": model, "version": version})
        return found.model_version.registered()

    def versions(self, model_filter: str) -> list[RegisteredVersion]:
        """As `RegistryClient.versions`."""
        query: dict[str, Any] = {
            "filter": model_filter,
            "max_results": PAGE_VERSIONS,
            "order_by": "version_number ASC",
        }
        found: list[RegisteredVersion] = []
        while True:
            page = self._get("model-versions/search", _VersionsAnswer, query)
            found += [each.registered() for each in page.model_versions]
            if not page.next_page_token:
                return found
            query["page_token"] = page.next_page_token

    def download(self, run_id: str, folder: Path) -> Path:
        """As `RegistryClient.download`."""
        artifacts = self._get("runs/get", _RunAnswer, {"run_id": run_id}).run.info.artifact_uri
        root = urlsplit(artifacts)
        if root.scheme != "mlflow-artifacts" or root.netloc:  # kept in a place that the server does not provide
            return _library(self._settings).download(run_id, folder)
        listed = self._get("artifacts/list", _FilesAnswer, {"run_id": run_id, "path": BUNDLE})
        (target := folder / BUNDLE).mkdir()
        for file in listed.files:
            if file.is_dir:
                continue
            check_size(file.path, int(file.file_size), run_id)
            name = Path(file.path).name
            address = f"{self._url}/api/2.0/mlflow-artifacts/artifacts{quote(root.path)}/{BUNDLE}/{quote(name)}"
            size = self._save(address, target / name, MAX_BYTES.get(name, 0))
            check_size(file.path, size, run_id)
        return target

    def _get(self, endpoint: str, answer: type[T], query: dict[str, Any]) -> T:
        body = self._read(f"{self._url}/api/2.0/mlflow/{endpoint}?{urlencode(query)}")
        try:
            return msgspec.json.decode(body, type=answer, strict=False)
        except msgspec.MsgspecError as error:
            raise RegistryUnavailableError(f"{self._url} does not respond as MLflow does ({error})") from None

    def _read(self, url: str) -> bytes:
        with self._open(url) as answer:
            body: bytes = _guarded(url, answer.read, MAX_ANSWER_BYTES + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise RegistryUnavailableError(f"{self._url} responds with more than {MAX_ANSWER_BYTES} bytes")
        return body

    def _save(self, url: str, path: Path, max_bytes: int) -> int:
        """Write the answer to a file, at most one chunk more than `max_bytes` of it. Returns the bytes written."""
        size = 0
        with self._open(url) as answer, path.open("wb") as file:
            while size <= max_bytes and (chunk := _guarded(url, answer.read, CHUNK_BYTES)):
                size += file.write(chunk)
        return size

    def _open(self, url: str) -> Any:
        for left in reversed(range(ATTEMPTS)):
            try:
                return _guarded(
                    url, self._opener.open, urllib.request.Request(url, headers=self._headers), None, TIMEOUT_S
                )
            except _TransientError as error:
                if not left:
                    raise RegistryUnavailableError(str(error)) from None
        raise AssertionError


class _TransientError(RegistryUnavailableError):
    pass


class _AbsentError(RegistryUnavailableError):
    pass


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Credentials must not follow a redirect to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _guarded(url: str, call: Any, *args: Any) -> Any:
    """Call, with errors of HTTP as RegistryUnavailableError."""
    place = without_credentials(url.partition("?")[0])
    try:
        return call(*args)
    except urllib.error.HTTPError as error:
        raise _http_error(place, error) from None
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _TransientError(f"{place}: {reason}") from None


def _http_error(place: str, error: urllib.error.HTTPError) -> RegistryUnavailableError:
    with error:
        try:
            body = error.read(MAX_ERROR_BYTES)
        except (OSError, http.client.HTTPException):
            body = b""
    try:
        fault = msgspec.json.decode(body, type=_FaultAnswer, strict=False)
    except msgspec.MsgspecError:
        fault = _FaultAnswer(message=body.decode(errors="replace")[:100])
    if error.code < HTTPStatus.INTERNAL_SERVER_ERROR and fault.error_code in ABSENT:
        return _AbsentError(fault.message)
    if HTTPStatus.MULTIPLE_CHOICES <= error.code < HTTPStatus.BAD_REQUEST:
        return RegistryUnavailableError(f"{place} redirects; set TAMIZ_MLFLOW_TRACKING_URI to the server's own address")
    kind = _TransientError if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR else RegistryUnavailableError
    return kind(f"{place}: HTTP {error.code}: {fault.error_code} {fault.message}".rstrip())


def check_size(path: str, size: int, run_id: str) -> None:
    """Raise ModelIncompatibleError if a file of a bundle exceeds the limit of its name."""
    max_bytes = MAX_BYTES.get(Path(path).name, 0)
    if size > max_bytes:
        raise ModelIncompatibleError(f"{path} of run {run_id} has {size} bytes, at most {max_bytes} are allowed")


def check_store(artifact_uri: str) -> None:
    """Raise ModelIncompatibleError if the library that reads artifacts at an address is missing."""
    if missing := unreadable_store(artifact_uri):
        raise ModelIncompatibleError(missing)


def first_line(error: BaseException) -> str:
    """The first line of an error, shortened for the log."""
    return without_credentials((str(error) or repr(error)).splitlines()[0])[:200]


def _library(settings: Settings) -> RegistryClient:
    from stream_app.registry.mlflow_library import MlflowLibrary

    return MlflowLibrary(settings)


def _authorization(settings: Settings) -> dict[str, str]:
    if settings.mlflow_username is not None and settings.mlflow_password is not None:
        pair = f"{settings.mlflow_username}:{settings.mlflow_password.reveal()}".encode()
        return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
    if settings.mlflow_token is not None:
        return {"Authorization": f"Bearer {settings.mlflow_token.reveal()}"}
    return {}


def _tls(settings: Settings) -> ssl.SSLContext:
    cafile = settings.mlflow_cafile
    try:
        return ssl.create_default_context(cafile=None if cafile is None else str(cafile))
    except OSError as error:
        raise ConfigError(f"mlflow_cafile = {cafile}: cannot be used: {error}") from None


# The parts of MLflow's answers that are used.


class _Tag(msgspec.Struct):
    key: str
    value: str = ""


def _tags(tags: list[_Tag]) -> dict[str, str]:
    return {tag.key: tag.value for tag in tags}


class _ModelVersion(msgspec.Struct):
    version: int
    run_id: str = ""
    tags: list[_Tag] = []

    def registered(self) -> RegisteredVersion:
        return RegisteredVersion(version=self.version, run_id=self.run_id, tags=_tags(self.tags))


class _VersionAnswer(msgspec.Struct):
    model_version: _ModelVersion


class _VersionsAnswer(msgspec.Struct):
    model_versions: list[_ModelVersion] = []
    next_page_token: str = ""


class _Model(msgspec.Struct):
    tags: list[_Tag] = []


class _ModelAnswer(msgspec.Struct):
    registered_model: _Model


class _RunInfo(msgspec.Struct):
    artifact_uri: str


class _Run(msgspec.Struct):
    info: _RunInfo


class _RunAnswer(msgspec.Struct):
    run: _Run


class _File(msgspec.Struct):
    path: str
    is_dir: bool = False
    file_size: int = 0


class _FilesAnswer(msgspec.Struct):
    files: list[_File] = []


class _FaultAnswer(msgspec.Struct):
    error_code: str = ""
    message: str = ""
