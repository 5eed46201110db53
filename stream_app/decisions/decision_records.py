"""Decision records: the decision as JSON, and headers that name its transaction, its model and its trace. Pure.

The records of a batch are written by one compiled loop, from columns. Their values are the bytes that msgspec makes of
`schemas.records.Decision`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec
import numpy as np

from monitoring.counting.monitored_model import MonitoredModel
from schemas.transaction_ids import TOPIC_ID_HEADER
from scoring.arrays import Bytes, Indices, Ints
from scoring.compilation import compiled
from scoring.decision import DECIDERS, OUTCOMES, OperatingPoints, thresholds
from scoring.scorer import ScoredRows
from stream_app.decisions.batch_records import Headers, IncomingRecord
from stream_app.decisions.decision_headers import GROUP_HEADER, OFFSET_HEADER, TRACE_HEADERS
from stream_app.decisions.id_conflicts import CONFLICT_HEADER
from stream_app.output.byte_columns import (
    MAX_ESCAPED_BYTES,
    MAX_INTEGER_BYTES,
    MAX_VARINT_BYTES,
    TIME_BYTES,
    UUID_BYTES,
    ByteColumn,
    byte_column,
    message_size,
    put,
    put_decision_id,
    put_integer,
    put_json_text,
    put_length,
    put_nullable,
    put_time,
    put_varint,
    start_of,
)
from stream_app.output.outgoing_records import NO_RECORDS, OutgoingRecords, encode_headers, nullable, varint

MAX_DECISION_BYTES = 131_072  # largest decision record; all of its fields are bounded

# Pieces of a record that are the same in a batch, by position.
_ID, _TRANSACTION, _SCORE = 0, 1, 2
_REASONS, _MODEL = 3, 7  # of the first, one for each outcome of the model
_COMMON, _CE_ID, _CE_TIME, _OFFSET = 8, 9, 10, 11  # headers
_OUTCOME = 12  # one for each outcome, outcome of the model and decider
_N_OUTCOMES, _N_DECIDERS = len(OUTCOMES), len(DECIDERS)
_VALUE_LENGTH_BYTES = 2  # of most values
_MAX_NUMBERS_BYTES = 2 * MAX_INTEGER_BYTES + TIME_BYTES + 4 * MAX_VARINT_BYTES + 8  # and brackets


def decision_records(
    records: Sequence[IncomingRecord],
    ids: Sequence[str],
    event_time_ms: Ints,
    decided: ScoredRows,
    model: MonitoredModel,
    *,
    consumer_group: str,
    topic_id: str,
    truncated_parts: Counter[str],
    conflicts: Mapping[int, int],
) -> OutgoingRecords:
    """One record for each accepted transaction of a batch, in order.

    records: the accepted transactions. ids: of them. topic_id: Kafka's id of the transactions topic.
    truncated_parts: counts the trace headers that are not forwarded. conflicts: row -> offset of the earlier
    transaction with its id.
    """
    if not records:
        return NO_RECORDS
    encode = msgspec.json.Encoder().encode
    own = {row: _trace_headers(r.headers, truncated_parts) for row, r in enumerate(records) if r.headers}
    for row, first in conflicts.items():
        own[row] = [*own.get(row, ()), (CONFLICT_HEADER, b"%d" % first)]
    counts = np.zeros(len(records), np.int64)
    for row, headers in own.items():
        counts[row] = len(headers)
    own_headers = byte_column([encode_headers(own[row]) for row in sorted(own) if own[row]])
    manifest, ruling = model.manifest, decided.ruling
    pieces, common = _pieces(
        manifest.model,
        model.version,
        manifest.points,
        ruling.ruleset,
        ruling.exploration_share,
        consumer_group,
        topic_id,
    )
    written, ends = _write_decisions(
        *byte_column([record.key for record in records]),
        *byte_column([transaction.encode() for transaction in ids]),
        np.frombuffer(encode(decided.scores.tolist()), np.uint8),
        ruling.outcomes,
        decided.model_outcomes,
        ruling.deciders,
        ruling.matches.codes,
        ruling.matches.ends,
        *byte_column([encode(match) for match in ruling.matches.table]),
        *byte_column([encode(reasons) for reasons in decided.reasons]),
        event_time_ms,
        np.array([record.offset for record in records], np.int64),
        *own_headers,
        counts,
        *pieces,
        common,
    )
    partitions = np.array([record.partition for record in records], np.int64)
    return OutgoingRecords(partitions, ByteColumn(written, ends))


@lru_cache(maxsize=8)
def _pieces(
    model: str,
    version: int,
    points: OperatingPoints,
    ruleset: int | None,
    exploration_share: float | None,
    consumer_group: str,
    topic_id: str,
) -> tuple[ByteColumn, int]:
    """The pieces of a record that are the same in a batch, and the number of common headers."""
    encode = msgspec.json.encode
    # CloudEvents 1.0, Kafka protocol binding, binary content mode.
    common: list[tuple[str, bytes | None]] = [
        ("ce_specversion", b"1.0"),
        ("ce_source", f"/tamiz/{model}/{version}".encode()),
        ("ce_type", b"tamiz.decision.v1"),
        ("content-type", b"application/json"),
        (GROUP_HEADER, consumer_group.encode()),
        *([(TOPIC_ID_HEADER, topic_id.encode())] if topic_id else []),
    ]
    pieces = byte_column(
        [
            b'{"decision_id":"',
            b'","transaction_id":',
            b',"score":',
            *(b'],"threshold":%b,"reasons":' % encode(limit) for limit in thresholds(points)),
            b',"model":%b,"model_version":%d,"event_time_ms":' % (encode(model), version),
            encode_headers(common),
            nullable(b"ce_id") + varint(UUID_BYTES),
            nullable(b"ce_time") + varint(TIME_BYTES),
            nullable(OFFSET_HEADER.encode()),
            *(
                b',"outcome":"%b","model_outcome":"%b","decided_by":"%b","exploration_share":%b,"ruleset":%b,"matches":['
                % (
                    outcome.encode(),
                    of_model.encode(),
                    by.encode(),
                    encode(exploration_share if by == "exploration" else None),
                    encode(ruleset),
                )
                for outcome in OUTCOMES
                for of_model in OUTCOMES
                for by in DECIDERS
            ),
        ]
    )
    return pieces, len(common)


@compiled
def _write_decisions(
    keys: Bytes,
    key_ends: Ints,
    ids: Bytes,
    id_ends: Ints,
    scores: Bytes,  # a JSON array
    outcomes: Indices,
    model_outcomes: Indices,
    deciders: Indices,
    match_codes: Indices,
    match_code_ends: Ints,
    matches: Bytes,  # by code
    match_ends: Ints,
    reasons: Bytes,  # of each row that the model does not approve
    reason_ends: Ints,
    times_ms: Ints,
    offsets: Ints,
    headers: Bytes,  # of each row that has headers of its own
    header_ends: Ints,
    header_counts: Ints,
    pieces: Bytes,
    piece_ends: Ints,
    common_headers: int,
) -> tuple[Bytes, Ints]:
    n = len(offsets)
    longest = 0
    for row in range(n):
        longest = max(longest, id_ends[row] - start_of(id_ends, row))
    message = np.empty(message_size(longest), np.uint8)
    words, state = np.empty(80, np.uint32), np.empty(5, np.uint32)
    decision_id = np.empty(UUID_BYTES, np.uint8)
    size = len(keys) + MAX_ESCAPED_BYTES * len(ids) + len(scores) + len(reasons) + len(headers)
    for code in match_codes:
        size += match_ends[code] - start_of(match_ends, code) + 1
    longest = 0
    for piece in range(_OUTCOME, len(piece_ends)):
        longest = max(longest, piece_ends[piece] - piece_ends[piece - 1])
    size += n * (piece_ends[_OUTCOME - 1] + longest + 2 * UUID_BYTES + _MAX_NUMBERS_BYTES)
    out = np.empty(size, np.uint8)
    ends = np.empty(n, np.int64)
    at, score, reason, own = 0, 1, 0, 0
    for row in range(n):
        id_start, id_end = start_of(id_ends, row), id_ends[row]
        put_decision_id(decision_id, 0, ids, id_start, id_end, message, words, state)
        at = put_nullable(out, at, keys, start_of(key_ends, row), key_ends[row])
        value = at + _VALUE_LENGTH_BYTES
        at = put(out, value, pieces, 0, piece_ends[_ID])
        at = put(out, at, decision_id, 0, UUID_BYTES)
        at = put(out, at, pieces, piece_ends[_ID], piece_ends[_TRANSACTION])
        at = put_json_text(out, at, ids, id_start, id_end)
        at = put(out, at, pieces, piece_ends[_TRANSACTION], piece_ends[_SCORE])
        while scores[score] != 44 and scores[score] != 93:
            out[at] = scores[score]
            at += 1
            score += 1
        score += 1
        piece = _OUTCOME + (outcomes[row] * _N_OUTCOMES + model_outcomes[row]) * _N_DECIDERS + deciders[row]
        at = put(out, at, pieces, piece_ends[piece - 1], piece_ends[piece])
        first_match = start_of(match_code_ends, row)
        for i in range(first_match, match_code_ends[row]):
            if i > first_match:
                out[at] = 44
                at += 1
            code = match_codes[i]
            at = put(out, at, matches, start_of(match_ends, code), match_ends[code])
        piece = _REASONS + model_outcomes[row]
        at = put(out, at, pieces, piece_ends[piece - 1], piece_ends[piece])
        if model_outcomes[row]:
            at = put(out, at, reasons, start_of(reason_ends, reason), reason_ends[reason])
            reason += 1
        else:
            out[at], out[at + 1] = 91, 93
            at += 2
        at = put(out, at, pieces, piece_ends[_MODEL - 1], piece_ends[_MODEL])
        at = put_integer(out, at, times_ms[row])
        out[at] = 125
        at = put_length(out, value, at + 1, _VALUE_LENGTH_BYTES)
        at = put_varint(out, at, common_headers + 3 + header_counts[row])
        at = put(out, at, pieces, piece_ends[_COMMON - 1], piece_ends[_COMMON])
        at = put(out, at, pieces, piece_ends[_CE_ID - 1], piece_ends[_CE_ID])
        at = put(out, at, decision_id, 0, UUID_BYTES)
        at = put(out, at, pieces, piece_ends[_CE_TIME - 1], piece_ends[_CE_TIME])
        at = put_time(out, at, times_ms[row])
        at = put(out, at, pieces, piece_ends[_OFFSET - 1], piece_ends[_OFFSET])
        at = put_length(out, at + 1, put_integer(out, at + 1, offsets[row]), 1)
        if header_counts[row]:
            at = put(out, at, headers, start_of(header_ends, own), header_ends[own])
            own += 1
        ends[row] = at
    return out[:at], ends


def _trace_headers(incoming: Headers, truncated_parts: Counter[str]) -> list[tuple[str, bytes | None]]:
    kept: dict[str, bytes] = {}
    for name, value in incoming:
        if name in TRACE_HEADERS:
            if value is not None and name not in kept and len(value) <= TRACE_HEADERS[name]:
                kept[name] = value
            else:
                truncated_parts["trace"] += 1
    return list(kept.items())
