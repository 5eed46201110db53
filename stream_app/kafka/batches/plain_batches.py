"""Reads consecutive plain batches of a fetch in one compiled call: headers, checksums and records.

Producers that do not linger send batches of one or two records. Read one by one in Python, each batch costs as much as
scoring several transactions.

A plain batch has message format 2, is neither compressed nor part of a Kafka transaction, and holds ordinary records
only (`record_scanner`). `record_batches` reads all others.
"""

from collections.abc import Iterator

import numpy as np

from scoring.arrays import Array, Bytes, Ints
from scoring.compilation import compiled
from stream_app.kafka.batches.record_batches import MAX_CLIENT_DECODED_BYTES
from stream_app.kafka.batches.record_columns import BatchColumns
from stream_app.kafka.batches.record_scanner import COLUMNS, OFFSET, scan_rows
from stream_app.kafka.batches.record_stream import HEADER_BYTES, RECORD_BYTES, Budget

_POLYNOMIAL = 0x82F63B78  # of CRC-32C, bits reversed
# Positions within a batch.
_LENGTH_AT, _FORMAT_AT, _CHECKSUM_AT, _ATTRIBUTES_AT, _LAST_DELTA_AT = 8, 16, 17, 21, 23
_FIRST_TIME_AT, _MAX_TIME_AT, _COUNT_AT, _RECORDS_AT = 27, 35, 57, 61
_OVERHEAD_BYTES = 12  # base offset and length
_MIN_RECORD_BYTES = 7
_FORMAT = 2
_APPEND_TIME = 8  # the only attribute of a plain batch
# Fields of what `scan_plain_batches` returns.
_ROWS, _FROM_ROW, _END, _NEXT_OFFSET, _HEADERS = range(5)


def _checksum_tables() -> Array:
    """Tables for eight bytes at a time, shape (8, 256)."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for k in range(1, 8):
        tables[k] = (tables[k - 1] >> np.uint32(8)) ^ tables[0][tables[k - 1] & np.uint32(0xFF)]
    return tables


_TABLES = _checksum_tables()


class PlainBatches:
    """Consecutive plain batches, with the interface of one batch that aiokafka's fetcher reads."""

    magic = 2
    producer_id = None  # aiokafka looks for aborted Kafka transactions where it is known
    is_control_batch = is_transactional = False

    def __init__(self, columns: BatchColumns | None, base_offset: int, next_offset: int) -> None:
        """columns: the records, if there are any from the requested offset on."""
        self.columns = columns
        self.base_offset = base_offset
        self.next_offset = next_offset

    def validate_crc(self) -> bool:
        """True: the checksums were verified."""
        return True

    def __iter__(self) -> Iterator[BatchColumns]:
        return iter(() if self.columns is None else (self.columns,))


def plain_batches(
    data: bytes, start: int, stop: int, first_offset: int, max_value_bytes: int, budget: Budget
) -> tuple[PlainBatches, int] | None:
    """The plain batches from a position on, and the position after them. None if there are none.

    first_offset: earlier records are left out. No batch is read after the one that spends the budget.
    """
    octets = np.frombuffer(data, np.uint8)
    table, found = scan_plain_batches(octets, start, stop, first_offset, max_value_bytes, budget.left_bytes, _TABLES)
    n_rows, first_row, end, next_offset, n_headers = found.tolist()
    if not n_rows:
        return None
    budget.spend(end - start + RECORD_BYTES * n_rows + HEADER_BYTES * n_headers)
    base_offset = int(table[OFFSET, 0])
    if n_rows < table.shape[1] or first_row:
        table = np.ascontiguousarray(table[:, first_row:n_rows])
    columns = BatchColumns(data, table, n_headers) if table.shape[1] else None
    return PlainBatches(columns, base_offset, next_offset), end


@compiled
def _number(data: Bytes, at: int, size: int) -> int:
    """A signed number of some bytes, the highest one first."""
    found = np.int64(data[at])
    if found >= 128:
        found -= 256
    for i in range(at + 1, at + size):
        found = (found << 8) | np.int64(data[i])
    return found  # type: ignore[return-value]  # NumPy's integers


