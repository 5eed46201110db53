"""Records of the feature log: the values of the profile features of a batch, one record for each decision. Pure.

The records of a batch are written by one compiled loop, from columns. Their values are the bytes that msgspec makes of
`schemas.records.FeatureRecord`.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from scoring.arrays import Bytes, Flags, Ints, Matrix
from scoring.compilation import compiled
from scoring.profiles.feature_log import VALUE_TYPE
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions.batch_records import IncomingRecord
from stream_app.output.byte_columns import (
    MAX_ESCAPED_BYTES,
    MAX_INTEGER_BYTES,
    MAX_VARINT_BYTES,
    ByteColumn,
    byte_column,
    put,
    put_base64,
    put_integer,
    put_json_text,
    put_length,
    put_nullable,
    start_of,
)
from stream_app.output.outgoing_records import NO_RECORDS, OutgoingRecords

# Pieces of a record that are the same in a batch, by position.
_ID, _TIME, _OFFSET, _INCOMPLETE, _COMPLETE, _END = range(6)
_VALUE_LENGTH_BYTES = 2  # of most values


def feature_records(
    plan: ProfilePlan,
    records: Sequence[IncomingRecord],
    ids: Sequence[str],
    event_time_ms: Ints,
    values: Matrix,
    complete: Flags,
) -> OutgoingRecords:
    """The records to write with the decisions, for the m accepted transactions of a batch.

    records: the accepted transactions, in the order of the other arguments, each of which has m elements or rows.
    ids: of their decisions. values, complete: as in `scoring.profiles.profile_fold.ProfileBatch`.
    """
    if not records:
        return NO_RECORDS
    digest = msgspec.json.encode(plan.digest)
    raw = np.ascontiguousarray(values, dtype=VALUE_TYPE).view(np.uint8).reshape(-1)
    written, ends = _write_features(
        *byte_column([record.key for record in records]),
        *byte_column([transaction.encode() for transaction in ids]),
        event_time_ms,
        np.array([record.offset for record in records], np.int64),
        raw,
        complete,
        *byte_column(
            [
                b'{"transaction_id":',
                b',"event_time_ms":',
                b',"input_offset":',
                b',"profiles":%b,"complete":false,"values":"' % digest,
                b',"profiles":%b,"complete":true,"values":"' % digest,
                b'"}',
            ]
        ),
    )
    partitions = np.array([record.partition for record in records], np.int64)
    return OutgoingRecords(partitions, ByteColumn(written, ends))


@compiled
def _write_features(
    keys: Bytes,
    key_ends: Ints,
    ids: Bytes,
    id_ends: Ints,
    times_ms: Ints,
    offsets: Ints,
    values: Bytes,
    complete: Flags,
    pieces: Bytes,
    piece_ends: Ints,
) -> tuple[Bytes, Ints]:
    n = len(offsets)
    width = len(values) // n
    size = len(keys) + MAX_ESCAPED_BYTES * len(ids)
    fixed = len(pieces) + 4 * (width // 3 + 1) + 2 * MAX_INTEGER_BYTES + 3 * MAX_VARINT_BYTES
    out, ends = np.empty(size + n * fixed, np.uint8), np.empty(n, np.int64)
    at = 0
    for row in range(n):
        at = put_nullable(out, at, keys, start_of(key_ends, row), key_ends[row])
        value = at + _VALUE_LENGTH_BYTES
        at = put(out, value, pieces, 0, piece_ends[_ID])
        at = put_json_text(out, at, ids, start_of(id_ends, row), id_ends[row])
        at = put(out, at, pieces, piece_ends[_ID], piece_ends[_TIME])
        at = put_integer(out, at, times_ms[row])
        at = put(out, at, pieces, piece_ends[_TIME], piece_ends[_OFFSET])
        at = put_integer(out, at, offsets[row])
        piece = _COMPLETE if complete[row] else _INCOMPLETE
        at = put(out, at, pieces, piece_ends[piece - 1], piece_ends[piece])
        at = put_base64(out, at, values, row * width, (row + 1) * width)
        at = put(out, at, pieces, piece_ends[_COMPLETE], piece_ends[_END])
        at = put_length(out, value, at, _VALUE_LENGTH_BYTES)
        out[at] = 0  # no headers
        at += 1
        ends[row] = at
    return out[:at], ends
