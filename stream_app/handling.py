"""From payloads to decisions. Pure: no Kafka, no Faust, no clock, no network.

Every record that goes in comes out once, as a decision or as a dead letter, in the order of its partition.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from monitoring.model import ScoringModel
from monitoring.reasons import strongest_reasons
from schemas.cleaning import Cleaned, clean_payloads
from schemas.dataset import Dataset
from schemas.decision import OUTCOMES, outcome_codes, thresholds
from schemas.events import Decision, Reason, Rejection
from schemas.features import featurize
from stream_app import dead_letters

DECISION_IDS = uuid.UUID("f7810325-5a11-50ee-ad6d-cefd1ddac460")  # UUIDv5 of "tamiz:decision" among URLs
TRANSACTION_ID_HEADER = "tamiz-transaction-id"
OFFSET_HEADER = "tamiz-offset"
PASSED_ON = frozenset({"traceparent", "tracestate"})

Headers = Sequence[tuple[str, bytes]]
Matrix = npt.NDArray[np.float32]


class Incoming(Protocol):
    """A consumed record, as aiokafka gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Outgoing(NamedTuple):
    """A record to produce, to the partition its transaction came from."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Handled(NamedTuple):
    """What became of a batch. `decisions` and `dead_letters` together are as long as the batch."""

    decisions: list[Outgoing]
    dead_letters: list[Outgoing]
    outcomes: dict[str, int]  # how many decisions of each outcome
    rejections: list[Rejection]


class Policy(NamedTuple):
    """What stays the same from batch to batch."""

    dataset: Dataset
    group: str
    max_payload_bytes: int


def handle(records: Sequence[Incoming], model: ScoringModel, policy: Policy) -> Handled:
    """Clean, score and decide a batch.

    records: of any partitions, each partition's in offset order.
    """
    cleaned = clean_payloads(policy.dataset, [r.value for r in records], max_payload_bytes=policy.max_payload_bytes)
    decisions, outcomes = _decide(records, cleaned, model)
    letters = [_dead_letter(records[r.row], r, policy.group) for r in cleaned.rejections]
    return Handled(decisions, letters, outcomes, list(cleaned.rejections))


def handle_carefully(records: Sequence[Incoming], model: ScoringModel, policy: Policy) -> Handled:
    """As `handle`, but one record that our own code cannot bear does not stop its partition for good.

    A batch that raises is handled record by record; what still raises alone becomes a dead letter of code
    `internal-error`. When nothing in a batch of several can be handled the fault is not a record's: then it raises.
    """
    try:
        return handle(records, model, policy)
    except Exception:
        if len(records) > 1:
            parts = [_alone(r, model, policy) for r in records]
            if any(p.decisions for p in parts):
                return _joined(parts)
        raise


def _alone(record: Incoming, model: ScoringModel, policy: Policy) -> Handled:
    try:
        return handle([record], model, policy)
    except Exception as error:
        wanted = "nothing: this is a fault of Tamiz; please report it, then redrive the record"
        rejection = Rejection(row=0, code="internal-error", field=None, value=repr(error)[:100], wanted=wanted)
        return Handled([], [_dead_letter(record, rejection, policy.group)], {}, [rejection])


def _joined(parts: Iterable[Handled]) -> Handled:
    joined = Handled([], [], {}, [])
    for part in parts:
        joined.decisions.extend(part.decisions)
        joined.dead_letters.extend(part.dead_letters)
        joined.rejections.extend(part.rejections)
        for outcome, count in part.outcomes.items():
            joined.outcomes[outcome] = joined.outcomes.get(outcome, 0) + count
    return joined


def _decide(
    records: Sequence[Incoming], cleaned: Cleaned, model: ScoringModel
) -> tuple[list[Outgoing], dict[str, int]]:
    rows = cleaned.rows.tolist()
    if not rows:
        return [], {}
    manifest = model.manifest
    matrix = featurize(manifest.features, cleaned.columns)
    scores = model.score(matrix)
    codes = outcome_codes(scores, manifest.points)
    limits = thresholds(manifest.points)
    encode = msgspec.json.Encoder().encode
    reasons = _reasons(cleaned, matrix, codes, model)
    source = f"/tamiz/{manifest.model}/{model.version}".encode()
    decisions = []
    for row, declared, score, code, event_time_ms in zip(
        rows, cleaned.transaction_ids, scores.tolist(), codes.tolist(), cleaned.event_time_ms.tolist(), strict=True
    ):
        record = records[row]
        transaction = declared or transaction_id(record)
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
        headers = _decision_headers(record, decision, source)
        decisions.append(Outgoing(record.partition, record.key, encode(decision), headers))
    counts = np.bincount(codes, minlength=len(OUTCOMES)).tolist()
    return decisions, dict(zip(OUTCOMES, counts, strict=True))


def _reasons(
    cleaned: Cleaned, matrix: Matrix, codes: npt.NDArray[np.intp], model: ScoringModel
) -> Iterator[tuple[Reason, ...]]:
    # Contributions cost many times a score: they are computed for what is not approved, and for nothing else.
    flagged = np.flatnonzero(codes)
    if not len(flagged):
        return iter(())
    contributions = model.contributions(matrix[flagged])
    return iter(strongest_reasons(model.manifest.features, contributions, cleaned.columns, flagged))


def transaction_id(record: Incoming) -> str:
    """What a transaction is called when its payload does not say: its header, else where it stands."""
    for name, value in record.headers:
        if name == TRANSACTION_ID_HEADER and value:
            return value.decode(errors="replace")
    return f"{record.topic}-{record.partition}-{record.offset}"


def decision_id(transaction: str) -> str:
    """UUIDv5 (RFC 9562) of the transaction id alone: a redelivery scored by a newer model is still recognised.

    >>> decision_id("transactions-0-0")
    '46dd113b-253c-5c14-bac3-de9eb24f61a2'
    """
    return str(uuid.uuid5(DECISION_IDS, transaction))


def _decision_headers(record: Incoming, decision: Decision, source: bytes) -> list[tuple[str, bytes]]:
    # CloudEvents 1.0, Kafka protocol binding, binary content mode.
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", decision.decision_id.encode()),
        ("ce_source", source),
        ("ce_type", b"tamiz.decision.v1"),
        ("ce_time", _rfc3339(decision.event_time_ms)),
        ("content-type", b"application/json"),
        (OFFSET_HEADER, b"%d" % record.offset),
    ]
    headers += [h for h in record.headers if h[0] in PASSED_ON]
    return headers


def _rfc3339(time_ms: int) -> bytes:
    return (
        datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
    )


def _dead_letter(record: Incoming, rejection: Rejection, group: str) -> Outgoing:
    headers = dead_letters.headers(rejection, record, group=group, transaction_id=transaction_id(record))
    return Outgoing(record.partition, record.key, record.value, headers)
