"""Plausibility checks: well-formed records that cannot be true. Pure.

`schemas.records` checks types and bounds of single fields. This module checks fields against each other and against
the record's Kafka timestamp: nothing can be counted, decided, reported or requested long before it happens. A program
that keeps the latest of something would be stuck after one record from the future.
"""

from functools import singledispatch

import msgspec

from schemas.records import (
    Decision,
    DriftAlert,
    DriftReport,
    FeatureRecord,
    Label,
    ModelEvent,
    PaneSnapshot,
    RetrainRequest,
)
from schemas.rule_report import RuleReport
from schemas.rules import ListEntry, RulesetRecord
from schemas.tile_records import TileRecord
from schemas.time_units import MINUTE_MS
from scoring.input.record_times import MIN_RECORD_TIME_MS


def latest_time_ms(written_ms: int, now_ms: int, max_ahead_ms: int) -> int:
    """The latest plausible time in a record, in ms since 1970.

    written_ms: the record's Kafka timestamp, -1 for none. now_ms: the reader's clock. max_ahead_ms: tolerated clock
    difference.
    """
    written = min(written_ms, now_ms) if written_ms >= MIN_RECORD_TIME_MS else now_ms
    return written + max_ahead_ms


@singledispatch
def implausibility(record: msgspec.Struct, latest_ms: int) -> str | None:
    """Why a record cannot be true, in one line; None if it is plausible. latest_ms: see `latest_time_ms`."""
    return None


@implausibility.register
def _(record: Decision, latest_ms: int) -> str | None:
    return _ahead("event_time_ms", record.event_time_ms, latest_ms)


@implausibility.register
def _(record: FeatureRecord, latest_ms: int) -> str | None:
    if len(record.values) % 4:
        return f"values have {len(record.values)} bytes, which is no multiple of 4"
    return _ahead("event_time_ms", record.event_time_ms, latest_ms)


@implausibility.register
def _(record: Label, latest_ms: int) -> str | None:
    return _ahead("reported_at_ms", record.reported_at_ms, latest_ms) or (
        None if record.event_time_ms is None else _ahead("event_time_ms", record.event_time_ms, latest_ms)
    )


@implausibility.register
def _(record: TileRecord, latest_ms: int) -> str | None:
    n = len(record.entities) // 8
    if len(record.entities) % 8 or len(record.rows) % 8 or (len(record.rows) % (8 * n) if n else record.rows):
        return f"{len(record.entities)} bytes of entities do not fit {len(record.rows)} bytes of rows"
    return _ahead("until_ms", record.until_ms, latest_ms)


@implausibility.register
def _(record: ModelEvent, latest_ms: int) -> str | None:
    return _ahead("happened_at_ms", record.happened_at_ms, latest_ms)


@implausibility.register
def _(record: DriftReport, latest_ms: int) -> str | None:
    return _ahead("until_ms", record.until_ms, latest_ms)


@implausibility.register
def _(record: DriftAlert, latest_ms: int) -> str | None:
    for evidence in record.evidence:
        if not len(evidence.labels) == len(evidence.reference) == len(evidence.current):
            return f"evidence of {evidence.feature}: the numbers of labels and shares differ"
    return _ahead("happened_at_ms", record.happened_at_ms, latest_ms) or _ahead(
        "opened_at_ms", record.opened_at_ms, latest_ms
    )


@implausibility.register
def _(record: RetrainRequest, latest_ms: int) -> str | None:
    if record.from_ms >= record.until_ms:
        return f"from_ms is {record.from_ms}, not before until_ms, {record.until_ms}"
    # `until_ms` may be in the future, to request all transactions.
    return _ahead("from_ms", record.from_ms, latest_ms) or _ahead("requested_at_ms", record.requested_at_ms, latest_ms)


@implausibility.register
def _(record: RulesetRecord, latest_ms: int) -> str | None:
    if record.after.number != record.number - 1:
        return f"number is {record.number}, but after names record {record.after.number}"
    if record.proposal is not None and not (record.change == "activated" and 1 <= record.proposal < record.number):
        return f"proposal is {record.proposal}, which record {record.number} ({record.change}) cannot approve"
    return None  # Times are not compared with the clock: a record must be valid for every reader, at any time.


@implausibility.register
def _(record: RuleReport, latest_ms: int) -> str | None:
    for counts in record.rules:
        if not (counts.problem is None) == (counts.problem_since_ms is None) == (counts.incident_id is None):
            return f"problem of {counts.name} is {counts.problem}, its incident {counts.incident_id}"
        for labels in (counts.labels, counts.first_labels, counts.recent_labels):
            if bool(labels.frauds + labels.legitimate) != bool(labels.fraud_squares + labels.legitimate_squares):
                return f"weights of the labels of {counts.name} do not fit their squares"
    return _ahead("until_ms", record.until_ms, latest_ms)


@implausibility.register
def _(record: ListEntry, latest_ms: int) -> str | None:
    if (record.rule is None) == (record.effect == "snooze"):
        return f"effect is {record.effect}, but rule is {record.rule}: a snooze names one, other entries do not"
    return None


@implausibility.register
def _(record: PaneSnapshot, latest_ms: int) -> str | None:
    if ahead := _ahead("watermark_ms", record.watermark_ms, latest_ms):
        return ahead
    for pane in record.panes:
        if len(pane.codes) != len(pane.counts) or len(pane.codes) % 4:
            return f"the pane of {pane.start_ms} has {len(pane.codes)} bytes of codes, {len(pane.counts)} of counts"
        if pane.start_ms % MINUTE_MS:
            return f"a pane begins at {pane.start_ms}, which is no minute"
        if pane.first_offset > pane.last_offset:
            return f"the pane of {pane.start_ms} covers offsets {pane.first_offset} to {pane.last_offset}"
        if pane.rows > pane.last_offset - pane.first_offset + 1:
            return f"the pane of {pane.start_ms} has {pane.rows} rows of fewer offsets"
        if ahead := _ahead("start_ms of a pane", pane.start_ms, latest_ms):
            return ahead
    return None


def _ahead(field: str, time_ms: int, latest_ms: int) -> str | None:
    return f"{field} is {time_ms}, later than the latest plausible time {latest_ms}" if time_ms > latest_ms else None
