"""Discretization: a column of any kind as a few levels, so that fraud can be counted at each level."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from schemas.dataset.fields import Kind
from scoring.arrays import Array, Floats, Ints
from scoring.features import MISSING, OTHER
from scoring.input.cleaning import is_missing

MAX_LEVELS = 20  # the most frequent categories; the rest become OTHER
MAX_DISTINCT_VALUES = 10  # a number with at most so many distinct values has one level per value
ZERO_SHARE_RANGE = (0.05, 0.95)  # a number whose share of zeros lies in this range is cut into "zero" and "not zero"

Cut = Literal["category", "boolean", "zero or not", "value", "quarter"]


class Levels(NamedTuple):
    """A discretized column; every level has at least one row."""

    cut: Cut
    names: tuple[str, ...]  # in display order: values ascending, categories by frequency; missing last
    codes: Ints  # shape (n,), indices into `names`


def discretize(column: Array, kind: Kind) -> Levels:
    """Cut a cleaned column into levels.

    column: shape (n,), n at least 1. kind: as the data set declares it.

    >>> discretize(np.array([0, 0, 7.5, np.nan] + [*range(1, 12)]), "number").names
    ('zero', 'not zero', 'MISSING')
    """
    absent = is_missing(column)
    known = column[~absent]
    if kind == "category":
        cut, names, codes = _category_levels(known)
    elif kind == "boolean":
        cut, names, codes = "boolean", ["false", "true"], (known != 0).astype(np.int64)
    else:
        cut, names, codes = _number_levels(known)
    all_codes = np.full(len(column), len(names), dtype=np.int64)
    all_codes[~absent] = codes
    return _without_empty_levels(cut, [*names, MISSING], all_codes)


def _category_levels(known: Array) -> tuple[Cut, list[str], Ints]:
    found, codes = np.unique(known.astype(str), return_inverse=True)
    order = np.argsort(-np.bincount(codes, minlength=len(found)), kind="stable")
    place = np.empty(len(found), dtype=np.int64)
    place[order] = np.arange(len(found))
    names = [str(found[i]) for i in order]
    if len(names) > MAX_LEVELS:
        place, names = np.minimum(place, MAX_LEVELS), [*names[:MAX_LEVELS], OTHER]
    return "category", names, place[codes]


def _number_levels(known: Floats) -> tuple[Cut, list[str], Ints]:
    values, codes = np.unique(known, return_inverse=True)
    if len(values) <= MAX_DISTINCT_VALUES:
        return "value", [format_number(v) for v in values.tolist()], codes
    if ZERO_SHARE_RANGE[0] <= np.mean(known == 0) <= ZERO_SHARE_RANGE[1]:
        return "zero or not", ["zero", "not zero"], (known != 0).astype(np.int64)
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75], method="inverted_cdf"))
    labels = [format_number(edge) for edge in edges.tolist()]
    between = [f"above {a}, to {b}" for a, b in pairwise(labels)]
    names = [f"to {labels[0]}", *between, f"above {labels[-1]}"]
    return "quarter", names, np.searchsorted(edges, known).astype(np.int64)


def _without_empty_levels(cut: Cut, names: Sequence[str], codes: Ints) -> Levels:
    found, places = np.unique(codes, return_inverse=True)
    return Levels(cut, tuple(names[i] for i in found), places.astype(np.int64))


def format_number(value: float) -> str:
    """Format a number to four significant digits.

    >>> format_number(62000), format_number(246.5321), format_number(1e300), format_number(2020.0)
    ('62000', '246.5', '1e+300', '2020')
    """
    if value == 0 or 1e-4 <= abs(value) < 1e9:
        return np.format_float_positional(float(f"{value:.4g}"), trim="-")
    return f"{value:.4g}"
