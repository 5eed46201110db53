"""Columns of which the categories are stored as indices into a table of levels, not as an object for each row.

They read as any columns do: a category's array of objects is made when it is read. Encoding needs no such array.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from scoring.arrays import Array, Columns, Floats, Indices, Objects

MAX_ENCODINGS = 8  # whose codes are kept: of the champion and of models that are compared with it
_NO_CODES = np.empty(0, dtype=np.float32)


class LevelTable:
    """The levels of a category that have occurred, and their indices; 0 is the missing level. It only grows."""

    def __init__(self) -> None:
        self.levels: list[str | None] = [None]
        self._index: dict[str | None, int] = {None: 0}
        self._objects: Objects = np.array([None], dtype=object)
        self._codes: dict[tuple[str, ...], Array] = {}

    def add(self, level: str | None) -> int:
        """Index of a level, which is added if it is new."""
        found = self._index.get(level)
        if found is None:
            found = len(self.levels)
            self.levels.append(level)
            self._index[level] = found
        return found

    def objects(self) -> Objects:
        """The level of each index."""
        objects = self._objects
        if len(objects) < len(self.levels):
            more = self.levels[len(objects) :]
            self._objects = objects = np.concatenate([objects, np.array(more, dtype=object)])
        return objects

    def codes(self, levels: tuple[str, ...]) -> Array:
        """The code of each index for a model with these levels: its position, then one for others, one for missing."""
        codes = self._codes.get(levels, _NO_CODES)
        if len(codes) < len(self.levels):
            positions: dict[str | None, int] = {level: code for code, level in enumerate(levels)}
            positions[None] = len(levels) + 1
            more = [positions.get(level, len(levels)) for level in self.levels[len(codes) :]]
            codes = np.concatenate([codes, np.array(more, dtype=np.float32)])
            if len(self._codes) >= MAX_ENCODINGS:
                self._codes = {}
            self._codes[levels] = codes
        return codes

    def __len__(self) -> int:
        return len(self.levels)


class CodedColumns(Mapping[str, Array]):
    """Columns of n rows: numbers as arrays, categories as indices into their tables of levels."""

    def __init__(
        self, names: Sequence[str], numbers: Mapping[str, Floats], categories: Mapping[str, tuple[Indices, LevelTable]]
    ) -> None:
        """names: of all columns, in their order. numbers: may include categories as arrays of objects."""
        self._names = names
        self._numbers = numbers
        self._categories = categories

    def codes(self, name: str, levels: tuple[str, ...]) -> Array | None:
        """The codes of a category for a model with these levels; None if the column is an array of objects."""
        found = self._categories.get(name)
        return None if found is None else found[1].codes(levels)[found[0]]

    def coded(self, name: str) -> tuple[Indices, LevelTable] | None:
        """The indices and levels of a category; None if the column is an array of objects or of numbers."""
        return self._categories.get(name)

    def __getitem__(self, name: str) -> Array:
        column = self._numbers.get(name)
        if column is None:
            indices, table = self._categories[name]
            return table.objects()[indices]
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers or name in self._categories

    def with_columns(self, columns: Columns) -> "CodedColumns":
        """These columns and others, of the same rows and with other names."""
        return CodedColumns((*self._names, *columns), {**self._numbers, **columns}, self._categories)


def join_columns(columns: Columns, others: Columns) -> Columns:
    """Two sets of columns of the same rows as one; categories stay coded."""
    if not others:
        return columns
    return columns.with_columns(others) if isinstance(columns, CodedColumns) else {**columns, **others}
