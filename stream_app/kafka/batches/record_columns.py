"""Records of fetches as columns: one buffer of bytes and one table of positions. Records are made when they are needed.

A fetched batch gives its records as `BatchColumns`, or record by record where `record_scanner` refuses it.
`RecordColumns` joins both, in order. It is a sequence of records, with the attributes of aiokafka's.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, Self, overload

import numpy as np

from schemas.record_parts import last_offset
from scoring.arrays import Array, Indices, Ints
from scoring.input.payload_columns import Payloads
from stream_app.kafka.batches.record_scanner import (
    COLUMNS,
    HEADERS,
    HEADERS_START,
    KEY_END,
    KEY_START,
    OFFSET,
    TIME,
    VALUE_END,
    VALUE_START,
    find_headers,
    scan_records,
)

Headers = tuple[tuple[str, bytes | None], ...]
_PLAIN = {bytes, type(None)}


class _Fields(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int  # ms; -1 for none
    key: bytes | None
    value: bytes | None
    headers: Headers


class FetchedRecord(_Fields):
    """A record, with the attributes of aiokafka's `ConsumerRecord`."""

    __slots__ = ()
    # Faust copies these; nothing reads them.
    timestamp_type = None
    checksum = None
    serialized_key_size = -1
    serialized_value_size = -1


class BatchColumns(NamedTuple):
    """The records of one batch."""

    data: bytes
    table: Ints  # shape (COLUMNS, n), n > 0
    n_headers: int = 0  # of all records

    @property
    def offset(self) -> int:
        """The last offset: the client's fetcher continues after it, as after a record."""
        return int(self.table[OFFSET, -1])

    @property
    def n_records(self) -> int:
        """Number of records."""
        return len(self.table[OFFSET])

    def since(self, offset: int) -> Self | None:
        """The records from an offset on; None if there are none."""
        first = int(np.searchsorted(self.table[OFFSET], offset))
        return self._replace(table=self.table[:, first:]) if first < self.n_records else None

    def split(self, n: int) -> tuple[Self, Self]:
        """The first n records, and the others."""
        return self._replace(table=self.table[:, :n]), self._replace(table=self.table[:, n:])


def batch_columns(
    data: bytes,
    count: int,
    base_offset: int,
    last_offset: int,
    time_ms: int,
    is_append_time: bool,
    max_value_bytes: int,
) -> BatchColumns | None:
    """As `stream_app.kafka.batches.record_batches.ColumnDecoder`."""
    table = np.empty((COLUMNS, count), np.int64)
    octets = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    n_headers = scan_records(*(octets, base_offset, last_offset, time_ms, is_append_time, max_value_bytes, table))
    return None if n_headers < 0 else BatchColumns(data, table, n_headers)


