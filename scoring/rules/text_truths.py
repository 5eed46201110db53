"""Truths of tests of texts, which the compiled loop looks up: by level of a category, or by row."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scoring.arrays import Array, Bytes, Columns
from scoring.coded_columns import CodedColumns, LevelTable
from scoring.rules.list_state import ListHits
from scoring.rules.program import FALSE, TRUE, UNKNOWN, ListPredicate, SameText, TextPredicate
from scoring.rules.syntax_tree import FieldSource

MAX_KEPT_TABLES = 4  # of the level tables of several scanners
MIN_WIDTH = 64


class LevelTruths(NamedTuple):
    """What the loop looks up."""

    truths: Bytes  # shape (n_predicates, >= n_levels)
    levels: Array  # int32, shape (n_texts, n)


class LevelPredicates:
    """Tests of categories, evaluated once for each level. A cache, on which no result depends."""

    def __init__(self, texts: Sequence[str], predicates: Sequence[TextPredicate]) -> None:
        """texts: names of the categories."""
        self._texts = texts
        self._predicates = predicates
        self._of_text = [[row for row, p in enumerate(predicates) if p.field == name] for name in texts]
        self._kept: dict[tuple[LevelTable, ...], tuple[list[int], Bytes]] = {}

    def evaluate(self, columns: Columns, n: int) -> LevelTruths:
        """Truths by level, and the levels of n rows."""
        levels = np.empty((len(self._texts), n), np.int32)
        tables = []
        is_kept = True
        for row, name in enumerate(self._texts):
            coded = columns.coded(name) if isinstance(columns, CodedColumns) else None
            if coded is None:
                is_kept = False
                table = LevelTable()
                levels[row] = [table.add(text) for text in columns[name].tolist()]
            else:
                levels[row], table = coded
            tables.append(table)
        return LevelTruths(self._truths(tuple(tables), is_kept), levels)

    def _truths(self, tables: tuple[LevelTable, ...], is_kept: bool) -> Bytes:
        sizes = [len(table) for table in tables]
        done, truths = self._kept.get(tables, ([0] * len(tables), np.empty((len(self._predicates), 0), np.uint8)))
        if done == sizes:
            return truths
        if max(sizes) > truths.shape[1]:
            wider = np.zeros((len(self._predicates), max(MIN_WIDTH, 2 * max(sizes))), np.uint8)
            wider[:, : truths.shape[1]] = truths
            truths = wider
        for column, (table, first, size) in enumerate(zip(tables, done, sizes, strict=True)):
            if first < size:
                self._fill(truths, self._of_text[column], table.levels[first:size], first)
        if is_kept:
            if tables not in self._kept and len(self._kept) >= MAX_KEPT_TABLES:
                self._kept.clear()
            self._kept[tables] = sizes, truths
        return truths

    def _fill(self, truths: Bytes, rows: Sequence[int], levels: Sequence[str | None], first: int) -> None:
        """Truths of new levels, of which `first` is the first index. Most tests compare, and are false for most."""
        place_of = {level: place for place, level in enumerate(levels, first)}
        missing = place_of.get(None)
        for row in rows:
            predicate = self._predicates[row]
            if predicate.test == "in":
                truths[row, first : first + len(levels)] = FALSE
                if missing is not None:
                    truths[row, missing] = UNKNOWN
                for text in predicate.texts:
                    if (place := place_of.get(text)) is not None:
                        truths[row, place] = TRUE
            else:
                truths[row, first : first + len(levels)] = list(map(predicate.holds, levels))


def row_truths(
    predicates: Sequence[TextPredicate | ListPredicate | SameText],
    columns: Columns,
    keys: Sequence[str],
    hits: ListHits,
    n: int,
) -> Bytes:
    """Truths by row, shape (n_predicates, n)."""
    truths = np.zeros((len(predicates), n), np.uint8)
    for row, predicate in enumerate(predicates):
        match predicate:
            case ListPredicate():
                if predicate.source != "key":
                    truths[row, _missing_rows(columns, predicate.field)] = UNKNOWN
                if (members := hits.members.get((predicate.field, predicate.list))) is not None:
                    truths[row, members] = TRUE
            case TextPredicate():
                truths[row] = _key_truths(predicate, keys)
            case SameText():
                left, right = (_texts(field, columns, keys) for field in (predicate.left, predicate.right))
                pairs = zip(left, right, strict=True)
                truths[row] = [UNKNOWN if a is None or b is None else TRUE if a == b else FALSE for a, b in pairs]
    return truths


def _key_truths(predicate: TextPredicate, keys: Sequence[str]) -> Sequence[int]:
    if predicate.test == "in" and set(predicate.texts).isdisjoint(keys):
        return [FALSE] * len(keys)
    return list(map(predicate.holds, keys))


def _missing_rows(columns: Columns, name: str) -> Array:
    coded = columns.coded(name) if isinstance(columns, CodedColumns) else None
    if coded is not None:
        return np.flatnonzero(coded[0] == 0)
    return np.flatnonzero([text is None for text in columns[name].tolist()])


def _texts(field: tuple[str, FieldSource], columns: Columns, keys: Sequence[str]) -> Sequence[str | None]:
    name, source = field
    return keys if source == "key" else columns[name].tolist()
