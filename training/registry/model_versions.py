"""Versions and aliases of a registered model in MLflow."""

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException as MlflowException  # re-exported for `training.registry.transition_log`

from schemas.configuration.registry_config import model_filter


def version_of_alias(client: MlflowClient, model: str, alias: str) -> int | None:
    """The version that an alias points to, or None."""
    try:
        return int(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        # MLflow answers "invalid parameter" when an existing model does not have the alias.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def all_versions(client: MlflowClient, model: str) -> list[tuple[int, int, dict[str, str]]]:
    """Number, time of registration (ms) and tags of every version, by number."""
    found, token = [], None
    while True:
        page = client.search_model_versions(model_filter(model), page_token=token, order_by=["version_number ASC"])
        found += [(int(v.version), int(v.creation_timestamp), dict(v.tags)) for v in page]
        if not (token := page.token):
            return found


def ensure_registered_model(client: MlflowClient, name: str, description: str | None = None) -> None:
    """Create a registered model unless it exists."""
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
