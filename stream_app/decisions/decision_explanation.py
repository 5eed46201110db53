"""Finds one decision and its transaction, and reproduces it with the same model version, for `tamiz explain`."""

import time

import msgspec
import numpy as np
from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import TamizError
from schemas.json_codec import decode
from schemas.records import Decision, FeatureRecord
from schemas.transaction_ids import SHORT_ID_LENGTH, TOPIC_ID_HEADER, place
from scoring.decision import decision_id
from scoring.profiles.feature_log import logged_values
from scoring.profiles.profile_plan import ProfilePlan
from scoring.rules.rule_state import RuleState
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.decisions.handler import HandlerPolicy, HandlerResult, HandlerState, handle
from stream_app.decisions.logged_features import FeatureLogReader, LoggedFeatures
from stream_app.kafka.kafka_clients import RecordConsumer, client_config, require_broker
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, read_to_end
from stream_app.rules.rule_history import RuleHistory
from stream_app.worker.champion_cache import ChampionCache

FETCH_TIMEOUT_MS = 10_000


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `tamiz explain`."""

    decision: Decision  # the latest one with its id on the topic
    transaction: str  # the payload, as text
    origin: str  # place of the transaction, see `schemas.transaction_ids.place`
    # Values in the feature log, null: missing; None without profiles, and empty if no values are logged (any more).
    profile_features: dict[str, float | None] | None
    reproduced: bool  # the reproduced decision is identical, bit for bit
    reproduction: Decision | None  # the reproduced decision, if it differs


def explain(settings: Settings, named: str) -> Explanation:
    """Find a decision and its transaction on their topics, and reproduce the decision.

    named: id of the decision or of its transaction. In an id of the form TOPIC-PARTITION-OFFSET@TOPIC_ID, the part
    from @ on may be omitted for the current topic.
    Raises TamizError if either record does not exist (any more), ModelUnavailableError if the model version does not.
    """
    topic = settings.transactions_topic
    now = topic_ids(settings.bootstrap, [topic]).get(topic, "")
    found = _find(settings, named, now)
    decision = decode(found.value, Decision)
    headers = {name: value or b"" for name, value in found.headers}
    offset, topic_id = int(headers[OFFSET_HEADER]), headers.get(TOPIC_ID_HEADER, b"").decode("utf-8", "replace")
    origin = place(topic, found.partition, offset, topic_id)
    if topic_id and topic_id != now:
        raise TamizError(f"{origin} is gone: the topic was recreated since; its topic id is {now or 'not known'} now")
    record = _fetch(settings, found.partition, offset)
    dataset = load_dataset(settings.dataset)
    model = ChampionCache(settings, dataset).at_version(decision.model_version)
    policy = HandlerPolicy.from_settings(settings, dataset, counting=False)._replace(topic_id=topic_id)
    plan = ProfilePlan.of(dataset) if dataset.profiles else None
    logged = None if plan is None else _logged(settings, plan, record)
    rules = _rules(settings, dataset, record, topic_id)
    handled = handle([record], model, policy, HandlerState(profiles=logged, rules=rules))
    reproduction = handled.decisions[0].value if handled.decisions else None
    same = reproduction == found.value
    return Explanation(
        decision=decision,
        transaction=(record.value or b"").decode(errors="replace"),
        origin=origin,
        profile_features=None if plan is None else _values(plan, handled),
        reproduced=same,
        reproduction=None if same or reproduction is None else msgspec.json.decode(reproduction, type=Decision),
    )


def _rules(settings: Settings, dataset: Dataset, record: ConsumedRecord, topic_id: str) -> RuleState | None:
    """The rules and lists that were stamped for a transaction; None if there were none, or they are gone."""
    topics = settings.rules_topic, settings.lists_topic, settings.rule_activations_topic
    if len(topic_ids(settings.bootstrap, topics)) < len(topics):
        return None  # an installation that is older than rules
    history = RuleHistory(settings, dataset)
    stamp = history.stamps({record.partition: record.offset}, topic_id)[record.partition].at(record.offset)
    return None if stamp is None or stamp.version.is_empty else history.state_of(stamp.version)


def _logged(settings: Settings, plan: ProfilePlan, record: ConsumedRecord) -> LoggedFeatures | None:
    place = record.partition, record.offset
    with FeatureLogReader(settings, plan) as reader:
        logged = reader.read([place], time.monotonic() + FETCH_TIMEOUT_MS / 1000)
    return logged if place in logged else None


def _values(plan: ProfilePlan, handled: HandlerResult) -> dict[str, float | None]:
    if not handled.features:
        return {}
    values = logged_values(decode(handled.features[0].value, FeatureRecord), plan)
    assert values is not None
    return {name: None if np.isnan(x) else float(x) for name, x in zip(plan.names, values, strict=True)}


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
            f"{settings.decisions_topic} holds no decision and no transaction with id {named!r}; retention may have "
            "deleted it"
        )
    return found


def _is_decision(record: ConsumedRecord) -> bool:
    """Whether a record is the decision that its headers name: any producer of the topic can copy an id."""
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
            raise TamizError(f"{tp.topic}-{partition}-{offset} does not exist; retention may have deleted it")
        consumer.seek(tp, offset)
        records = consumer.poll(timeout_ms=FETCH_TIMEOUT_MS, max_records=1).get(tp, [])
    finally:
        consumer.close()
    if not records or records[0].offset != offset:
        raise TamizError(f"{tp.topic}-{partition}-{offset} could not be read within {FETCH_TIMEOUT_MS} ms")
    record: ConsumedRecord = records[0]
    return record
