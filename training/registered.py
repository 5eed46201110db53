"""A version from the registry, loaded and checked."""

import tempfile
from pathlib import Path

from monitoring.model import ScoringModel
from schemas.errors import ModelUnavailable
from schemas.settings import Settings
from training import registry


def registered_model(settings: Settings, version: int | None = None) -> ScoringModel:
    """The model of a version, the champion's when none is named.

    Raises ModelUnavailable when there is no such version or no champion, ModelIncompatible when its bundle is damaged.
    """
    if version is None and (version := registry.champion(settings)) is None:
        raise ModelUnavailable(
            f"the model {settings.model!r} has no champion; name one with --version, or train with `tamiz train`"
        )
    with tempfile.TemporaryDirectory(prefix="tamiz-bundle-") as folder:
        return ScoringModel.load(registry.download_bundle(settings, version, Path(folder)), version)
