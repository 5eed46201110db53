"""Examples of a drift alert: transactions of the bin that grew most.

When an alert is new, the monitor reads transactions backwards from the last offset that the panes of its window count,
encodes them with the worker's code and the alert's model version, and keeps the ids of those in the bin. Records, bytes
and time are bounded. If no example is found or the search fails, the alert is published without examples.
"""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from kafka import TopicPartition

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.panes import NO_TIME_MS
from monitoring.counting.windows import WINDOWS, OffsetRange
from monitoring.drift.evidence import grown_bin
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import BrokerError, TamizError
from schemas.json_codec import decode
from schemas.records import MAX_ALERT_EXAMPLES, Decision, DriftAlert
from schemas.transaction_ids import transaction_id
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.decisions.handler import HandlerPolicy, HandlerState, handle_with_isolation
from stream_app.decisions.logged_features import FeatureLogReader, LoggedFeatures
from stream_app.kafka.kafka_clients import reader, require_broker
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, partitions_of
from stream_app.monitor.background_call import BackgroundCall

log = logging.getLogger("tamiz.monitor")

MAX_WAIT_S = 10.0  # by which a search delays an alert, at most
READ_TIMEOUT_S = 5.0  # of one search, once it is connected
CHUNK_RECORDS = 1_000  # offsets that are read at once, of all partitions together
MAX_RECORDS = 10_000
MAX_BYTES = 16 * 1024 * 1024  # of payloads
RETRY_DELAY_S = 60.0  # without a search, after one that failed

OffsetsOf = Callable[[int, int], Mapping[int, OffsetRange]]  # start and end of a period -> offsets that it counts


