"""The MLflow registry: its local store, checks of its credentials, and MLflow's own environment variables."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from schemas.configuration.kafka_config import Secret
from schemas.errors import ConfigError
from schemas.extras import missing_extra

if TYPE_CHECKING:
    from schemas.configuration.settings import Settings

# Environment variables of MLflow, and the settings that have the same meaning.
VARIABLES = {
    "MLFLOW_TRACKING_URI": "mlflow_tracking_uri",
    "MLFLOW_TRACKING_USERNAME": "mlflow_username",
    "MLFLOW_TRACKING_PASSWORD": "mlflow_password",
    "MLFLOW_TRACKING_TOKEN": "mlflow_token",
    "MLFLOW_TRACKING_SERVER_CERT_PATH": "mlflow_cafile",
}
SQLITE_PREFIX = "sqlite:///"


class LocalStore(NamedTuple):
    """A registry in a SQLite file of this machine."""

    database: Path
    lock: Path  # held while the tables are created: the database file appears before them


def local_store(tracking_uri: str) -> LocalStore | None:
    """The local store at a tracking URI; None for a server.

    >>> local_store("sqlite:////var/tamiz/mlflow.db").lock.name
    'mlflow.lock'
    """
    if not tracking_uri.startswith(SQLITE_PREFIX):
        return None
    database = Path(tracking_uri.removeprefix(SQLITE_PREFIX))
    return LocalStore(database, database.with_suffix(".lock"))


def resolve_credentials(values: dict[str, Any]) -> None:
    """Move user and password from the server's URL to their settings, so that printing the URL shows neither.

    values: converted settings by name; changed in place. Raises ConfigError if the settings contradict each other.
    """
    uri = values.get("mlflow_tracking_uri") or ""
    remote = uri.startswith(("http://", "https://"))
    if remote and "@" in uri:
        try:
            parts = urlsplit(uri)
            host = parts.netloc.rpartition("@")[2]
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
        except ValueError as error:
            raise ConfigError(f"mlflow_tracking_uri (TAMIZ_MLFLOW_TRACKING_URI) is not a URL: {error}") from None
        if host != parts.netloc:
            values["mlflow_tracking_uri"] = parts._replace(netloc=host).geturl()
            if "mlflow_username" not in values and "mlflow_token" not in values:
                values["mlflow_username"], values["mlflow_password"] = user, Secret(password)
    if not remote:
        return  # MLflow's variables may be set for another program
    if ("mlflow_username" in values) != ("mlflow_password" in values):
        raise ConfigError("mlflow_username and mlflow_password go together: set both, or mlflow_token alone")
    if "mlflow_token" in values and "mlflow_username" in values:
        raise ConfigError("mlflow_token and mlflow_username are both set: MLflow accepts one of them; unset the other")
    cafile = values.get("mlflow_cafile")
    if cafile is not None and not cafile.is_file():
        raise ConfigError(f"mlflow_cafile = {cafile}: no such file; set the path of a PEM file")


def export_credentials(settings: "Settings", environ: MutableMapping[str, str]) -> None:
    """Set MLflow's environment variables from the settings; unset those without a value."""
    for variable, name in VARIABLES.items():
        value = getattr(settings, name)
        if name == "mlflow_tracking_uri":  # clients receive it as an argument
            continue
        if value is None:
            environ.pop(variable, None)
        else:
            environ[variable] = value.reveal() if isinstance(value, Secret) else str(value)


def unreadable_store(artifact_uri: str) -> str | None:
    """Message that names the library missing to read or write artifacts at an address, or None."""
    return missing_extra("s3", needed_by=f"the store {artifact_uri}") if artifact_uri.startswith("s3:") else None


def model_filter(name: str) -> str:
    """MLflow filter expression that selects one registered model by its name.

    Raises ConfigError if the name has both kinds of quotes, which MLflow's filters cannot express.

    >>> print(model_filter("o'brien"))
    name = "o'brien"
    """
    if "'" in name and '"' in name:
        raise ConfigError(
            f"model_name is {name!r}: MLflow cannot search for a name with both kinds of quotes; use another name"
        )
    quote = '"' if "'" in name else "'"
    return f"name = {quote}{name}{quote}"
