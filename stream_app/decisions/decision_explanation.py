"""Finds one decision and its transaction, and reproduces it with the same model version, for `tamiz explain`."""

import re
import time
from collections.abc import Collection, Iterator
from datetime import date
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import TamizError
from schemas.json_codec import decode
from schemas.records import Decision, FeatureRecord
from schemas.time_units import DAY_MS
from schemas.transaction_ids import SHORT_ID_LENGTH, TOPIC_ID_HEADER, place
from scoring.decision import decision_id
from scoring.profiles.feature_log import FeatureLog
from scoring.profiles.profile_plan import ProfilePlan
from scoring.rules.rule_state import RuleState
from stream_app.decisions.decision_headers import input_offset
from stream_app.decisions.handler import HandlerPolicy, HandlerState, clean_records, handle
from stream_app.decisions.logged_features import FeatureLogReader, LoggedFeatures
from stream_app.kafka.kafka_clients import RecordConsumer, client_config, require_broker
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, read_to_end
from stream_app.rules.match_explanation import DecidedTransaction, ExplainedMatch, explain_matches
from stream_app.rules.rule_history import RuleHistory
from stream_app.worker.champion_cache import ChampionCache

FETCH_TIMEOUT_MS = 10_000


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `tamiz explain`."""

    decision: Decision  # the latest one with its id
    archived: bool  # the decision is in the archive, and no longer on its topic
    transaction: str | None  # the payload, as text; None: it is gone
    gone: str | None  # why the transaction cannot be read any more
    origin: str  # place of the transaction, see `schemas.transaction_ids.place`
    # Logged values, null: missing; None without profiles, and empty if no values are logged (any more).
    profile_features: dict[str, float | None] | None
    matches: tuple[ExplainedMatch, ...]
    # Whether the reproduced decision is identical, bit for bit; None: without the transaction, it is not reproduced.
    reproduced: bool | None
    reproduction: Decision | None  # the reproduced decision, if it differs


class DecisionArchive(Protocol):
    """Where decisions and logged values are when their topics no longer hold them."""

    def find_decisions(
        self, ids: Collection[str], place: tuple[int, int] | None, day: date | None
    ) -> Iterator[ConsumedRecord]:
        """Records with one of some decision ids, the latest first.

        place: partition and offset of the transaction, if the id states them. day: of the decision; None: any.
        """

    def find_features(self, decision: ConsumedRecord, input_offset: int) -> FeatureRecord | None:
        """The logged values of a transaction, by its decision and its offset."""


class _Found(NamedTuple):
    record: ConsumedRecord
    archived: bool


def explain(
    settings: Settings, named: str, *, day: date | None = None, archive: DecisionArchive | None = None
) -> Explanation:
    """Find a decision and its transaction, and reproduce the decision.

    named: id of the decision or of its transaction. In an id of the form TOPIC-PARTITION-OFFSET@TOPIC_ID, the part
    from @ on may be omitted for the current topic. day: of the decision, UTC; so less is read.
    Raises TamizError if there is no such decision (any more), ModelUnavailableError if the model version is gone.
    """
    topic = settings.transactions_topic
    now = topic_ids(settings.bootstrap, [topic]).get(topic, "")
    found, archived = _find(settings, named, now, day, archive)
    decision = decode(found.value, Decision)
    headers = {name: value or b"" for name, value in found.headers}
    offset = input_offset(found.headers)
    assert offset is not None
    topic_id = headers.get(TOPIC_ID_HEADER, b"").decode("utf-8", "replace")
    origin = place(topic, found.partition, offset, topic_id)
    dataset = load_dataset(settings.dataset)
    plan = ProfilePlan.of(dataset) if dataset.profiles else None
    logged = None if plan is None else _logged(settings, plan, found, offset, archive)
    explanation = Explanation(
        decision=decision,
        archived=archived,
        transaction=None,
        gone=None,
        origin=origin,
        profile_features=None if plan is None else _values(plan, logged, found.partition, offset, decision),
        matches=explain_matches(decision, None, dataset),
        reproduced=None,
        reproduction=None,
    )
    try:
        if topic_id and topic_id != now:
            raise _GoneError(f"{origin}: the topic was recreated since; its topic id is {now or 'not known'} now")
        record = _fetch(settings, found.partition, offset)
    except _GoneError as gone:
        return msgspec.structs.replace(explanation, gone=str(gone))
    model = ChampionCache(settings, dataset).at_version(decision.model_version)
    policy = HandlerPolicy.from_settings(settings, dataset, counting=False)._replace(topic_id=topic_id)
    rules = _rules(settings, dataset, record, topic_id)
    handled = handle([record], model, policy, HandlerState(profiles=logged, rules=rules))
    reproduction = handled.decisions[0].value if handled.decisions else None
    same = reproduction == found.value
    cleaned, _ = clean_records([record], policy)
    matches = explanation.matches
    if rules is not None and rules.number == decision.ruleset and len(cleaned.rows):
        features = explanation.profile_features or {}
        decided = DecidedTransaction(decision, cleaned, features, rules)
        matches = explain_matches(decision, decided, dataset)
    return msgspec.structs.replace(
        explanation,
        matches=matches,
        transaction=(record.value or b"").decode(errors="replace"),
        reproduced=same,
        reproduction=None if same or reproduction is None else msgspec.json.decode(reproduction, type=Decision),
    )


class _GoneError(TamizError):
    """A transaction cannot be read any more."""


def _rules(settings: Settings, dataset: Dataset, record: ConsumedRecord, topic_id: str) -> RuleState | None:
    """The rules and lists that were stamped for a transaction; None if there were none, or they are gone."""
    topics = settings.rules_topic, settings.lists_topic, settings.rule_activations_topic
    if len(topic_ids(settings.bootstrap, topics)) < len(topics):
        return None  # an installation that is older than rules
    history = RuleHistory(settings, dataset)
    stamp = history.stamps({record.partition: record.offset}, topic_id)[record.partition].at(record.offset)
    return None if stamp is None or stamp.version.is_empty else history.state_of(stamp.version)


def _logged(
    settings: Settings, plan: ProfilePlan, decision: ConsumedRecord, offset: int, archive: DecisionArchive | None
) -> LoggedFeatures | None:
    place = decision.partition, offset
    with FeatureLogReader(settings, plan) as reader:
        logged = reader.read([place], time.monotonic() + FETCH_TIMEOUT_MS / 1000)
    if place in logged or archive is None or (record := archive.find_features(decision, offset)) is None:
        return logged if place in logged else None
    log = FeatureLog(plan)
    log.update(decision.partition, record)
    return LoggedFeatures(plan, log)


def _values(
    plan: ProfilePlan, logged: LoggedFeatures | None, partition: int, offset: int, decision: Decision
) -> dict[str, float | None]:
    values = (
        None if logged is None else logged.values(partition, offset, decision.transaction_id, decision.event_time_ms)
    )
    if values is None:
        return {}
    return {name: None if np.isnan(x) else float(x) for name, x in zip(plan.names, values, strict=True)}


def _find(settings: Settings, named: str, topic_id: str, day: date | None, archive: DecisionArchive | None) -> _Found:
    ids = {named, decision_id(named), decision_id(f"{named}@{topic_id[:SHORT_ID_LENGTH]}")}
    wanted = {("ce_id", found.encode()) for found in ids}
    since_ms = None if day is None else (day - date(1970, 1, 1)).days * DAY_MS
    until_ms = None if since_ms is None else since_ms + DAY_MS
    found: ConsumedRecord | None = None
    for records in read_to_end(settings.bootstrap, settings.decisions_topic, since_ms=since_ms, until_ms=until_ms):
        for record in records:
            if not wanted.isdisjoint(record.headers) and _is_decision(record):
                found = record
    if found is not None:
        return _Found(found, archived=False)
    stated = re.fullmatch(rf"{re.escape(settings.transactions_topic)}-(\d{{1,9}})-(\d{{1,18}})(@.*)?", named)
    offset = (int(stated[1]), int(stated[2])) if stated else None
    for record in archive.find_decisions(ids, offset, day) if archive is not None else ():
        if _is_decision(record):
            return _Found(record, archived=True)
    where = settings.decisions_topic + ("" if archive is None else f" and the archive {settings.archive_root}")
    raise TamizError(
        f"no decision and no transaction with id {named!r} in {where}{'' if day is None else f' on {day}'}; retention "
        "may have deleted it"
    )


def _is_decision(record: ConsumedRecord) -> bool:
    """Whether a record is the decision that its headers name: any producer of the topic can copy an id."""
    try:
        decision = decode(record.value or b"", Decision)
    except msgspec.MsgspecError:
        return False
    headers = dict(record.headers)
    return headers.get("ce_id") == decision.decision_id.encode() and input_offset(record.headers) is not None


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
            raise _GoneError(f"{tp.topic}-{partition}-{offset} is no longer on the topic; retention deleted it")
        consumer.seek(tp, offset)
        records = consumer.poll(timeout_ms=FETCH_TIMEOUT_MS, max_records=1).get(tp, [])
    finally:
        consumer.close()
    if not records or records[0].offset != offset:
        raise TamizError(f"{tp.topic}-{partition}-{offset} could not be read within {FETCH_TIMEOUT_MS} ms")
    record: ConsumedRecord = records[0]
    return record
