"""A version from the registry, loaded and checked."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.drift.reference import DriftReference, load_reference
from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from scoring.bundle.manifest import check_digest
from scoring.model import check_sizes
from training.registry import mlflow_registry, version_transitions


def registered_model(settings: Settings, version: int | None = None) -> MonitoredModel:
    """The model of a version, the champion's when none is named.

    Raises ModelUnavailableError when there is no such version or no champion, ModelIncompatibleError when its bundle is
    damaged.
    """
    with checked_bundle(settings, version) as (folder, number):
        return MonitoredModel.load(folder, number, passed(settings))


def registered_reference(settings: Settings, version: int | None = None) -> tuple[MonitoredModel, DriftReference]:
    """The same with what its traffic is held against.

    Raises as `registered_model` does, and ModelIncompatibleError when the bundle holds no reference.
    """
    with checked_bundle(settings, version) as (folder, number):
        return MonitoredModel.load(folder, number, passed(settings)), load_reference(folder)


@contextmanager
def checked_bundle(settings: Settings, version: int | None = None) -> Iterator[tuple[Path, int]]:
    """A version's bundle, whose digest is the one of the history, in a folder for the time being; and the version.

    Raises as `registered_model` does.
    """
    now = version_transitions.version_status(settings)
    if version is None and (version := version_transitions.champion(settings)) is None:
        raise ModelUnavailableError(
            f"the model {settings.model_name!r} has no champion; name one with --version, or train with `tamiz train`"
        )
    judged = now.digests.get(version)
    with tempfile.TemporaryDirectory(prefix="tamiz-bundle-") as scratch:
        folder = mlflow_registry.download_bundle(settings, version, Path(scratch))
        check_sizes(folder)
        if judged is not None:  # the history counts; a tag is what somebody may have set meanwhile
            check_digest(folder, {"the history of promotions": judged})
        else:
            check_digest(
                folder, {"the version's tag": mlflow_registry.version_tags(settings, version).get("bundle_sha256")}
            )
        yield folder, version


def passed(settings: Settings) -> Path:
    """Where trees that a child process could load are remembered, as workers do."""
    return settings.state_dir / "models" / "passed"
