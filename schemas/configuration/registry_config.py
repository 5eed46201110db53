"""How MLflow lets us in: the settings, checked, and as MLflow's own clients read them from the environment."""

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from schemas.configuration.kafka_config import Secret
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from schemas.configuration.settings import Settings

# MLflow's own names for what is a setting of ours, too.
VARIABLES = {
    "MLFLOW_TRACKING_URI": "mlflow_tracking_uri",
    "MLFLOW_TRACKING_USERNAME": "mlflow_username",
    "MLFLOW_TRACKING_PASSWORD": "mlflow_password",
    "MLFLOW_TRACKING_TOKEN": "mlflow_token",
    "MLFLOW_TRACKING_SERVER_CERT_PATH": "mlflow_cafile",
}


def settle_access(values: dict[str, Any]) -> None:
    """Take user and password out of the server's address, so that nothing that prints the address can show them.

    values: settings by name, converted. Raises ConfigError when they contradict each other.
    """
    uri = values.get("mlflow_tracking_uri") or ""
    remote = uri.startswith(("http://", "https://"))
    if remote and "@" in uri:
        try:
            parts = urlsplit(uri)
            host = parts.netloc.rpartition("@")[2]
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
        except ValueError as error:
            raise ConfigError(f"mlflow_tracking_uri (TAMIZ_MLFLOW_TRACKING_URI) is no address: {error}") from None
        if host != parts.netloc:
            values["mlflow_tracking_uri"] = parts._replace(netloc=host).geturl()
            if "mlflow_username" not in values and "mlflow_token" not in values:
                values["mlflow_username"], values["mlflow_password"] = user, Secret(password)
    if not remote:
        return  # MLflow's variables may be there for something else
    if ("mlflow_username" in values) != ("mlflow_password" in values):
        raise ConfigError("mlflow_username and mlflow_password go together: set both, or mlflow_token alone")
    if "mlflow_token" in values and "mlflow_username" in values:
        raise ConfigError("mlflow_token and mlflow_username are both set: MLflow takes one of them")
    cafile = values.get("mlflow_cafile")
    if cafile is not None and not cafile.is_file():
        raise ConfigError(f"mlflow_cafile = {cafile}: there is no such file")


def lend_to_mlflow(settings: "Settings", environ: MutableMapping[str, str]) -> None:
    """Put the credentials where MLflow's clients look for them, and nothing else of that kind."""
    for variable, name in VARIABLES.items():
        value = getattr(settings, name)
        if name == "mlflow_tracking_uri":  # clients are given it
            continue
        if value is None:
            environ.pop(variable, None)
        else:
            environ[variable] = value.reveal() if isinstance(value, Secret) else str(value)


def named(name: str) -> str:
    """A filter of MLflow for one registered model.

    Raises ConfigError when the name has both kinds of quotes, which no filter of MLflow can hold.

    >>> print(named("o'brien"))
    name = "o'brien"
    """
    if "'" in name and '"' in name:
        raise ConfigError(f"model is {name!r}: MLflow finds no name with both kinds of quotes; use another name")
    quote = '"' if "'" in name else "'"
    return f"name = {quote}{name}{quote}"
