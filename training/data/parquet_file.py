"""Reads Parquet files to Python objects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from scoring.input.decoding import MAX_DEPTH
from training.data.chunk import Chunk
from training.data.csv_file import check_names

_SCALARS = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)


def parquet_chunks(path: Path, dataset: Dataset, size: int) -> Iterator[Chunk]:
    """Yield the file in chunks of at most `size` rows.

    Raises TrainingError when the file is damaged, two columns have one name, or a declared column has a type that
    cannot be read; an undeclared column of such a type is left out.
    """
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            check_names(path, schema.names)
            readable = [i for i, name in enumerate(schema.names) if name and _is_readable(schema.field(i).type)]
            for i, name in enumerate(schema.names):
                if i not in readable and name in dataset.field_names:
                    raise TrainingError(
                        f"{path}: the column {name!r} has the type {schema.field(i).type}, which cannot be read; write "
                        "it as text, number, boolean, date or timestamp"
                    )
            names = tuple(schema.names)
            total, row = file.metadata.num_rows, 0
            for batch in file.iter_batches(batch_size=size):
                columns = {names[i]: _values(batch.column(i)) for i in readable}
                rows = list(range(row, row + batch.num_rows))
                row += batch.num_rows
                yield Chunk(rows, None, columns, [], names, None, row / total)
            if not total:
                yield Chunk([], None, {names[i]: [] for i in readable}, [], names, None, 1.0)
    except pa.ArrowException as error:
        raise TrainingError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None


def _is_readable(kind: pa.DataType, depth: int = MAX_DEPTH) -> bool:
    """Whether the values of a type are Python objects that cleaning knows, nested no deeper than a payload may be."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _is_readable(kind.value_type, depth)
    if pa.types.is_nested(kind):
        if pa.types.is_union(kind) or depth <= 1:
            return False
        if pa.types.is_map(kind):
            return pa.types.is_string(kind.key_type) and _is_readable(kind.item_type, depth - 1)
        return all(_is_readable(kind.field(i).type, depth - 1) for i in range(kind.num_fields))
    return any(is_scalar(kind) for is_scalar in _SCALARS)


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":  # Python's times have microseconds
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, KeyError):  # a time that Python has no object for, or an unknown zone
        values = [_object(value) for value in column]
    if pa.types.is_map(column.type):
        values = [_mapping(pairs) for pairs in values]
    return values


def _object(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError, KeyError):
        return f"{value.type} {getattr(value, 'value', '')}"  # a text that no format reads, so that the row is rejected


def _mapping(pairs: list[tuple[str, Any]] | None) -> Any:
    """The pairs of a map as a dictionary; unchanged, and so rejected, if a key occurs twice."""
    found = dict(pairs or ())
    return found if pairs is not None and len(found) == len(pairs) else pairs
