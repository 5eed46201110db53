"""Which declared columns a file has: a fold over its chunks."""

from collections.abc import Iterable, Iterator

from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn, missing_columns, similar_names
from scoring.input.mapping_parsing import mapping_keys
from training.data.chunk import Chunk

MAX_KEYS = 1_000  # of one mapping: undeclared keys beyond these are not remembered


class ColumnPresence:
    """Names of the columns of a file, and keys of its mappings."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._names: tuple[str, ...] = ()
        # For each mapping: its declared keys, and the keys of the file until all declared ones are found.
        self._declared = {f.name: {entry.key for entry in f.entries} for f in dataset.fields if f.kind == "mapping"}
        self._keys: dict[str, dict[str, None]] = {name: {} for name in self._declared}
        self._missing = {f.name: frozenset((*dataset.missing, *f.missing)) for f in dataset.fields}

    def update(self, chunk: Chunk) -> None:
        """Add the next chunk of the file."""
        self._names = chunk.names
        for field, declared in self._declared.items():
            keys = self._keys[field]
            for value in chunk.columns.get(field, ()):
                if keys.keys() >= declared:
                    break
                for key in mapping_keys(value, self._missing[field]):
                    if key in declared or len(keys) < MAX_KEYS:
                        keys[key] = None

    def watch(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield the chunks of a file, each added before."""
        for chunk in chunks:
            self.update(chunk)
            yield chunk

    @property
    def is_complete(self) -> bool:
        """Whether every declared column has been found."""
        return {*self._dataset.field_names} <= {*self._names} and all(
            self._keys[field].keys() >= declared for field, declared in self._declared.items()
        )

    def missing(self) -> tuple[MissingColumn, ...]:
        """The declared columns that no row has; none for a file in which no name was found."""
        if not self._names:
            return ()
        missing = list(missing_columns(self._dataset, self._names))
        for field, declared in self._declared.items():
            keys = self._keys[field]
            if not keys:  # no row has a value of this mapping
                continue
            others = [key for key in keys if key not in declared]
            missing += [
                MissingColumn(
                    name=f"{field}.{key}", similar=tuple(f"{field}.{other}" for other in similar_names(key, others))
                )
                for key in sorted(declared - keys.keys())
            ]
        return tuple(missing)
