"""Verifies that a version's bundle in the registry is the one that was registered and evaluated."""

import tempfile
from pathlib import Path

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from scoring.bundle.manifest import bundle_digest, digest_sources
from training.registry import mlflow_registry


class TransitionRefusedError(ModelUnavailableError):
    """A transition is refused: another one came first, or the bundle differs. Nothing has changed."""


def verified_digest(settings: Settings, version: int, logged: str | None, tag: str | None) -> str:
    """SHA-256 of a version's current bundle, checked against the expected one.

    logged: the digest in the version's first log entry; None when there is none, then `tag` counts.
    Raises TransitionRefusedError when the bundle differs, or neither log nor tag has a digest.
    """
    stated = [(source, digest) for source, digest in digest_sources(logged, tag).items() if digest is not None]
    if not stated:
        raise TransitionRefusedError(
            f"{settings.model_name} version {version} cannot change its status: neither the log nor a tag has the "
            "digest of its bundle; train it again with `tamiz train`"
        )
    source, expected = stated[0]
    with tempfile.TemporaryDirectory(prefix="tamiz-bundle-") as scratch:
        sha256 = bundle_digest(mlflow_registry.download_bundle(settings, version, Path(scratch)))
    if sha256 != expected:
        raise TransitionRefusedError(
            f"{settings.model_name} version {version} cannot change its status: its bundle's SHA-256 is "
            f"{sha256[:12]}…, {source} has {expected[:12]}…: it was replaced or damaged; restore the artifacts, or "
            "train it again"
        )
    return sha256
