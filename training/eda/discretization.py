"""Any column as a few levels, so that fraud can be counted at each."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.dataset.declaration import Kind
from scoring.features import MISSING, OTHER
from scoring.input.cleaning import is_missing

MAX_LEVELS = 20  # of a category: the most frequent ones stand alone, the rest are OTHER
FEW_VALUES = 10  # a number with no more distinct values is shown value by value
MASS = (0.05, 0.95)  # share of zeros that makes "zero or not" the question to ask of a number

Cut = Literal["category", "boolean", "zero or not", "value", "quarter"]
Ints = npt.NDArray[np.int64]


class Levels(NamedTuple):
    """A column cut into levels that all occur."""

    cut: Cut
    names: tuple[str, ...]  # in the order to show them: values ascending, categories by frequency; missing last
    codes: Ints  # shape (n,), places in `names`


def discretize(column: npt.NDArray[Any], kind: Kind) -> Levels:
    """Cut a cleaned column, shape (n,): n at least 1.

    >>> discretize(np.array([0, 0, 7.5, np.nan] + [*range(1, 12)]), "number").names
    ('zero', 'not zero', 'MISSING')
    """
    absent = is_missing(column)
    known = column[~absent]
    if kind == "category":
        cut, names, codes = _frequent(known)
    elif kind == "boolean":
        cut, names, codes = "boolean", ["false", "true"], (known != 0).astype(np.int64)
    else:
        cut, names, codes = _number(known)
    every = np.full(len(column), len(names), dtype=np.int64)
    every[~absent] = codes
    return _occurring(cut, [*names, MISSING], every)


def _frequent(known: npt.NDArray[Any]) -> tuple[Cut, list[str], Ints]:
    found, codes = np.unique(known.astype(str), return_inverse=True)
    order = np.argsort(-np.bincount(codes, minlength=len(found)), kind="stable")
    place = np.empty(len(found), dtype=np.int64)
    place[order] = np.arange(len(found))
    names = [str(found[i]) for i in order]
    if len(names) > MAX_LEVELS:
        place, names = np.minimum(place, MAX_LEVELS), [*names[:MAX_LEVELS], OTHER]
    return "category", names, place[codes]


def _number(known: npt.NDArray[np.float64]) -> tuple[Cut, list[str], Ints]:
    values, codes = np.unique(known, return_inverse=True)
    if len(values) <= FEW_VALUES:
        return "value", [number(v) for v in values.tolist()], codes
    if MASS[0] <= np.mean(known == 0) <= MASS[1]:
        return "zero or not", ["zero", "not zero"], (known != 0).astype(np.int64)
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="inverted_cdf"))
    shown = [number(edge) for edge in edges.tolist()]
    between = [f"above {a}, to {b}" for a, b in pairwise(shown)]
    names = [f"to {shown[0]}", *between, f"above {shown[-1]}"]
    return "quarter", names, np.searchsorted(edges, known).astype(np.int64)


def _occurring(cut: Cut, names: Sequence[str], codes: Ints) -> Levels:
    found, places = np.unique(codes, return_inverse=True)
    return Levels(cut, tuple(names[i] for i in found), places.astype(np.int64))


def number(value: float) -> str:
    """A number for people, to four digits.

    >>> number(62000), number(246.5321), number(1e300), number(2020.0)
    ('62000', '246.5', '1e+300', '2020')
    """
    if value == 0 or 1e-4 <= abs(value) < 1e9:
        return np.format_float_positional(float(f"{value:.4g}"), trim="-")
    return f"{value:.4g}"
