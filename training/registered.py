"""A version from the registry, loaded and checked."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.model import ScoringModel, check_sizes
from monitoring.reference import Reference, load_reference
from schemas.errors import ModelUnavailable
from schemas.manifest import check_digest
from schemas.settings import Settings
from training import moves, registry


def registered_model(settings: Settings, version: int | None = None) -> ScoringModel:
    """The model of a version, the champion's when none is named.

    Raises ModelUnavailable when there is no such version or no champion, ModelIncompatible when its bundle is damaged.
    """
    with checked_bundle(settings, version) as (folder, number):
        return ScoringModel.load(folder, number, passed(settings))


def registered_reference(settings: Settings, version: int | None = None) -> tuple[ScoringModel, Reference]:
    """The same with what its traffic is held against.

    Raises as `registered_model` does, and ModelIncompatible when the bundle holds no reference.
    """
    with checked_bundle(settings, version) as (folder, number):
        return ScoringModel.load(folder, number, passed(settings)), load_reference(folder)


@contextmanager
def checked_bundle(settings: Settings, version: int | None = None) -> Iterator[tuple[Path, int]]:
    """A version's bundle, whose digest is the one of the history, in a folder for the time being; and the version.

    Raises as `registered_model` does.
    """
    now = moves.standing(settings)
    if version is None and (version := moves.champion(settings)) is None:
        raise ModelUnavailable(
            f"the model {settings.model!r} has no champion; name one with --version, or train with `tamiz train`"
        )
    judged = now.digests.get(version)
    with tempfile.TemporaryDirectory(prefix="tamiz-bundle-") as scratch:
        folder = registry.download_bundle(settings, version, Path(scratch))
        check_sizes(folder)
        if judged is not None:  # the history counts; a tag is what somebody may have set meanwhile
            check_digest(folder, {"the history of promotions": judged})
        else:
            check_digest(folder, {"the version's tag": registry.version_tags(settings, version).get("bundle_sha256")})
        yield folder, version


def passed(settings: Settings) -> Path:
    """Where trees that a child process could load are remembered, as workers do."""
    return settings.state_dir / "models" / "passed"
