"""The bundle that a version was judged by, held against the one that the registry has now."""

import tempfile
from pathlib import Path

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from scoring.bundle.manifest import bundle_digest
from training.registry import mlflow_registry


class TransitionRefusedError(ModelUnavailableError):
    """The move does not hold: somebody else moved a moment earlier. Nothing has changed by it."""


def verified_digest(settings: Settings, version: int, judged: str | None, tag: str | None) -> str:
    """SHA-256 of the bundle that the registry has for a version now.

    judged: by the version's first entry in the history; without one the tag has to do.
    Raises TransitionRefusedError when it is another bundle, or nothing says which one was judged.
    """
    wanted, source = (judged, "the history of promotions") if judged is not None else (tag, "the version's tag")
    if wanted is None:
        raise TransitionRefusedError(
            f"{settings.model_name} version {version} cannot be moved: neither the history nor a tag says which "
            f"bundle was "
            "judged; train it again with `tamiz train`"
        )
    with tempfile.TemporaryDirectory(prefix="tamiz-bundle-") as scratch:
        sha256 = bundle_digest(mlflow_registry.download_bundle(settings, version, Path(scratch)))
    if sha256 != wanted:
        raise TransitionRefusedError(
            f"{settings.model_name} version {version} cannot be moved: its bundle's SHA-256 is {sha256[:12]}…, "
            f"{source} "
            f"says {wanted[:12]}…: it was exchanged or damaged; put the artifacts back, or train it again"
        )
    return sha256