class RecordColumns(Sequence[FetchedRecord]):
    """Records of one topic: each partition's in offset order."""

    def __init__(
        self, topic: str, partitions: Indices, data: bytes, table: Ints, whole: dict[int, FetchedRecord]
    ) -> None:
        """partitions: shape (n,). table: shape (COLUMNS, n). whole: by row, records that the columns cannot hold."""
        self.topic = topic
        self.partitions = partitions
        self.offsets: Ints = table[OFFSET]
        self.timestamps: Ints = table[TIME]  # ms; -1 for none
        self._data = data
        self._table = table
        self._whole = whole
        self._records: list[FetchedRecord] | None = None

    @staticmethod
    def of_partition(topic: str, partition: int, parts: Sequence[Any]) -> "RecordColumns":
        """Join the parts of one partition: batches as columns, and single records as the client's decoder gives them.

        parts: at least one.
        """
        batches: list[BatchColumns] = []
        whole: dict[int, FetchedRecord] = {}
        row = 0
        for part in parts:
            batch = part
            if not isinstance(part, BatchColumns):
                batch = _single(part)
                if part.headers or not {type(part.key), type(part.value)} <= _PLAIN:
                    fields = part.offset, part.timestamp, part.key, part.value, tuple(part.headers)
                    whole[row] = FetchedRecord(topic, partition, *fields)
            batches.append(batch)
            row += batch.n_records
        data, table = _joined(batches)
        return RecordColumns(topic, np.full(row, partition, np.intp), data, table, whole)

    @staticmethod
    def join(parts: "Sequence[RecordColumns]") -> "RecordColumns":
        """Records of one topic one after the other. parts: at least one."""
        if len(parts) == 1:
            return parts[0]
        data, table = _joined([BatchColumns(part._data, part._table) for part in parts])
        whole: dict[int, FetchedRecord] = {}
        row = 0
        for part in parts:
            whole.update((row + i, record) for i, record in part._whole.items())
            row += len(part)
        return RecordColumns(parts[0].topic, np.concatenate([part.partitions for part in parts]), data, table, whole)

    def take(self, rows: Array) -> "RecordColumns":
        """Some of the records. rows: positions, ascending, or a mask."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        whole = {}
        if self._whole:
            whole = {i: self._whole[row] for i, row in enumerate(rows.tolist()) if row in self._whole}
        return RecordColumns(self.topic, self.partitions[rows], self._data, self._table[:, rows], whole)

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[FetchedRecord]:
        return iter(self._made())

    @overload
    def __getitem__(self, at: int) -> FetchedRecord: ...
    @overload
    def __getitem__(self, at: slice) -> "RecordColumns": ...
    def __getitem__(self, at: int | slice) -> "FetchedRecord | RecordColumns":
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        return self._record(range(len(self))[at]) if self._records is None else self._records[at]

    def _record(self, row: int) -> FetchedRecord:
        if row in self._whole:
            return self._whole[row]
        offset, time, key, key_end, value, value_end, _, n_headers = self._table[:, row].tolist()
        return FetchedRecord(
            *(self.topic, int(self.partitions[row]), offset, time),
            None if key < 0 else self._data[key:key_end],
            None if value < 0 else self._data[value:value_end],
            self.take(np.array([row])).headers[0] if n_headers else (),
        )

    @property
    def keys(self) -> list[bytes | None]:
        """Key of each record."""
        return self._contents(KEY_START, KEY_END)

    @property
    def headers(self) -> dict[int, Headers]:
        """Headers of the records that have some, by row."""
        rows = np.flatnonzero(self._table[HEADERS])
        found: dict[int, Headers] = {}
        if len(rows):
            data, counts = self._data, self._table[HEADERS, rows]
            positions = find_headers(np.frombuffer(data, np.uint8), self._table[HEADERS_START, rows], counts)
            headers = [
                (data[name:name_end].decode("ascii"), None if value < 0 else data[value:value_end])
                for name, name_end, value, value_end in positions.tolist()
            ]
            at = 0
            for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
                found[row] = tuple(headers[at : at + count])
                at += count
        found.update((row, record.headers) for row, record in self._whole.items() if record.headers)
        return found

    @property
    def payloads(self) -> Payloads:
        """Value of each record."""
        return self.payloads_without([])

    def payloads_without(self, rows: Sequence[int]) -> Payloads:
        """Value of each record, null for some rows."""
        starts = self._table[VALUE_START].copy()
        starts[rows] = -1
        return Payloads(self._data, starts, self._table[VALUE_END])

    def unusual_rows(self, max_key_bytes: int) -> Indices:
        """Rows of records with headers, with a key longer than `max_key_bytes`, or that the columns cannot hold."""
        table = self._table
        unusual = (table[HEADERS] > 0) | (table[KEY_END] - table[KEY_START] > max_key_bytes)
        unusual[list(self._whole)] = True
        return np.flatnonzero(unusual)

    @property
    def last_offsets(self) -> Ints:
        """Last offset that each record represents, as `schemas.record_parts.last_offset`."""
        if not self._whole:
            return self.offsets
        found = self.offsets.copy()
        for row, record in self._whole.items():
            found[row] = last_offset(record)
        return found

    def _contents(self, start: int, end: int) -> list[bytes | None]:
        data = self._data
        return [
            None if first < 0 else data[first:after]
            for first, after in zip(self._table[start].tolist(), self._table[end].tolist(), strict=True)
        ]

    def _made(self) -> list[FetchedRecord]:
        if self._records is None:
            headers: list[Headers] = [()] * len(self)
            for row, each in self.headers.items():
                headers[row] = each
            fields = (
                repeat(self.topic),
                self.partitions.tolist(),
                self.offsets.tolist(),
                self.timestamps.tolist(),
                self.keys,
                self._contents(VALUE_START, VALUE_END),
                headers,
            )
            made = list(map(FetchedRecord._make, zip(*fields)))  # noqa: B905 (repeat is endless)
            for row, record in self._whole.items():
                made[row] = record
            self._records = made
        return self._records


def record_places(records: Sequence[Any]) -> tuple[Indices, Ints]:
    """Partition of each record, and the last offset that it represents; shape (n,) each."""
    if isinstance(records, RecordColumns):
        # Contiguous: compiled loops would be compiled once more for another layout.
        return records.partitions, np.ascontiguousarray(records.last_offsets)
    n = len(records)
    return np.fromiter((r.partition for r in records), np.intp, n), np.fromiter(map(last_offset, records), np.int64, n)


def join_records(parts: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Records of one topic one after the other, as columns if all parts are."""
    columns = [part for part in parts if isinstance(part, RecordColumns)]
    if columns and len(columns) == len(parts):
        return RecordColumns.join(columns)
    return [record for part in parts for record in part]


def split_records(records: Sequence[Any], offset: int) -> tuple[Sequence[Any], Sequence[Any]]:
    """Records of one partition, in offset order: those below an offset, and the others."""
    if isinstance(records, RecordColumns):  # no record is made
        at = int(np.searchsorted(records.offsets, offset))
    else:
        at = bisect_left(records, offset, key=lambda record: record.offset)
    return (records[:at], records[at:]) if at else ((), records)


def next_offset(records: Sequence[Any]) -> int:
    """The offset after the last one that records of one partition represent. records: at least one."""
    if isinstance(records, RecordColumns):  # no record is made
        return int(records.last_offsets[-1]) + 1
    return last_offset(records[-1]) + 1


def _joined(batches: Sequence[BatchColumns]) -> tuple[bytes, Ints]:
    if len(batches) == 1:
        return batches[0].data, batches[0].table
    table = np.concatenate([batch.table for batch in batches], axis=1)
    starts: dict[int, int] = {}  # of the data of each batch. Batches of one response may have the same
    parts, size = [], 0
    for batch in batches:
        if id(batch.data) not in starts:
            starts[id(batch.data)] = size
            parts.append(batch.data)
            size += len(batch.data)
    if len(parts) == 1:
        return parts[0], table
    moved = np.repeat([starts[id(batch.data)] for batch in batches], [batch.n_records for batch in batches])
    positions = table[KEY_START : HEADERS_START + 1]
    np.add(positions, moved, out=positions, where=positions >= 0)
    return b"".join(parts), table


def _single(record: Any) -> BatchColumns:
    """A record as columns. Headers are not in them."""
    key, value = record.key, record.value
    middle = 0 if key is None else len(key)
    end = middle if value is None else middle + len(value)
    table = np.array([[record.offset, record.timestamp, 0, middle, middle, end, -1, 0]], np.int64).T
    if key is None:
        table[KEY_START], table[KEY_END] = -1, -1
    if value is None:
        table[VALUE_START], table[VALUE_END] = -1, -1
    return BatchColumns((key or b"") + (value or b""), table)