class BinSearch(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for: transactions of one bin and one period of event time."""

    model_version: int
    feature: str
    bin: int
    since_ms: int
    until_ms: int  # exclusive
    offsets: Mapping[int, OffsetRange]  # by partition


def bin_search(alert: DriftAlert, offsets_of: OffsetsOf) -> BinSearch | None:
    """The search for an alert's examples; None if it needs none: its incident is closed, or few cards cause it."""
    if alert.change == "closed" or alert.kind in ("burst", "attack") or not alert.evidence:
        return None
    evidence = alert.evidence[0]  # of the feature that the summary describes
    since_ms = alert.happened_at_ms - next(w.length_ms for w in WINDOWS if w.name == evidence.window)
    return BinSearch(
        model_version=alert.model_version,
        feature=evidence.feature,
        bin=grown_bin(evidence),
        since_ms=since_ms,
        until_ms=alert.happened_at_ms,
        offsets=offsets_of(since_ms, alert.happened_at_ms),
    )


def ids_in_bin(
    search: BinSearch,
    records: Sequence[ConsumedRecord],
    model: MonitoredModel,
    policy: HandlerPolicy,
    logged: LoggedFeatures | None = None,
) -> list[str]:
    """Ids of the transactions of the bin, in the order of the records.

    model: of the search's version. logged: of a data set with profiles; transactions without logged values are left
    out, because their bins are not known.
    """
    if not records:
        return []
    handled = handle_with_isolation(records, model, policy, HandlerState(profiles=logged))
    assert handled.coded is not None
    feature = model.bins.names.index(search.feature)
    codes, times_ms = handled.coded.codes[:, feature], handled.coded.event_times_ms
    counted = codes >= 0  # a dead letter is counted in one feature only
    in_bin = counted & (model.bins.features[feature].bin_of_code[np.where(counted, codes, 0)] == search.bin)
    in_period = (search.since_ms <= times_ms) & (times_ms < search.until_ms)
    found = np.flatnonzero(in_bin & (in_period | (times_ms == NO_TIME_MS)))  # a dead letter has no time
    decisions = {(d.partition, dict(d.headers)[OFFSET_HEADER]): d.value for d in handled.decisions}
    ids = []
    for record in (records[i] for i in found.tolist()):
        decision = decisions.get((record.partition, b"%d" % record.offset))
        dead = decision is None
        if logged is not None and not dead and (record.partition, record.offset) not in logged:
            continue
        ids.append(transaction_id(record, policy.topic_id) if dead else decode(decision, Decision).transaction_id)
    return ids


def read_backwards(
    consumer: Any, topic: str, offsets: Mapping[int, OffsetRange], until_s: float
) -> Iterator[list[ConsumedRecord]]:
    """Records in chunks, newest first, as far as they still exist. until_s: when to stop, on the monotonic clock."""
    partitions = [p for p in partitions_of(consumer, [topic]) if p.partition in offsets]
    begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    first = {p: max(begins[p], offsets[p.partition].first) for p in partitions}
    end = {p: min(ends[p], offsets[p.partition].last + 1) for p in partitions}
    consumer.assign(partitions)
    n_records = n_bytes = 0
    while left := [p for p in partitions if first[p] < end[p]]:
        start = {p: max(first[p], end[p] - max(1, CHUNK_RECORDS // len(left))) for p in left}
        chunk = []
        for record in _read_ranges(consumer, start, end, until_s):
            chunk.append(record)
            n_bytes += len(record.value or b"")
            if n_bytes >= MAX_BYTES:
                break
        n_records += len(chunk)
        yield sorted(chunk, key=lambda record: record.timestamp, reverse=True)
        if time.monotonic() >= until_s or n_records >= MAX_RECORDS or n_bytes >= MAX_BYTES:
            return
        end |= start


def _read_ranges(
    consumer: Any, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int], until_s: float
) -> Iterator[ConsumedRecord]:
    others = [p for p in consumer.assignment() if p not in start]
    consumer.pause(*others)
    for p, offset in start.items():
        consumer.seek(p, offset)
    while (unread := [p for p in start if consumer.position(p) < end[p]]) and time.monotonic() < until_s:
        consumer.pause(*(p for p in start if p not in unread))
        for p, records in consumer.poll(timeout_ms=200).items():
            yield from (r for r in records if start[p] <= r.offset < end[p])
    consumer.resume(*start)


class AlertExamples:
    """Adds examples to new alerts. Call it from one thread."""

    def __init__(
        self, settings: Settings, load_model: Callable[[int], MonitoredModel], on_missing: Callable[[], None]
    ) -> None:
        """load_model: loads a version; may block. on_missing: called for each alert whose search finds nothing."""
        self._settings = settings
        self._load_model = functools.lru_cache(maxsize=2)(load_model)
        self._on_missing = on_missing
        self._call = BackgroundCall("examples")
        self._retry_at_s = 0.0  # monotonic clock

    def add_to(self, alerts: Sequence[DriftAlert], offsets_of: OffsetsOf) -> tuple[DriftAlert, ...]:
        """The alerts of one evaluation, with examples where they need some. Delays them by at most `MAX_WAIT_S`."""
        searches = {a.incident_id: search for a in alerts if (search := bin_search(a, offsets_of)) is not None}
        if not searches:
            return tuple(alerts)
        found, failure = self._search(searches)
        complete = []
        for alert in alerts:
            if alert.incident_id not in searches:
                complete.append(alert)
                continue
            examples = tuple(found.get(alert.incident_id, ()))
            complete.append(msgspec.structs.replace(alert, examples=examples))
            if not examples:
                self._on_missing()
                reason = failure or "none of the transactions that were read is in the bin"
                log.warning("%s %s has no examples: %s", alert.incident_id, alert.change, reason)
        return tuple(complete)

    def _search(self, searches: Mapping[str, BinSearch]) -> tuple[Mapping[str, Sequence[str]], str | None]:
        """Ids by incident, and why the search failed, if it did."""
        if self._call.is_running or time.monotonic() < self._retry_at_s:
            return {}, "the search before failed"
        found: dict[str, list[str]] = {}
        failures: list[str] = []

        def run() -> None:
            try:
                self._find(searches, found)
            except Exception as error:  # of Kafka, of the bundle's files, or a bug: an alert is published in any case
                failures.append(str(error) if isinstance(error, TamizError) else repr(error))

        self._call.start(run)
        if not self._call.wait(MAX_WAIT_S):
            failures.append(f"reading {self._settings.transactions_topic} took more than {MAX_WAIT_S:.0f} s")
        if failures:
            self._retry_at_s = time.monotonic() + RETRY_DELAY_S
        return dict(found), failures[0] if failures else None

    def _find(self, searches: Mapping[str, BinSearch], found: dict[str, list[str]]) -> None:
        """Add the ids of each search to `found`."""
        s = self._settings
        dataset = load_dataset(s.dataset)
        policy = HandlerPolicy.from_settings(s, dataset, counting=True)
        ids_of_topics = topic_ids(s.bootstrap, [s.transactions_topic])
        if s.transactions_topic not in ids_of_topics:
            raise BrokerError(f"{s.transactions_topic} does not exist, or the monitor has no READ on it")
        policy = policy._replace(topic_id=ids_of_topics[s.transactions_topic])
        models = {search.model_version: self._load_model(search.model_version) for search in searches.values()}
        until_s = time.monotonic() + READ_TIMEOUT_S
        with require_broker(s.bootstrap):
            consumer = reader(
                s.bootstrap, keep_bytes=s.max_payload_bytes, fetch_max_wait_ms=100, max_partition_fetch_bytes=262_144
            )
        with contextlib.closing(consumer), contextlib.ExitStack() as stack:
            features = None
            if dataset.profiles:
                features = stack.enter_context(FeatureLogReader(s, ProfilePlan.of(dataset)))
            for name, search in searches.items():
                ids: list[str] = []
                for records in read_backwards(consumer, s.transactions_topic, search.offsets, until_s):
                    logged = None
                    if features is not None:
                        logged = features.read([(r.partition, r.offset) for r in records], until_s)
                    ids += ids_in_bin(search, records, models[search.model_version], policy, logged)
                    if len(ids) >= MAX_ALERT_EXAMPLES:
                        break
                found[name] = ids[:MAX_ALERT_EXAMPLES]
