"""One decision, found again and made again: the same transaction, the same model version, the same bytes."""

import msgspec
from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import TamizError
from schemas.json_codec import decode
from schemas.records import Decision
from schemas.time_units import MINUTE_MS
from schemas.transaction_ids import SHORT_ID_LENGTH, TOPIC_ID_HEADER, place
from scoring.decision import decision_id
from stream_app.decisions.handler import OFFSET_HEADER, HandlerPolicy, handle
from stream_app.kafka.kafka_clients import RecordConsumer, client_config, require_broker
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, read_to_end
from stream_app.worker.champion_cache import ChampionCache

FETCH_TIMEOUT_MS = 10_000


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What `tamiz explain` found."""

    decision: Decision  # as it stands on the topic, the latest of its id
    transaction: str  # the payload, as text
    origin: str  # the transaction's place, as `schemas.transaction_ids.place`
    reproduced: bool  # made again, it is the same bit for bit
    again: Decision | None  # what was made again, where that is something else


def explain(settings: Settings, named: str) -> Explanation:
    """Find a decision on its topic, its transaction on its own, and make it again.

    named: the decision's id or its transaction's; of a place, what follows the @ may be left out for the topic as it
    is now. Raises TamizError when either is not there (any more), ModelUnavailableError when its model version is not.
    """
    topic = settings.transactions_topic
    now = topic_ids(settings.bootstrap, [topic]).get(topic, "")
    found = _find(settings, named, now)
    decision = decode(found.value, Decision)
    headers = {name: value or b"" for name, value in found.headers}
    offset, topic_id = int(headers[OFFSET_HEADER]), headers.get(TOPIC_ID_HEADER, b"").decode("utf-8", "replace")
    origin = place(topic, found.partition, offset, topic_id)
    if topic_id and topic_id != now:
        raise TamizError(f"{origin} is not there any more: the topic was made anew since; it is {now or 'unknown'} now")
    record = _fetch(settings, found.partition, offset)
    dataset = load_dataset(settings.dataset)
    model = ChampionCache(settings, dataset).at_version(decision.model_version)
    policy = HandlerPolicy(
        dataset=dataset,
        group=settings.consumer_group,
        max_payload_bytes=settings.max_payload_bytes,
        counting=False,
        topic_id=topic_id,
        max_event_time_ahead_ms=settings.max_event_time_ahead_minutes * MINUTE_MS,
    )
    handled = handle([record], model, policy)
    again = handled.decisions[0].value if handled.decisions else None
    same = again == found.value
    return Explanation(
        decision=decision,
        transaction=(record.value or b"").decode(errors="replace"),
        origin=origin,
        reproduced=same,
        again=None if same or again is None else msgspec.json.decode(again, type=Decision),
    )


def _find(settings: Settings, named: str, topic_id: str) -> ConsumedRecord:
    ids = {named, decision_id(named), decision_id(f"{named}@{topic_id[:SHORT_ID_LENGTH]}")}
    wanted = {("ce_id", found.encode()) for found in ids}
    found: ConsumedRecord | None = None
    for records in read_to_end(settings.bootstrap, settings.decisions_topic):
        for record in records:
            if not wanted.isdisjoint(record.headers) and _is_decision(record):
                found = record
    if found is None:
        raise TamizError(
            f"no decision {named!r}, nor one of a transaction of that name, on {settings.decisions_topic}; "
            "its record may have expired"
        )
    return found


def _is_decision(record: ConsumedRecord) -> bool:
    """Whether a record is what its headers call it: anybody who may write to the topic can copy an id."""
    headers = dict(record.headers)
    offset = headers.get(OFFSET_HEADER) or b""
    try:
        decision = decode(record.value, Decision)
    except msgspec.MsgspecError:
        return False
    return headers.get("ce_id") == decision.decision_id.encode() and offset.isdigit() and len(offset) < 20


def _fetch(settings: Settings, partition: int, offset: int) -> ConsumedRecord:
    with require_broker(settings.bootstrap):
        consumer = RecordConsumer(
            **client_config(settings.bootstrap),
            keep_bytes=settings.max_payload_bytes,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
        )
    tp = TopicPartition(settings.transactions_topic, partition)
    try:
        consumer.assign([tp])
        if not consumer.beginning_offsets([tp])[tp] <= offset < consumer.end_offsets([tp])[tp]:
            raise TamizError(f"{tp.topic}-{partition}-{offset} is not there; the topic keeps a transaction for a time")
        consumer.seek(tp, offset)
        records = consumer.poll(timeout_ms=FETCH_TIMEOUT_MS, max_records=1).get(tp, [])
    finally:
        consumer.close()
    if not records or records[0].offset != offset:
        raise TamizError(f"{tp.topic}-{partition}-{offset} could not be read within {FETCH_TIMEOUT_MS} ms")
    record: ConsumedRecord = records[0]
    return record
