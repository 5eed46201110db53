"""Feature encoding: cleaned columns to a float32 matrix with a fixed column order, for training and scoring alike."""

from collections.abc import Sequence

import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.errors import ModelIncompatibleError
from scoring.arrays import Columns, Floats, Matrix, Objects
from scoring.bundle.manifest import FeatureEncoding
from scoring.coded_columns import CodedColumns

OTHER, MISSING = "OTHER", "MISSING"  # two levels of every category, after its own
MAX_LEVELS = 50
MIN_LEVEL_ROWS = 20


def fit_encoding(
    dataset: Dataset, columns: Columns, max_levels: int = MAX_LEVELS, min_rows: int = MIN_LEVEL_ROWS
) -> tuple[FeatureEncoding, ...]:
    """Fit the encoding on training rows: the mean of each number, for imputation, and the levels of each category.

    max_levels: levels per category, by frequency, then by name. min_rows: training rows that a level needs; with fewer,
    its fraud rate is chance. All other levels are encoded as OTHER.
    """
    return tuple(
        FeatureEncoding(name=f.name, kind=f.kind, levels=_levels(columns[f.name], max_levels, min_rows))
        if f.kind == "category"
        else FeatureEncoding(name=f.name, kind=f.kind, mean=_mean(columns[f.name]))
        for f in dataset.features
    )


def featurize(encoding: Sequence[FeatureEncoding], columns: Columns) -> Matrix:
    """Encode cleaned columns as a C-contiguous matrix, shape (n, n_features).

    A missing number or boolean becomes the training mean. A category becomes its code: 0 .. n_levels - 1, then OTHER,
    then MISSING. Raises ModelIncompatibleError if a feature has no column.
    """
    absent = [f.name for f in encoding if f.name not in columns]
    if absent:
        raise ModelIncompatibleError(
            f"the model needs features that the data set lacks: {', '.join(absent)}; set dataset, or train again"
        )
    n = len(columns[encoding[0].name]) if encoding else 0
    matrix = np.empty((n, len(encoding)), dtype=np.float32)
    for j, f in enumerate(encoding):
        if f.kind == "category":
            if isinstance(columns, CodedColumns) and (coded := columns.codes(f.name, f.levels)) is not None:
                matrix[:, j] = coded
                continue
            codes: dict[str | None, int] = {level: code for code, level in enumerate(f.levels)}
            codes[None] = len(f.levels) + 1
            matrix[:, j] = np.fromiter(
                (codes.get(level, len(f.levels)) for level in columns[f.name].tolist()), dtype=np.float32, count=n
            )
        else:
            # Cleaning rejects numbers beyond float32: infinity can be scored, but neither trained on nor explained.
            matrix[:, j] = columns[f.name]
    if (missing := np.isnan(matrix)).any():
        np.copyto(matrix, np.array([f.mean for f in encoding], dtype=np.float32), where=missing)
    return matrix


def level_names(encoding: FeatureEncoding) -> tuple[str, ...]:
    """Names of a category's codes, in order of the codes."""
    return (*encoding.levels, OTHER, MISSING)


def _levels(column: Objects, max_levels: int, min_rows: int) -> tuple[str, ...]:
    names, counts = np.unique([v for v in column.tolist() if v is not None], return_counts=True)
    order = np.argsort(-counts, kind="stable")  # np.unique sorts by name, which orders ties
    return tuple(str(names[i]) for i in order[:max_levels] if counts[i] >= min_rows)


def _mean(column: Floats) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if len(known) else 0.0
