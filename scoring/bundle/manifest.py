"""Manifest of a bundle: everything that scoring needs in addition to the trees.

A bundle is a folder with three files: ``model.ubj`` (trees, XGBoost's UBJSON), ``manifest.json`` (encoding, operating
points, golden vectors, profile) and ``baseline.json`` (baseline of drift detection).
All files are data: nothing in a bundle is executed or unpickled.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.errors import ModelIncompatibleError
from schemas.json_codec import decode
from scoring.bundle.feature_definitions import FeatureDefinitions
from scoring.decision import OperatingPoints

FORMAT = 1
MODEL_FILE = "model.ubj"
MANIFEST_FILE = "manifest.json"
BASELINE_FILE = "baseline.json"
BUNDLE_FILES = (MODEL_FILE, MANIFEST_FILE, BASELINE_FILE)  # the last one is optional


class FeatureEncoding(msgspec.Struct, frozen=True, kw_only=True):
    """Encoding of one column as float32, fitted on the training rows."""

    name: str
    kind: Annotated[str, Meta(pattern="^(number|boolean|category)$")]
    mean: float = 0.0  # number, boolean: replaces a missing value
    levels: tuple[str, ...] = ()  # category: levels with codes 0 .. n-1; OTHER = n, MISSING = n+1


class FeatureProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Histogram of one feature over the training rows; of the score, over held-out rows. Reference for drift.

    Numbers are counted between `edges` (outermost bins open: n_edges + 1 counts), categories by code, including OTHER
    and MISSING. `missing` is the number of rows without a value before imputation.
    """

    name: str
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...]
    missing: int


class GoldenVector(msgspec.Struct, frozen=True, kw_only=True):
    """A row with its score from training. A bundle that gives another score is refused."""

    features: tuple[float, ...]
    score: float


class BaselineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Encoded baseline of drift detection; `monitoring.drift.baseline.Baseline` documents the values."""

    layout: str  # digest of the feature bins
    features: tuple[str, ...]
    n_bins: int
    rows: tuple[float, ...]  # one per feature, like dispersion, tolerance and importance
    dispersion: tuple[float, ...]
    tolerance: tuple[float, ...]
    importance: tuple[float, ...]
    correlation: tuple[tuple[float | None, ...], ...]
    shares: bytes  # little-endian float32, shape (168, n_features, n_bins); base64 in JSON


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `manifest.json`."""

    format: int = FORMAT
    model: str
    dataset: str
    features: tuple[FeatureEncoding, ...]  # in the matrix's column order
    points: OperatingPoints
    definitions: FeatureDefinitions = FeatureDefinitions()  # empty: nothing is compared with a declaration
    profile: tuple[FeatureProfile, ...]  # one per feature, then "score", "alert" and "dead-letter"
    golden: tuple[GoldenVector, ...]
    rows: int
    base_rate: float  # share of frauds in the training rows
    trained_from_ms: int  # first and last event time of the training rows
    trained_until_ms: int
    data_sha256: str
    model_sha256: str  # of model.ubj; checked first, because XGBoost's parser can crash the process on a damaged file
    forced: bool = False  # registered by a person although it failed the skill gate

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in column order."""
        return tuple(f.name for f in self.features)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest in a bundle's folder.

    Raises ModelIncompatibleError if it is missing, malformed or of another format version.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = decode(path.read_bytes(), Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelIncompatibleError(f"{path}: {error}; train the model again with `tamiz train`") from None
    if manifest.format != FORMAT:
        raise ModelIncompatibleError(
            f"{path}: format {manifest.format}, but this version of Tamiz reads {FORMAT}; train the model again"
        )
    return manifest


def bundle_digest(folder: Path) -> str:
    """SHA-256 of a bundle, over names and contents of its files. Other files in the folder are ignored.

    Raises ModelIncompatibleError if a file cannot be read.
    """
    digest = hashlib.sha256()
    for name in BUNDLE_FILES:
        try:
            with (folder / name).open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ModelIncompatibleError(f"{folder / name}: {error.strerror}") from None
    return digest.hexdigest()


def check_digest(folder: Path, expected: Mapping[str, str | None]) -> str:
    """Compute a bundle's SHA-256 and compare it with the expected values.

    expected: digest by name of its source; None: the source states none.
    Raises ModelIncompatibleError if a source states another digest.
    """
    sha256 = bundle_digest(folder)
    for source, wanted in expected.items():
        if wanted is not None and wanted != sha256:
            raise ModelIncompatibleError(
                f"{folder}: the bundle's SHA-256 is {sha256[:12]}…, but {source} has {wanted[:12]}…: it was replaced "
                "or damaged; restore the artifacts, or promote another version"
            )
    return sha256


def digest_sources(logged: str | None, tag: str | None) -> dict[str, str | None]:
    """The SHA-256 that a version's bundle must have, by the name of its source, for `check_digest`.

    logged: of the history of promotions. It takes precedence: anybody may have changed the tag.
    """
    return {"the history of promotions": logged, "the version's tag": tag if logged is None else None}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest to a bundle's folder, as indented JSON."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    (folder / MANIFEST_FILE).write_bytes(text)
