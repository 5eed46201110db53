"""Target leakage: a feature that alone separates fraud from legitimate rows almost perfectly.

Such a feature is usually filled in after the label is known (a chargeback date, a status set by the investigation). The
model would look excellent on history and fail on live traffic, where the value is not known yet.
Source: Kaufman et al. (2012), Leakage in Data Mining: Formulation, Detection, and Avoidance.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from scoring.arrays import Array, Floats, Ints
from scoring.input.cleaning import is_missing
from training.evaluation.metrics import measure, rank

MAX_ROC_AUC = 0.99  # of one feature alone; an honest feature stays far below
MIN_CLASS_ROWS = 10  # with fewer rows of a class, a feature separates the classes by chance
FOLDS = 5
NUMBER_BINS = 50
MAX_LISTED = 5  # features named in a summary


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """A feature that is suspected to contain the label."""

    feature: str
    roc_auc: float  # of the feature alone, in the direction that is above 0.5
    by: Literal["value", "missing values"]  # what separates the classes

    @property
    def summary(self) -> str:
        """A part of a sentence for people."""
        return f"{self.feature} (ROC AUC {self.roc_auc:.4f} by its {self.by})"

    @property
    def warning(self) -> str:
        """One line for people."""
        return (
            f"suspected leakage: {self.feature} alone has a ROC AUC of {self.roc_auc:.4f} by its {self.by}; is it "
            "filled in after the label is known?"
        )


def find_leaks(dataset: Dataset, columns: Mapping[str, Array], fraud: Floats) -> tuple[Leak, ...]:
    """The features whose ROC AUC alone exceeds `MAX_ROC_AUC`, largest first; none when a class has too few rows.

    columns: cleaned, each of shape (n,); fraud: shape (n,), 0 or 1.
    Three scores are tried for each feature: whether its value is missing; where it is present, for numbers the value
    itself, in both directions; and the fraud rate of its level or bin among the rows of other folds, which also finds
    leaks that no direction describes, and gives no credit to levels of a single row.
    """
    if not has_both_classes(fraud):
        return ()
    found = (_leak(f.name, columns[f.name], fraud) for f in dataset.features)
    return tuple(sorted((leak for leak in found if leak.roc_auc > MAX_ROC_AUC), key=lambda leak: -leak.roc_auc))


def leak_summary(leaks: tuple[Leak, ...]) -> str:
    """One clause that names the suspected features, and the remedy."""
    named = ", ".join(leak.summary for leak in leaks[:MAX_LISTED])
    more = f" and {len(leaks) - MAX_LISTED} more" if len(leaks) > MAX_LISTED else ""
    return (
        f"suspected leakage: the label is known from {named}{more} alone; remove a feature that is filled in after the "
        "decision from the data set's `features`, or train with --force REASON"
    )


def _leak(name: str, column: Array, fraud: Floats) -> Leak:
    missing = is_missing(column)
    by_missing = two_sided_auc(fraud, missing.astype(np.float64))
    if by_missing > MAX_ROC_AUC:
        return Leak(feature=name, roc_auc=by_missing, by="missing values")
    values, known = column[~missing], fraud[~missing]
    by_value = 0.5
    if has_both_classes(known):
        by_value = _auc(known, _fold_rates(_codes(values), known, _folds(known)))
        if values.dtype != object:
            by_value = max(by_value, two_sided_auc(known, values))
    return Leak(feature=name, roc_auc=by_value, by="value")


def has_both_classes(fraud: Floats) -> bool:
    """Whether each class has enough rows to judge a feature by. fraud: shape (n,), 0 or 1."""
    return bool(min(fraud.sum(), len(fraud) - fraud.sum()) >= MIN_CLASS_ROWS)


def _auc(fraud: Floats, scores: Floats) -> float:
    return float(measure(rank(fraud, scores), names=("roc_auc",))["roc_auc"][0])


def two_sided_auc(fraud: Floats, scores: Floats) -> float:
    """ROC AUC of a score in its better direction. fraud: shape (n,), 0 or 1; scores: shape (n,), finite."""
    auc = _auc(fraud, scores)
    return max(auc, 1 - auc)


def _codes(values: Array) -> Ints:
    """Levels of a category, or quantile bins of a number, as codes."""
    if values.dtype == object:
        levels: dict[str, int] = {}
        return np.array([levels.setdefault(level, len(levels)) for level in values.tolist()], dtype=np.int64)
    edges = np.unique(np.quantile(values, np.arange(1, NUMBER_BINS) / NUMBER_BINS, method="inverted_cdf"))
    return np.searchsorted(edges, values)


def _folds(fraud: Floats) -> Ints:
    """Fold of each row; stratified, so that the folds' fraud rates do not reveal the left-out rows."""
    folds = np.empty(len(fraud), dtype=np.int64)
    for label in (0, 1):
        rows = np.flatnonzero(fraud == label)
        folds[rows] = np.arange(len(rows)) % FOLDS
    return folds


def _fold_rates(codes: Ints, fraud: Floats, folds: Ints) -> Floats:
    """Fraud rate of each row's code among the rows of the other folds, shrunk towards the mean by one row."""
    n = int(codes.max()) + 1
    rows, frauds = np.bincount(codes, minlength=n), np.bincount(codes, fraud, minlength=n)
    mean = float(fraud.mean())
    rates = np.empty(len(codes))
    for fold in range(FOLDS):
        mine = folds == fold
        own_rows = np.bincount(codes[mine], minlength=n)
        own_frauds = np.bincount(codes[mine], fraud[mine], minlength=n)
        rates[mine] = ((frauds - own_frauds + mean) / (rows - own_rows + 1))[codes[mine]]
    return rates
