"""Records of a topic as a Parquet file, and back.

A row has the record as it was on the topic (offset, timestamp, key, value, headers), and the fields of its value as
columns, for queries. A value that is no valid record has no fields; fields that are bytes are in `value` only.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import inspect
from pyarrow import compute, parquet

from schemas.json_codec import decode
from stream_app.kafka.topic_reader import ConsumedRecord

ROW_GROUP_RECORDS = 50_000
_SCALARS = {inspect.StrType: pa.string(), inspect.IntType: pa.int64(), inspect.FloatType: pa.float64()}
_HEADER = pa.struct([("name", pa.string()), ("value", pa.binary())])
_RAW = (
    ("offset", pa.int64()),
    ("timestamp", pa.timestamp("ms", "UTC")),
    ("key", pa.binary()),
    ("value", pa.binary()),
    ("headers", pa.list_(_HEADER)),
)


@dataclass(kw_only=True, slots=True)
class ArchivedRecord:
    """A `stream_app.kafka.topic_reader.ConsumedRecord` from the archive."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class ParquetFile:
    """Writes a file. Equal records give equal bytes, however they are divided into calls."""

    def __init__(self, path: Path, record_type: type[msgspec.Struct]) -> None:
        """record_type: of the topic's records."""
        self._type = record_type
        self._columns = _columns(record_type)
        self._schema = pa.schema([*_RAW, *self._columns.items()])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[tuple[ConsumedRecord, msgspec.Struct | None]] = []

    def add(self, record: ConsumedRecord) -> msgspec.Struct | None:
        """Add a record; its value, decoded, or None if it is no valid record."""
        try:
            value = decode(record.value or b"", self._type)
        except msgspec.MsgspecError:
            value = None
        self._rows.append((record, value))
        if len(self._rows) == ROW_GROUP_RECORDS:
            self._write()
        return value

    def close(self) -> None:
        """Write what is left."""
        if self._rows:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        records = [record for record, _ in self._rows]
        raw = (
            pa.array([r.offset for r in records], pa.int64()),
            pa.array([r.timestamp for r in records], pa.int64()).cast(_RAW[1][1]),
            pa.array([r.key for r in records], pa.binary()),
            pa.array([r.value for r in records], pa.binary()),
            _headers([r.headers for r in records]),
        )
        values = [value for _, value in self._rows]
        fields = [
            _array([None if v is None else getattr(v, name) for v in values], kind)
            for name, kind in self._columns.items()
        ]
        self._writer.write_table(pa.Table.from_arrays([*raw, *fields], schema=self._schema))
        self._rows.clear()


def read_records(
    path: Path, topic: str, partition: int, *, column: str, values: Collection[str | int]
) -> list[ArchivedRecord]:
    """The records of a file in which a column has one of some values, in the order of offsets."""
    found: list[ArchivedRecord] = []
    with parquet.ParquetFile(path) as file:
        wanted = pa.array(sorted(values), file.schema_arrow.field(column).type)
        for group in range(file.num_row_groups):
            hits = compute.is_in(file.read_row_group(group, columns=[column])[column], value_set=wanted)
            if compute.any(hits).as_py():
                rows = file.read_row_group(group, columns=[name for name, _ in _RAW]).filter(hits)
                found += [_record(topic, partition, row) for row in rows.cast(_plain(rows.schema)).to_pylist()]
    return found


def _plain(schema: pa.Schema) -> pa.Schema:
    """The schema with timestamps as integers: Python's own dates end in the year 9999."""
    return pa.schema([pa.field(f.name, pa.int64() if f.name == "timestamp" else f.type) for f in schema])


def _record(topic: str, partition: int, row: dict[str, Any]) -> ArchivedRecord:
    headers = tuple((header["name"], header["value"]) for header in row.pop("headers"))
    return ArchivedRecord(topic=topic, partition=partition, headers=headers, **row)


def _headers(headers: Sequence[Sequence[tuple[str, bytes | None]]]) -> pa.ListArray:
    pairs = [pair for of_a_record in headers for pair in of_a_record]
    names, values = pa.array([n for n, _ in pairs], pa.string()), pa.array([v for _, v in pairs], pa.binary())
    ends = np.cumsum([0, *map(len, headers)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.StructArray.from_arrays([names, values], fields=list(_HEADER)))


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values as an array. Structs are taken apart: to convert each to a dictionary costs three times as much."""
    if pa.types.is_list(kind):
        items = [item for value in values for item in value or ()]
        ends = np.cumsum([0, *(0 if value is None else len(value) for value in values)], dtype=np.int32)
        is_null = np.array([value is None for value in values], np.bool_)
        return pa.ListArray.from_arrays(pa.array(ends), _array(items, kind.value_type), mask=pa.array(is_null))
    if pa.types.is_struct(kind):
        parts = [_array([getattr(value, field.name) for value in values], field.type) for field in kind]
        return pa.StructArray.from_arrays(parts, fields=list(kind))
    return pa.array(values, kind)


def _columns(record_type: type[msgspec.Struct]) -> dict[str, pa.DataType]:
    """The columns of a record: its fields, except bytes and those that have no one type."""
    info = inspect.type_info(record_type)
    assert isinstance(info, inspect.StructType)
    found = ((field.encode_name, _arrow_type(field.type)) for field in info.fields)
    return {name: kind for name, kind in found if kind is not None}


def _arrow_type(info: inspect.Type) -> pa.DataType | None:
    match info:
        case inspect.StrType() | inspect.IntType() | inspect.FloatType():
            return _SCALARS[type(info)]
        case inspect.BoolType():
            return pa.bool_()
        case inspect.LiteralType(values) if all(isinstance(value, str) for value in values):
            return pa.string()
        case inspect.VarTupleType(item):
            return None if (inner := _arrow_type(item)) is None else pa.list_(inner)
        case inspect.StructType(cls):
            return pa.struct(list(_columns(cls).items()))
        case inspect.UnionType(types):
            kinds = [_arrow_type(t) for t in types if not isinstance(t, inspect.NoneType)]
            return kinds[0] if len(kinds) == 1 else None
    return None
