"""Whether a model may be used with a declaration: same data set, all features, each with the meaning of training."""

from collections.abc import Iterable

from schemas.dataset.declaration import Dataset
from schemas.errors import ModelIncompatibleError
from scoring.bundle.feature_definitions import (
    MAX_SHOWN,
    FeatureDefinitions,
    definition_differences,
    feature_definitions,
)
from scoring.bundle.manifest import Manifest


def declaration_mismatch(manifest: Manifest, dataset: Dataset) -> str | None:
    """Why a model cannot be used with a declaration, for people; None if it can."""
    return _mismatch(manifest, dataset.name, [f.name for f in dataset.features], feature_definitions(dataset))


def manifest_mismatch(manifest: Manifest, current: Manifest) -> str | None:
    """As `declaration_mismatch`, with the declaration that another model was trained with."""
    return _mismatch(manifest, current.dataset, current.names, current.definitions)


def check_declaration(manifest: Manifest, dataset: Dataset, version: int) -> None:
    """Raise ModelIncompatibleError, with what differs, if a version cannot be used with a declaration."""
    if (why := declaration_mismatch(manifest, dataset)) is not None:
        raise ModelIncompatibleError(
            f"version {version} does not fit the declaration: {why}; restore the declaration, or train again"
        )


def _mismatch(manifest: Manifest, dataset: str, features: Iterable[str], definitions: FeatureDefinitions) -> str | None:
    if manifest.dataset != dataset:
        return f"it was trained on the data set {manifest.dataset!r}, and the declaration is of {dataset!r}"
    declared = frozenset(features)
    if lacking := [name for name in manifest.names if name not in declared]:
        return f"the declaration of {dataset!r} lacks features of the model: {_first(lacking, ', ')}"
    if differences := definition_differences(manifest.definitions, definitions):
        return f"the declaration of {dataset!r} gives its features another meaning: {_first(differences, '; ')}"
    return None


def _first(texts: list[str], separator: str) -> str:
    more = f" and {len(texts) - MAX_SHOWN} more" if len(texts) > MAX_SHOWN else ""
    return separator.join(texts[:MAX_SHOWN]) + more
