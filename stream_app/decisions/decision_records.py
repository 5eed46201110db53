"""Decision records: the decision as JSON, and headers that name its transaction, its model and its trace. Pure."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from monitoring.counting.monitored_model import MonitoredModel
from schemas.records import Decision
from schemas.transaction_ids import TOPIC_ID_HEADER
from scoring.arrays import Ints
from scoring.decision import OUTCOMES, decision_id, thresholds
from scoring.scorer import ScoredRows
from stream_app.decisions.batch_records import Headers, IncomingRecord, OutgoingRecord

OFFSET_HEADER = "tamiz-offset"
TRACE_HEADERS = {
    "traceparent": 55,
    "tracestate": 512,
}  # forwarded, the first of each, up to these lengths in bytes (W3C)
MAX_DECISION_BYTES = 32_768  # largest decision record; all of its fields are bounded
GROUP_HEADER = "tamiz-group"  # consumer group of the worker


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
) -> list[OutgoingRecord]:
    """One record for each accepted transaction of a batch, in order.

    records: the accepted transactions. ids: of them. topic_id: Kafka's id of the transactions topic.
    truncated_parts: counts the trace headers that are not forwarded.
    """
    manifest = model.manifest
    limits = thresholds(manifest.points)
    encode = msgspec.json.Encoder().encode
    reasons = iter(decided.reasons)
    # CloudEvents 1.0, Kafka protocol binding, binary content mode.
    common: list[tuple[str, bytes | None]] = [
        ("ce_specversion", b"1.0"),
        ("ce_source", f"/tamiz/{manifest.model}/{model.version}".encode()),
        ("ce_type", b"tamiz.decision.v1"),
        ("content-type", b"application/json"),
        (GROUP_HEADER, consumer_group.encode()),
        *([(TOPIC_ID_HEADER, topic_id.encode())] if topic_id else []),
    ]
    decisions: list[OutgoingRecord] = []
    for record, transaction, score, code, time_ms, time in zip(
        records,
        ids,
        decided.scores.tolist(),
        decided.outcomes.tolist(),
        event_time_ms.tolist(),
        _rfc3339(event_time_ms),
        strict=True,
    ):
        decision = Decision(
            decision_id=decision_id(transaction),
            transaction_id=transaction,
            score=score,
            outcome=OUTCOMES[code],  # type: ignore[arg-type]
            threshold=limits[code],
            reasons=next(reasons) if code else (),
            model=manifest.model,
            model_version=model.version,
            event_time_ms=time_ms,
        )
        own = ("ce_id", decision.decision_id.encode()), ("ce_time", time), (OFFSET_HEADER, b"%d" % record.offset)
        headers = [*common, *own]
        if record.headers:
            headers += _trace_headers(record.headers, truncated_parts)
        decisions.append(OutgoingRecord(record.partition, record.key, encode(decision), headers))
    return decisions


def _trace_headers(incoming: Headers, truncated_parts: Counter[str]) -> list[tuple[str, bytes | None]]:
    kept: dict[str, bytes] = {}
    for name, value in incoming:
        if name in TRACE_HEADERS:
            if value is not None and name not in kept and len(value) <= TRACE_HEADERS[name]:
                kept[name] = value
            else:
                truncated_parts["trace"] += 1
    return list(kept.items())


def _rfc3339(times_ms: Ints) -> list[bytes]:
    texts: list[bytes] = np.datetime_as_string(times_ms.astype("datetime64[ms]"), timezone="UTC").astype("S").tolist()
    return texts
