"""Loads a version from the registry, after checking its bundle's digest."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.drift.reference import DriftReference, load_reference
from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from scoring.bundle.manifest import check_digest, digest_sources
from scoring.model import check_sizes
from training.registry import mlflow_registry, version_transitions


def registered_model(settings: Settings, version: int | None = None) -> MonitoredModel:
    """The model of a version; of the champion when `version` is None.

    Raises ModelUnavailableError when there is no such version or no champion, or the registry cannot be reached;
    ModelIncompatibleError when the bundle is damaged.
    """
    with verified_bundle(settings, version) as (folder, number):
        return MonitoredModel.load(folder, number, trial_cache(settings))


def registered_reference(settings: Settings, version: int | None = None) -> tuple[MonitoredModel, DriftReference]:
    """The model of a version and its drift baseline.

    Raises as `registered_model` does, and ModelIncompatibleError when the bundle has no baseline.
    """
    with verified_bundle(settings, version) as (folder, number):
        return MonitoredModel.load(folder, number, trial_cache(settings)), load_reference(folder)


@contextmanager
def verified_bundle(settings: Settings, version: int | None = None) -> Iterator[tuple[Path, int]]:
    """Download a version's bundle to a temporary folder and check its digest; gives folder and version.

    Raises as `registered_model` does.
    """
    now = version_transitions.log_state(settings)
    if version is None and (version := version_transitions.champion(settings)) is None:
        raise ModelUnavailableError(
            f"the model {settings.model_name!r} has no champion; choose one with --version (`tamiz models list`), "
            "train one with `tamiz train` that passes the skill gate, or promote one with `tamiz models promote`"
        )
    logged = now.digests.get(version)
    with tempfile.TemporaryDirectory(prefix="tamiz-bundle-") as scratch:
        folder = mlflow_registry.download_bundle(settings, version, Path(scratch))
        check_sizes(folder)
        tag = None
        if logged is None:
            tag = mlflow_registry.version_tags(settings, version).get("bundle_sha256")
        check_digest(folder, digest_sources(logged, tag))
        yield folder, version


def trial_cache(settings: Settings) -> Path:
    """The folder that records which models have passed a trial load in a child process; shared with the workers."""
    return settings.state_dir / "models" / "passed"
