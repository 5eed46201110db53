"""Arrays of a scan: the plan of a data set, and the buffers of a batch."""

from typing import NamedTuple

import numpy as np

from scoring.arrays import Bytes, Flags, Floats, Ints

NUMBER, OTHER, MAPPING, TIME, IDENTIFIER = range(5)  # kinds of an output
TEXT, NUMERIC, LITERAL, NESTED = range(4)  # kinds of a token
MAX_POSITIONS = 64  # of a field in a payload that are remembered
MAX_UNKNOWN = 32  # undeclared fields of a payload
MAX_ID_LENGTH = 200
ABSENT, MISSED = -1, -2  # instead of the place of an identifier


class ScanPlan(NamedTuple):
    """What the loops need of a data set. An output is a column, or several, that one field becomes in one role."""

    names: Bytes  # of the fields, joined
    name_ends: Ints  # shape (n_names + 1,)
    output_ends: Ints  # shape (n_names + 1,): end of each name's outputs
    kinds: Ints  # shape (n_outputs,), as all below
    null_ok: Flags  # whether a row without the field is accepted
    direct: Ints  # what is parsed where it is found: 0 for nothing; marks of a number, texts of a time
    lows: Floats
    highs: Floats
    excluded_ends: Ints  # shape (n_outputs + 1,): end of each output's excluded numbers
    column_ends: Ints  # shape (n_outputs + 1,): end of each output's columns; of an identifier, none
    places: Ints  # of an identifier: its row in the places
    excluded: Floats  # numbers that mean a missing value
    nulls: Floats  # shape (n_columns,): value of each column without the field
    missing: Bytes  # texts of missing identifiers, joined
    missing_ends: Ints
    time_column: int  # local time; the next two hold its offset, and whether it states a time of day
    hour_column: int  # value of the hour field; -1 without one
    is_utc: bool  # whether times without an offset are in UTC
    derived_column: int  # hour; the next one holds the day of the week


class ScanBuffers(NamedTuple):
    """Output of a scan of n rows."""

    fast: Flags  # shape (n,): rows that are scanned; all others are left to the general path
    values: Floats  # shape (n_columns, n)
    misses: Ints  # shape (n_outputs * n, 4): output, row, start and end of each token whose value is not known
    id_text: Bytes  # shape (n_identifiers, n_bytes): identifiers, each followed by a line feed
    id_ends: Ints  # shape (n_identifiers,)
    id_places: Ints  # shape (n_identifiers, 2): of one row
    event_time_ms: Ints  # shape (n,)
    n_misses: Ints  # shape (1,)
    seen: Ints  # shape (n_names,): row that last had the field
    unknown: Ints  # shape (MAX_UNKNOWN, 2): place and size of the undeclared keys of a row


def scan_buffers(n: int, n_outputs: int, n_identifiers: int, n_names: int) -> ScanBuffers:
    """Buffers for up to n rows, without those that are returned."""
    return ScanBuffers(
        fast=np.empty(0, np.bool_),
        values=np.empty((0, 0)),
        misses=np.empty((n * n_outputs, 4), np.int64),
        id_text=np.empty((n_identifiers, n * (MAX_ID_LENGTH + 1)), np.uint8),
        id_ends=np.zeros(n_identifiers, np.int64),
        id_places=np.empty((n_identifiers, 2), np.int64),
        event_time_ms=np.empty(0, np.int64),
        n_misses=np.zeros(1, np.int64),
        seen=np.empty(n_names, np.int64),
        unknown=np.empty((MAX_UNKNOWN, 2), np.int64),
    )
