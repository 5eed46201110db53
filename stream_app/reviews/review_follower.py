"""Thread that reads `decisions` and `labels` into the review queue, without a consumer group.

At the start it reads the decisions of the last days, at most `MAX_UNREAD_DECISIONS`, and then the labels since the
oldest of them. Approvals are not decoded. Where the lag grows beyond the same number, the oldest decisions are skipped
and counted. The amounts of cases are read from `transactions` while nothing else is to do.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.records import Decision, Label
from schemas.time_units import DAY_MS
from schemas.transaction_ids import TOPIC_ID_HEADER
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.kafka.kafka_clients import METADATA_MAX_AGE_MS, reader, require_broker
from stream_app.kafka.place_reader import PlaceReader
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, existing_partitions, has_more_partitions
from stream_app.reviews.decision_index import DecisionIndex
from stream_app.reviews.review_queue import DecisionPlace, ReviewQueue
from stream_app.reviews.transaction_view import read_transactions
from stream_app.web.page_follower import PageFollower

log = logging.getLogger("tamiz.reviews")
APPROVED = b'"outcome":"approve"'  # in the value of a decision that a worker wrote; in a text, `"` would be `\"`
MAX_AGE_MS = 7 * DAY_MS  # of the decisions that are read at the start
MAX_UNREAD_DECISIONS = 500_000  # of all partitions together: some seconds of reading
POLL_TIMEOUT_MS = 250
CHECK_INTERVAL_S = 5.0  # of the topics' ends
REQUEST_TIMEOUT_MS = 5_000
AMOUNTS_AT_ONCE = 100  # cases
AMOUNTS_TIMEOUT_S = 2.0


class ReviewFollower(PageFollower):
    """Owns the queue and the index of decisions. Readers must hold `lock`."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        super().__init__("review-reader", "decisions and labels", "decisions have not been read yet", log)
        self._settings = settings
        self._dataset = dataset
        self._next: dict[TopicPartition, int] = {}  # offset of the next record
        self._check_at_s = 0.0
        self._intake = RecordIntake(settings, log)
        self._payloads = PlaceReader(
            settings.bootstrap, settings.transactions_topic, keep_bytes=settings.max_payload_bytes
        )
        self.queue = ReviewQueue()
        self.index = DecisionIndex()
        self.topic_id = ""  # of the transactions topic
        self.unread = 0  # decisions
        self.since_ms: int | None = None  # time of the oldest decision that was read

    def run(self) -> None:
        """Read until `stop` is called."""
        super().run()
        self._payloads.close()

    def _read(self) -> None:
        s = self._settings
        with ExitStack() as stack:
            with require_broker(s.bootstrap):
                consumer = reader(
                    s.bootstrap,
                    auto_offset_reset="earliest",
                    bootstrap_timeout_ms=15_000,
                    max_poll_records=5_000,
                    fetch_max_wait_ms=POLL_TIMEOUT_MS,
                    metadata_max_age_ms=METADATA_MAX_AGE_MS,
                )
                stack.callback(consumer.close)
            self.topic_id = topic_ids(s.bootstrap, [s.transactions_topic]).get(s.transactions_topic, "")
            decisions = existing_partitions(consumer, s.bootstrap, s.decisions_topic)
            labels = existing_partitions(consumer, s.bootstrap, s.labels_topic)
            # Labels follow their decisions. Read first, they would have to be remembered until these are read.
            consumer.assign(decisions)
            ends = self._seek(consumer, decisions, _now_ms() - MAX_AGE_MS)
            while not self._stop_event.is_set() and any(consumer.position(tp) < end for tp, end in ends.items()):
                self._update(consumer.poll(timeout_ms=POLL_TIMEOUT_MS))
            positions = {tp: consumer.position(tp) for tp in decisions}
            consumer.assign([*decisions, *labels])
            for tp, position in positions.items():
                consumer.seek(tp, position)
            ends = self._seek(consumer, labels, self.since_ms or _now_ms())
            while not self._stop_event.is_set():
                self._update(records := consumer.poll(timeout_ms=POLL_TIMEOUT_MS))
                if self.error is not None and all(consumer.position(tp) >= end for tp, end in ends.items()):
                    self.error = None
                if not records or sum(map(len, records.values())) < AMOUNTS_AT_ONCE:
                    self._read_amounts()
                if time.monotonic() >= self._check_at_s:
                    self._skip_lag(consumer, decisions)
                    if has_more_partitions(consumer):
                        return  # read with the new partitions

    def _seek(self, consumer: Any, partitions: Sequence[TopicPartition], since_ms: int) -> dict[TopicPartition, int]:
        """Continue where reading ended, or begin at a time; returns the ends."""
        begins = consumer.beginning_offsets(partitions, timeout_ms=REQUEST_TIMEOUT_MS)
        ends: dict[TopicPartition, int] = consumer.end_offsets(partitions, timeout_ms=REQUEST_TIMEOUT_MS)
        times = consumer.offsets_for_times(dict.fromkeys(partitions, since_ms), timeout_ms=REQUEST_TIMEOUT_MS)
        for tp in partitions:
            first = times[tp].offset if times.get(tp) else ends[tp]
            position = max(begins[tp], self._next.get(tp, first))
            consumer.seek(tp, min(position, ends[tp]))
        if partitions and partitions[0].topic == self._settings.decisions_topic:
            self._skip_lag(consumer, partitions)
        return ends

    def _skip_lag(self, consumer: Any, decisions: Sequence[TopicPartition]) -> None:
        self._check_at_s = time.monotonic() + CHECK_INTERVAL_S
        largest = MAX_UNREAD_DECISIONS // len(decisions)
        for tp, end in consumer.end_offsets(decisions, timeout_ms=REQUEST_TIMEOUT_MS).items():
            if (skipped := end - largest - consumer.position(tp)) > 0:
                consumer.seek(tp, end - largest)
                self.unread += skipped

    def _update(self, batches: dict[TopicPartition, list[ConsumedRecord]]) -> None:
        for tp, records in batches.items():
            for start in range(0, len(records), 500):  # in chunks, so that the lock is held briefly
                part = records[start : start + 500]
                with self.lock:
                    if tp.topic == self._settings.labels_topic:
                        self._add_labels(part)
                    else:
                        self._add_decisions(tp.partition, part)
            self._next[tp] = records[-1].offset + 1

    def _add_labels(self, records: Sequence[ConsumedRecord]) -> None:
        for record in records:
            if (label := self._intake.read(record, Label)) is not None:
                self.queue.add_label(label)

    def _add_decisions(self, partition: int, records: Sequence[ConsumedRecord]) -> None:
        if self.since_ms is None or records[0].timestamp < self.since_ms:
            self.since_ms = records[0].timestamp
        self.index.update(partition, [r.key for r in records], [r.offset for r in records])
        for record in records:
            if record.value is None or APPROVED in record.value:
                continue
            if (decision := self._intake.read_ours(record, Decision)) is not None:
                self.queue.add_decision(decision, record.key, decision_place(record), record.timestamp)

    def _read_amounts(self) -> None:
        with self.lock:
            cases = self.queue.not_looked_up(AMOUNTS_AT_ONCE)
        places = {
            place: case
            for case in cases
            if (place := case.place.transaction(self.topic_id)) is not None and self._dataset.amount is not None
        }
        records = self._payloads.read(places, AMOUNTS_TIMEOUT_S) if places else {}
        payloads = [record.value for record in records.values()]
        views = read_transactions(self._dataset, payloads, self._settings.max_payload_bytes)
        with self.lock:
            for place, view in zip(records, views, strict=True):
                places[place].amount = None if view is None else view.amount
            for case in cases:
                case.looked_up = True


def decision_place(record: ConsumedRecord) -> DecisionPlace:
    """Where a decision and its transaction are, as the record's headers state."""
    headers = dict(record.headers)
    offset = headers.get(OFFSET_HEADER) or b""
    return DecisionPlace(
        partition=record.partition,
        offset=record.offset,
        input_offset=int(offset) if offset.isdigit() and len(offset) < 19 else None,
        topic_id=(headers.get(TOPIC_ID_HEADER) or b"").decode("utf-8", "replace"),
    )


def _now_ms() -> int:
    return int(time.time() * 1000)