@compiled
def checksum(data: Bytes, start: int, end: int, tables: Array) -> int:
    """CRC-32C of some bytes."""
    low = np.uint32(0xFF)
    crc = np.uint32(0xFFFFFFFF)
    at = start
    while at + 8 <= end:
        for i in range(4):
            crc ^= np.uint32(data[at + i]) << np.uint32(8 * i)
        crc = (
            tables[7, crc & low]
            ^ tables[6, (crc >> np.uint32(8)) & low]
            ^ tables[5, (crc >> np.uint32(16)) & low]
            ^ tables[4, crc >> np.uint32(24)]
            ^ tables[3, data[at + 4]]
            ^ tables[2, data[at + 5]]
            ^ tables[1, data[at + 6]]
            ^ tables[0, data[at + 7]]
        )
        at += 8
    while at < end:
        crc = (crc >> np.uint32(8)) ^ tables[0, (crc ^ np.uint32(data[at])) & low]
        at += 1
    return np.int64(crc ^ np.uint32(0xFFFFFFFF))  # type: ignore[return-value]


@compiled
def _plain_size(data: Bytes, at: int, stop: int) -> int:
    """Size of the batch at a position; 0 if it is not complete or, by its header, not plain."""
    left = stop - at
    if left < _RECORDS_AT:
        return 0
    size = _number(data, at + _LENGTH_AT, 4) + _OVERHEAD_BYTES
    if size < _RECORDS_AT or size > left or size > MAX_CLIENT_DECODED_BYTES or data[at + _FORMAT_AT] != _FORMAT:
        return 0
    if _number(data, at + _ATTRIBUTES_AT, 2) & ~_APPEND_TIME or _number(data, at + _LAST_DELTA_AT, 4) < 0:
        return 0
    count = _number(data, at + _COUNT_AT, 4)
    return size if 0 < count <= (size - _RECORDS_AT) // _MIN_RECORD_BYTES else 0


@compiled
def scan_plain_batches(
    data: Bytes, start: int, stop: int, first_offset: int, max_value_bytes: int, budget_bytes: int, tables: Array
) -> tuple[Ints, Ints]:
    """A table of records (`record_scanner`), and what was read: the fields above."""
    at, n_rows = start, 0
    while at - start + RECORD_BYTES * n_rows < budget_bytes:
        size = _plain_size(data, at, stop)
        if not size:
            break
        n_rows += _number(data, at + _COUNT_AT, 4)
        at += size
    table = np.empty((COLUMNS, n_rows), np.int64)
    found = np.zeros(5, np.int64)
    at, row = start, 0
    while row < n_rows:
        size = _plain_size(data, at, stop)
        base, count = _number(data, at, 8), _number(data, at + _COUNT_AT, 4)
        last = base + _number(data, at + _LAST_DELTA_AT, 4)
        if row and base < found[_NEXT_OFFSET]:
            break
        if checksum(data, at + _ATTRIBUTES_AT, at + size, tables) != _number(data, at + _CHECKSUM_AT, 4) & 0xFFFFFFFF:
            break
        is_append_time = (_number(data, at + _ATTRIBUTES_AT, 2) & _APPEND_TIME) != 0
        time_ms = _number(data, at + (_MAX_TIME_AT if is_append_time else _FIRST_TIME_AT), 8)
        batch = base, last, time_ms, is_append_time
        n_headers = scan_rows(data, at + _RECORDS_AT, at + size, batch, max_value_bytes, table, row, count)
        if n_headers < 0:
            break
        row += count
        at += size
        found[_ROWS], found[_END], found[_NEXT_OFFSET] = row, at, last + 1
        found[_HEADERS] += n_headers
        if at - start + RECORD_BYTES * row + HEADER_BYTES * found[_HEADERS] >= budget_bytes:
            break
    while found[_FROM_ROW] < found[_ROWS] and table[OFFSET, found[_FROM_ROW]] < first_offset:
        found[_FROM_ROW] += 1
    return table, found
