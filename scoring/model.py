"""A loaded model version: the trees and their manifest."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import xgboost as xgb

from schemas.errors import ModelIncompatibleError
from scoring.arrays import Floats, Matrix
from scoring.bundle.bundle_trial import try_trees
from scoring.bundle.bundle_validation import check_manifest, check_trees
from scoring.bundle.manifest import BASELINE_FILE, MANIFEST_FILE, MODEL_FILE, FeatureEncoding, Manifest, read_manifest
from scoring.bundle.ubjson import read_ubjson

if TYPE_CHECKING:
    from scoring.trees import TreeArrays

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_BYTES = {MANIFEST_FILE: 64 * 1024 * 1024, MODEL_FILE: MAX_FILE_BYTES, BASELINE_FILE: 64 * 1024 * 1024}
GOLDEN_TOLERANCE = 1e-6


def feature_types(encoding: Sequence[FeatureEncoding]) -> list[str]:
    """XGBoost's feature types of the columns: "q" for quantities, "c" for category codes."""
    return ["c" if f.kind == "category" else "q" for f in encoding]


class ScoringModel:
    """One model version. Immutable except for XGBoost's caches; use it from one thread at a time.

    A compiled walk over the trees computes scores. XGBoost computes contributions.
    """

    def __init__(self, booster: xgb.Booster, manifest: Manifest, version: int) -> None:
        self._booster = booster
        self._trees = _read_trees(booster, len(manifest.features))
        self.manifest = manifest
        self.version = version

    @classmethod
    def load(cls, folder: Path, version: int, passed: Path | None = None) -> Self:
        """Load the bundle in a folder and check it against its manifest; load it in a child process first.

        version: the model version; a bundle does not contain it, because it is created before registration.
        passed: folder that records which trees a child process could load.
        Raises ModelIncompatibleError if a file is missing, damaged or too large, if its content is implausible, if
        trees and manifest have different features, if a golden vector gets another score, or if loading crashes.
        """
        check_sizes(folder)
        manifest = read_manifest(folder)
        check_manifest(manifest)
        path = folder / MODEL_FILE
        content = path.read_bytes()
        if (digest := hashlib.sha256(content).hexdigest()) != manifest.model_sha256:
            raise ModelIncompatibleError(
                f"{path}: damaged, its SHA-256 is {digest[:12]}… and not {manifest.model_sha256[:12]}…; fetch it again"
            )
        try_trees(folder, digest, passed)
        booster = xgb.Booster({"nthread": 1})  # more threads slow small batches
        try:
            booster.load_model(bytearray(content))
        except (xgb.core.XGBoostError, ValueError) as error:
            raise ModelIncompatibleError(f"{path}: XGBoost cannot read it: {str(error).splitlines()[0]}") from None
        _check_features(booster, manifest)
        model = cls(booster, manifest, version)
        model._check_golden()
        return model

    @property
    def encoding(self) -> tuple[FeatureEncoding, ...]:
        """Encoding of each column of the matrix."""
        return self.manifest.features

    def score(self, matrix: Matrix) -> Floats:
        """Probability of fraud of each row, shape (n,). matrix: from `featurize`, float32 of shape (n, n_features)."""
        from scoring.trees import score_rows

        return score_rows(self._trees, np.ascontiguousarray(matrix, dtype=np.float32))

    def contributions(self, matrix: Matrix) -> Matrix:
        """Contribution of each input to the margin, in log-odds, the bias last, shape (n, n_features + 1).

        The contributions of a row sum to its margin.

        Source: exact TreeSHAP; Lundberg et al. (2020), From local explanations to global understanding with explainable
        AI for trees.
        """
        if not len(matrix):
            return np.empty((0, len(self.manifest.features) + 1), np.float32)
        # The trees say which splits are by category. Names and types of the columns would only cost time.
        rows = xgb.DMatrix(matrix, nthread=1)
        found = self._booster.predict(rows, pred_contribs=True, validate_features=False)
        return np.asarray(found, dtype=np.float32)

    def _check_golden(self) -> None:
        golden = self.manifest.golden
        if not golden:
            raise ModelIncompatibleError("the manifest has no golden vectors; train the model again")
        if any(len(g.features) != len(self.manifest.names) for g in golden):
            raise ModelIncompatibleError(
                f"a golden vector does not have the {len(self.manifest.names)} features of the manifest; train again"
            )
        matrix = np.array([g.features for g in golden], dtype=np.float32)
        scores = self.score(matrix)
        # The negated comparison also fails NaN, for which every comparison is false.
        wrong = np.flatnonzero(~(np.abs(scores - [g.score for g in golden]) <= GOLDEN_TOLERANCE))
        if len(wrong):
            i = int(wrong[0])
            raise ModelIncompatibleError(
                f"golden vector {i} scores {scores[i]:.9g} here and scored {golden[i].score:.9g} in training "
                f"({len(wrong)} of {len(golden)} differ); is this XGBoost {xgb.__version__} the one that trained it?"
            )

        predicted = self._booster.inplace_predict(matrix, validate_features=False)
        if not np.array_equal(scores, predicted):
            i = int(np.flatnonzero(scores != predicted)[0])
            raise ModelIncompatibleError(
                f"golden vector {i} scores {scores[i]:.9g} in the compiled trees and {predicted[i]:.9g} in XGBoost "
                f"{xgb.__version__}; install the version of XGBoost that Tamiz pins"
            )


def _check_features(booster: xgb.Booster, manifest: Manifest) -> None:
    names, types = list(manifest.names), feature_types(manifest.features)
    found = booster.num_features(), booster.feature_names, booster.feature_types
    if found != (len(names), names, types):
        raise ModelIncompatibleError(
            f"the trees have {found[0]} features {_pairs(found[1], found[2])}, "
            f"the manifest has {len(names)} {_pairs(names, types)}; train the model again"
        )


def _read_trees(booster: xgb.Booster, n_features: int) -> "TreeArrays":
    from scoring.trees import read_trees  # imports Numba, after a worker has set where Numba keeps its cache

    try:
        learner = read_ubjson(bytes(booster.save_raw("ubj")))["learner"]
        check_trees(learner, n_features)
        return read_trees(learner)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ModelIncompatibleError(
            f"the trees do not have the structure of XGBoost's UBJSON: {error!r}; train the model again"
        ) from None


def check_sizes(folder: Path) -> None:
    """Raise ModelIncompatibleError if a file of a bundle is missing or too large."""
    for name, most in MAX_BYTES.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as error:
            if name == BASELINE_FILE:  # scoring does not need it
                continue
            raise ModelIncompatibleError(
                f"{path}: {error.strerror}; a bundle consists of {MODEL_FILE} and {MANIFEST_FILE}"
            ) from None
        if size > most:
            raise ModelIncompatibleError(f"{path}: {size} bytes; {name} may have at most {most}")


def _pairs(names: Sequence[str] | None, types: Sequence[str] | None) -> str:
    return ", ".join(f"{n}:{t}" for n, t in zip(names or (), types or (), strict=False))
