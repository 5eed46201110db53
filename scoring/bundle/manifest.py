"""What a model carries beside its weights.

A bundle is a folder with three files: ``model.ubj`` (XGBoost's own UBJSON), ``manifest.json`` (what scoring needs) and
``baseline.json`` (what watching drift needs besides).
All are data: nothing in a bundle is executed or unpickled.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.errors import ModelIncompatibleError
from schemas.json_codec import decode
from scoring.decision import OperatingPoints

FORMAT = 1
MODEL_FILE = "model.ubj"
MANIFEST_FILE = "manifest.json"
BASELINE_FILE = "baseline.json"
BUNDLE_FILES = (MODEL_FILE, MANIFEST_FILE, BASELINE_FILE)  # the last one may be absent


class FeatureEncoding(msgspec.Struct, frozen=True, kw_only=True):
    """How one column becomes one float32: fitted on the training rows, frozen with the model."""

    name: str
    kind: Annotated[str, Meta(pattern="^(number|boolean|category)$")]
    mean: float = 0.0  # number, boolean: takes the place of a missing one
    levels: tuple[str, ...] = ()  # category: its codes 0 .. n-1; then OTHER = n, MISSING = n+1


class FeatureProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Raw material for the drift reference: how one feature lay in the training rows, the score in rows held out.

    Numbers are counted between `edges` (outermost bins open: n_edges + 1 counts); categories by code, OTHER and MISSING
    among them; `missing` counts the rows whose value was absent before imputation.
    """

    name: str
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...]
    missing: int


class GoldenVector(msgspec.Struct, frozen=True, kw_only=True):
    """A row whose score is known: a bundle that answers otherwise is not served."""

    features: tuple[float, ...]
    score: float


class BaselineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is normal for a model's traffic; `monitoring.drift.baseline` says what each means."""

    layout: str  # digest of the codes it speaks of
    features: tuple[str, ...]
    n_bins: int
    rows: tuple[float, ...]  # one a feature, as are dispersion, tolerance and importance
    dispersion: tuple[float, ...]
    tolerance: tuple[float, ...]
    importance: tuple[float, ...]
    correlation: tuple[tuple[float | None, ...], ...]
    shares: bytes  # little-endian float32, shape (168, n_features, n_bins); base64 on the wire


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the trees."""

    format: int = FORMAT
    model: str
    dataset: str
    features: tuple[FeatureEncoding, ...]  # in the matrix's column order
    points: OperatingPoints
    profile: tuple[FeatureProfile, ...]  # one a feature, then one called "score"
    golden: tuple[GoldenVector, ...]
    rows: int
    base_rate: float  # share of fraud among the training rows
    trained_from_ms: int  # event times of the training rows, both ends included
    trained_until_ms: int
    data_sha256: str
    model_sha256: str  # of model.ubj: XGBoost's parser ends the whole process on a damaged file, so it never sees one
    forced: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names in column order."""
        return tuple(f.name for f in self.features)


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a bundle's folder.

    Raises ModelIncompatibleError when it is absent, malformed or of a newer format.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = decode(path.read_bytes(), Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelIncompatibleError(f"{path}: {error}; train the model again with `tamiz train`") from None
    if manifest.format != FORMAT:
        raise ModelIncompatibleError(
            f"{path}: format {manifest.format}, this Tamiz reads {FORMAT}; train the model again"
        )
    return manifest


def bundle_digest(folder: Path) -> str:
    """SHA-256 of a bundle: of its files' names and contents. Files that are no part of a bundle do not count.

    Raises ModelIncompatibleError when a file cannot be read.
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
    """A bundle's SHA-256. expected: what others say it is, by their name; None: that one does not say.

    Raises ModelIncompatibleError when one of them says something else.
    """
    sha256 = bundle_digest(folder)
    for source, wanted in expected.items():
        if wanted is not None and wanted != sha256:
            raise ModelIncompatibleError(
                f"{folder}: the bundle's SHA-256 is {sha256[:12]}…, {source} says {wanted[:12]}…: it was exchanged or "
                "damaged; put the artifacts back, or promote another version"
            )
    return sha256


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest into a bundle's folder, readable for people."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    (folder / MANIFEST_FILE).write_bytes(text)
