"""One decision, found again and made again: the same transaction, the same model version, the same bytes."""

import msgspec
from kafka import KafkaConsumer, TopicPartition

from schemas.dataset import load_dataset
from schemas.decision import decision_id
from schemas.errors import TamizError
from schemas.events import Decision
from schemas.settings import Settings
from stream_app.clients import arguments, reaching
from stream_app.handling import OFFSET_HEADER, Policy, handle
from stream_app.model_store import ModelStore
from stream_app.reading import Record, read_to_end

FETCH_WITHIN_MS = 10_000


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What `tamiz explain` found."""

    decision: Decision  # as it stands on the topic, the latest of its id
    transaction: str  # the payload, as text
    origin: str  # topic-partition-offset of the transaction
    reproduced: bool  # made again, it is the same bit for bit
    again: Decision | None  # what was made again, where that is something else


def explain(settings: Settings, named: str) -> Explanation:
    """Find a decision on its topic, its transaction on its own, and make it again.

    named: the decision's id or its transaction's. Raises TamizError when either is not there (any more),
    ModelUnavailable when its model version is not.
    """
    found = _find(settings, named)
    decision = msgspec.json.decode(found.value or b"", type=Decision)
    offset = int(dict(found.headers)[OFFSET_HEADER])
    record = _fetch(settings, found.partition, offset)
    dataset = load_dataset(settings.dataset)
    model = ModelStore(settings, dataset).at_version(decision.model_version)
    policy = Policy(dataset=dataset, group=settings.group, max_payload_bytes=settings.max_payload_bytes, counting=False)
    handled = handle([record], model, policy)
    again = handled.decisions[0].value if handled.decisions else None
    same = again == found.value
    return Explanation(
        decision=decision,
        transaction=(record.value or b"").decode(errors="replace"),
        origin=f"{record.topic}-{record.partition}-{record.offset}",
        reproduced=same,
        again=None if same or again is None else msgspec.json.decode(again, type=Decision),
    )


def _find(settings: Settings, named: str) -> Record:
    wanted = {("ce_id", named.encode()), ("ce_id", decision_id(named).encode())}
    found: Record | None = None
    for records in read_to_end(settings.bootstrap, settings.decisions_topic):
        for record in records:
            if not wanted.isdisjoint(record.headers):
                found = record
    if found is None:
        raise TamizError(
            f"no decision {named!r}, nor one of a transaction of that name, on {settings.decisions_topic}; "
            "its record may have expired"
        )
    return found


def _fetch(settings: Settings, partition: int, offset: int) -> Record:
    with reaching(settings.bootstrap):
        consumer = KafkaConsumer(
            **arguments(settings.bootstrap), group_id=None, enable_auto_commit=False, auto_offset_reset="none"
        )
    place = TopicPartition(settings.transactions_topic, partition)
    try:
        consumer.assign([place])
        if not consumer.beginning_offsets([place])[place] <= offset < consumer.end_offsets([place])[place]:
            raise TamizError(
                f"{place.topic}-{partition}-{offset} is not there; the topic keeps a transaction for a time"
            )
        consumer.seek(place, offset)
        records = consumer.poll(timeout_ms=FETCH_WITHIN_MS, max_records=1).get(place, [])
    finally:
        consumer.close()
    if not records or records[0].offset != offset:
        raise TamizError(f"{place.topic}-{partition}-{offset} could not be read within {FETCH_WITHIN_MS} ms")
    record: Record = records[0]
    return record
