"""From payloads to decisions. Pure: no Kafka, no Faust, no clock, no network.

Every record that goes in comes out once, as a decision or as a dead letter, in the order of its partition.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from monitoring.counting.counted_features import encode_dead_letters, encode_transactions
from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.panes import NO_TIME_MS
from schemas.dataset.declaration import Dataset
from schemas.records import Decision, Rejection
from schemas.time_units import HOUR_MS
from schemas.transaction_ids import TOPIC_ID_HEADER, sent_id, transaction_id
from scoring.arrays import Indices, Ints
from scoring.decision import OUTCOMES, decision_id, thresholds
from scoring.input.admission import reject_records
from scoring.input.cleaning import CleanedBatch, clean_payloads
from scoring.input.record_times import NO_TIMESTAMP, RecordTimes
from scoring.scorer import ScoredRows, decide
from stream_app.decisions import dead_letters
from stream_app.decisions.id_conflicts import CONFLICT_HEADER, RecentIds
from stream_app.decisions.probe import Probe, good_payload

OFFSET_HEADER = "tamiz-offset"
TRACE_HEADERS = {"traceparent": 55, "tracestate": 512}  # forwarded, the first of each, up to W3C's lengths in bytes
MAX_DECISION_BYTES = 32_768  # a decision as a record: all that it holds is bounded
GROUP_HEADER = "tamiz-group"  # consumer group of the worker: another group's answers are not ours

Headers = Sequence[tuple[str, bytes | None]]


class IncomingRecord(Protocol):
    """A consumed record, as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class OutgoingRecord(NamedTuple):
    """A record to produce, to the partition its transaction came from."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class CountedCodes(NamedTuple):
    """A batch as drift is counted, a row a record."""

    codes: Indices  # shape (n, n_features of the model's layout)
    event_times_ms: Ints  # shape (n,); NO_TIME_MS for a dead letter


class HandlerResult(NamedTuple):
    """What became of a batch. `decisions` and `dead_letters` together are as long as the batch."""

    decisions: list[OutgoingRecord]
    dead_letters: list[OutgoingRecord]
    outcomes: dict[str, int]  # how many decisions of each outcome
    rejections: list[Rejection]
    cuts: Mapping[str, int]  # how many dead letters lack what, and how many trace headers are not forwarded
    conflicts: Sequence[OutgoingRecord]  # decisions under an id that an earlier one has, of another payload
    coded: CountedCodes | None  # None when the policy does not count


class HandlerPolicy(NamedTuple):
    """What stays the same from batch to batch."""

    dataset: Dataset
    group: str
    max_payload_bytes: int
    counting: bool  # whether what was scored is coded, to be counted for drift
    max_letter_bytes: int = 4 * 1024 * 1024  # of a dead letter, as its topic takes it
    topic_id: str = ""  # incarnation of the transactions topic (`schemas.transaction_ids.place`)
    max_event_time_ahead_ms: int = HOUR_MS  # of the record's own time; further ahead is a dead letter


def handle(
    records: Sequence[IncomingRecord], model: MonitoredModel, policy: HandlerPolicy, recent: RecentIds | None = None
) -> HandlerResult:
    """Clean, score and decide a batch.

    records: of any partitions, each partition's in offset order.
    recent: ids that were decided lately, to find those that are given twice; it notes those of this batch.
    """
    unfit = reject_records(records, policy.max_payload_bytes)
    payloads = [r.value for r in records]
    for row in unfit:
        payloads[row] = None
    # What was not consumed from a topic has no record time.
    times = RecordTimes([getattr(r, "timestamp", NO_TIMESTAMP) for r in records], policy.max_event_time_ahead_ms)
    cleaned = clean_payloads(policy.dataset, payloads, max_payload_bytes=policy.max_payload_bytes, record_times=times)
    rejections = [unfit.get(r.row, r) for r in cleaned.rejections] if unfit else list(cleaned.rejections)
    decided = decide(model, cleaned)
    counts = np.bincount(decided.outcomes, minlength=len(OUTCOMES)).tolist()
    cuts: Counter[str] = Counter()
    decisions, conflicts = _decisions(records, cleaned, model, decided, policy, recent, cuts)
    return HandlerResult(
        decisions=decisions,
        dead_letters=[_dead_letter(records[r.row], r, policy, cuts) for r in rejections],
        outcomes=dict(zip(OUTCOMES, counts, strict=True)),
        rejections=rejections,
        coded=_code(cleaned, model, decided) if policy.counting else None,
        cuts=cuts,
        conflicts=conflicts,
    )


def handle_carefully(
    records: Sequence[IncomingRecord], model: MonitoredModel, policy: HandlerPolicy, recent: RecentIds | None = None
) -> HandlerResult:
    """As `handle`, but one record that our own code cannot bear does not stop its partition for good.

    A batch that raises is handled record by record; what still raises alone becomes a dead letter of code
    `internal-error`. When nothing in the batch can be handled, and a payload made to be good cannot either, the fault
    is not a record's: then it raises.
    """
    try:
        return handle(records, model, policy, recent)
    except Exception:
        parts = [_alone(r, model, policy, recent) for r in records]
        if any(p.decisions for p in parts) or _handles_good_payload(model, policy):
            return _joined(parts)
        raise


def _handles_good_payload(model: MonitoredModel, policy: HandlerPolicy) -> bool:
    probe = Probe(value=good_payload(policy.dataset))
    try:
        return bool(handle([probe], model, policy).decisions)
    except Exception:
        return False


def _alone(
    record: IncomingRecord, model: MonitoredModel, policy: HandlerPolicy, recent: RecentIds | None
) -> HandlerResult:
    try:
        return handle([record], model, policy, recent)
    except Exception as error:
        wanted = "nothing: this is a fault of Tamiz; please report it, then redrive the record"
        rejection = Rejection(row=0, code="internal-error", field=None, value=repr(error)[:100], expected=wanted)
        coded = CountedCodes(encode_dead_letters(model.bins, 1), np.array([NO_TIME_MS])) if policy.counting else None
        cuts: Counter[str] = Counter()
        return HandlerResult([], [_dead_letter(record, rejection, policy, cuts)], {}, [rejection], cuts, (), coded)


def _joined(parts: Sequence[HandlerResult]) -> HandlerResult:
    outcomes: Counter[str] = Counter()
    cuts: Counter[str] = Counter()
    for part in parts:
        outcomes.update(part.outcomes)
        cuts.update(part.cuts)
    coded = [part.coded for part in parts if part.coded is not None]
    return HandlerResult(
        decisions=[d for part in parts for d in part.decisions],
        dead_letters=[d for part in parts for d in part.dead_letters],
        outcomes=dict(outcomes),
        rejections=[r for part in parts for r in part.rejections],
        coded=CountedCodes(*(np.concatenate(arrays) for arrays in zip(*coded, strict=True))) if coded else None,
        cuts=cuts,
        conflicts=[c for part in parts for c in part.conflicts],
    )


def _code(cleaned: CleanedBatch, model: MonitoredModel, decided: ScoredRows) -> CountedCodes:
    codes = encode_dead_letters(model.bins, cleaned.n)
    codes[cleaned.rows] = encode_transactions(
        model.bins, model.manifest, cleaned.columns, decided.matrix, decided.scores, decided.outcomes
    )
    times = np.full(cleaned.n, NO_TIME_MS, dtype=np.int64)
    times[cleaned.rows] = cleaned.event_time_ms
    return CountedCodes(codes, times)


def _decisions(
    records: Sequence[IncomingRecord],
    cleaned: CleanedBatch,
    model: MonitoredModel,
    decided: ScoredRows,
    policy: HandlerPolicy,
    recent: RecentIds | None,
    cuts: Counter[str],
) -> tuple[list[OutgoingRecord], list[OutgoingRecord]]:
    manifest = model.manifest
    limits = thresholds(manifest.points)
    encode = msgspec.json.Encoder().encode
    reasons = iter(decided.reasons)
    # CloudEvents 1.0, Kafka protocol binding, binary content mode.
    same: list[tuple[str, bytes | None]] = [
        ("ce_specversion", b"1.0"),
        ("ce_source", f"/tamiz/{manifest.model}/{model.version}".encode()),
        ("ce_type", b"tamiz.decision.v1"),
        ("content-type", b"application/json"),
        (GROUP_HEADER, policy.group.encode()),
        *([(TOPIC_ID_HEADER, policy.topic_id.encode())] if policy.topic_id else []),
    ]
    decisions: list[OutgoingRecord] = []
    conflicts: list[OutgoingRecord] = []
    for row, declared, score, code, event_time_ms, time in zip(
        cleaned.rows.tolist(),
        cleaned.transaction_ids,
        decided.scores.tolist(),
        decided.outcomes.tolist(),
        cleaned.event_time_ms.tolist(),
        _rfc3339(cleaned.event_time_ms),
        strict=True,
    ):
        record = records[row]
        transaction = declared or transaction_id(record, policy.topic_id)
        decision = Decision(
            decision_id=decision_id(transaction),
            transaction_id=transaction,
            score=score,
            outcome=OUTCOMES[code],  # type: ignore[arg-type]
            threshold=limits[code],
            reasons=next(reasons) if code else (),
            model=manifest.model,
            model_version=model.version,
            event_time_ms=event_time_ms,
        )
        own = ("ce_id", decision.decision_id.encode()), ("ce_time", time), (OFFSET_HEADER, b"%d" % record.offset)
        headers = [*same, *own]
        if record.headers:
            headers += _trace_headers(record.headers, cuts)
        made = OutgoingRecord(record.partition, record.key, encode(decision), headers)
        decisions.append(made)
        # A default id is a place, which no other transaction has.
        if recent is not None and (declared or (record.headers and sent_id(record.headers))):
            first = recent.conflict(record.partition, transaction, record.value or b"", record.offset)
            if first is not None:
                headers.append((CONFLICT_HEADER, b"%d" % first))
                conflicts.append(made)
    return decisions, conflicts


def _trace_headers(incoming: Headers, cuts: Counter[str]) -> list[tuple[str, bytes | None]]:
    kept: dict[str, bytes] = {}
    for name, value in incoming:
        if name in TRACE_HEADERS:
            if value is not None and name not in kept and len(value) <= TRACE_HEADERS[name]:
                kept[name] = value
            else:
                cuts["trace"] += 1
    return list(kept.items())


def _rfc3339(times_ms: Ints) -> list[bytes]:
    written: list[bytes] = np.datetime_as_string(times_ms.astype("datetime64[ms]"), timezone="UTC").astype("S").tolist()
    return written


def _dead_letter(
    record: IncomingRecord, rejection: Rejection, policy: HandlerPolicy, cuts: Counter[str]
) -> OutgoingRecord:
    ours = dead_letters.headers(
        rejection,
        record,
        group=policy.group,
        transaction_id=transaction_id(record, policy.topic_id),
        topic_id=policy.topic_id,
    )
    letter = dead_letters.fitted(record.key, record.value, ours, record.headers, policy.max_letter_bytes)
    cuts.update(letter.cuts)
    return OutgoingRecord(record.partition, letter.key, letter.value, letter.headers)
