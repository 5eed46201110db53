"""Columns -> the matrix that is trained on and scored: float32, in a fixed order. The same code in both places."""

from collections.abc import Sequence

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.errors import ModelIncompatibleError
from scoring.arrays import Columns, Floats, Matrix, Objects
from scoring.bundle.manifest import FeatureEncoding

OTHER, MISSING = "OTHER", "MISSING"  # levels every category has, after its own
MAX_FLOAT32 = float(np.finfo(np.float32).max)


def fit_encoding(dataset: Dataset, columns: Columns, max_levels: int = 50) -> tuple[FeatureEncoding, ...]:
    """Learn, from training rows only, what takes a missing number's place and which levels a category has.

    max_levels: the most frequent ones keep a code of their own (by frequency, then by name); the rest are OTHER.
    """
    return tuple(
        FeatureEncoding(name=f.name, kind=f.kind, levels=_levels(columns[f.name], max_levels))
        if f.kind == "category"
        else FeatureEncoding(name=f.name, kind=f.kind, mean=_mean(columns[f.name]))
        for f in dataset.features
    )


def featurize(encoding: Sequence[FeatureEncoding], columns: Columns) -> Matrix:
    """The matrix, shape (n, n_features), C-contiguous.

    A missing number or boolean is the training mean; a category is its code, OTHER the number of levels, MISSING that
    + 1. Raises ModelIncompatibleError when a feature has no column.
    """
    absent = [f.name for f in encoding if f.name not in columns]
    if absent:
        raise ModelIncompatibleError(f"the model wants features that this data set does not make: {', '.join(absent)}")
    n = len(columns[encoding[0].name]) if encoding else 0
    matrix = np.empty((n, len(encoding)), dtype=np.float32)
    for j, f in enumerate(encoding):
        column = columns[f.name]
        if f.kind == "category":
            codes: dict[str | None, int] = {level: code for code, level in enumerate(f.levels)}
            codes[None] = len(f.levels) + 1
            matrix[:, j] = np.fromiter(
                (codes.get(level, len(f.levels)) for level in column.tolist()), dtype=np.float32, count=n
            )
        else:
            # Beyond float32 a number would be infinite, which XGBoost scores and yet refuses to explain or learn from.
            matrix[:, j] = np.clip(np.where(np.isnan(column), f.mean, column), -MAX_FLOAT32, MAX_FLOAT32)
    return matrix


def level_names(encoding: FeatureEncoding) -> tuple[str, ...]:
    """What the codes of a category mean, in their order."""
    return (*encoding.levels, OTHER, MISSING)


def _levels(column: Objects, max_levels: int) -> tuple[str, ...]:
    names, counts = np.unique([v for v in column.tolist() if v is not None], return_counts=True)
    order = np.argsort(-counts, kind="stable")  # np.unique sorts by name, so ties stay in that order
    return tuple(str(name) for name in names[order[:max_levels]])


def _mean(column: Floats) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if len(known) else 0.0
