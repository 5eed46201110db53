"""The notifier: what stands on `drift-alerts` and `model-events` is told to every receiver, and then committed.

    record ─▶ notification ─▶ each receiver that wants it ─▶ told | held back, and counted | dead letter, and counted
                                                                                    └─▶ digest, later

Beside the offset of a partition stands a `Mark`: who is done with the record there, and what is held back from whom. It
is committed whenever that changes, so that a notifier which starts again repeats nothing and forgets no count.
"""

import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError, MessageSizeTooLargeError
from kafka.structs import OffsetAndMetadata

from monitoring.alerting.notification import RANK, Notification, notification
from monitoring.alerting.rate_limit import (
    WINDOW_S,
    DeliveryState,
    RateLimiter,
    digest,
    read_delivery_state,
    suppressed_counts,
)
from schemas.configuration.settings import Settings
from schemas.records import DriftAlert, ModelEvent, Rejection
from stream_app.decisions import dead_letters
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import has_more_partitions, partitions_of
from tamiz.notifications.channels.channel import Channel
from tamiz.notifications.retry import NO_RETRY, Delivery, RetryPolicy, deliver

log = logging.getLogger("tamiz.notifier")

POLL_MS = 500
POLL_RECORDS = 100
TIMEOUT_S = 30  # for the broker to take a dead letter


class Notifier:
    """Tells receivers what records say. Outlives the Kafka clients it is given."""

    def __init__(
        self, settings: Settings, receivers: list[Channel], stop: threading.Event, patience: RetryPolicy
    ) -> None:
        self._settings = settings
        self._receivers = receivers
        self._stop = stop
        self._intake = RecordIntake(settings, log)
        self._patience = patience
        self._away: set[str] = set()  # whom the last attempts did not reach: one is enough until it is back
        self._limits = {receiver.name: RateLimiter() for receiver in receivers}
        self._digest_due_s: dict[str, float] = {}
        self._consumer: Any = None
        self._producer: Any = None
        self._marks: dict[TopicPartition, DeliveryState] = {}
        self._offsets: dict[TopicPartition, int] = {}  # of the next record to tell
        self._committed: dict[TopicPartition, int] = {}

    def begin(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Go on where this notifier was, else where the one before it was, else at the end: nobody needs old news.

        A partition that was added to a topic which is read already is read from its beginning.
        """
        self._consumer = consumer
        consumer.assign(partitions)
        names = {receiver.name for receiver in self._receivers}
        commits = {p: consumer.committed(p, metadata=True) for p in partitions if p not in self._offsets}
        begun = {p.topic for p in self._offsets} | {p.topic for p, found in commits.items() if found}
        for partition in partitions:
            if partition in commits:
                found = commits[partition]
                self._marks[partition] = read_delivery_state(found.metadata if found else "")
                start = consumer.beginning_offsets if partition.topic in begun else consumer.end_offsets
                self._offsets[partition] = found.offset if found else start([partition])[partition]
                if lost := set(self._marks[partition].held) - names:
                    log.warning("%s: no such receiver now; what was held back from it is not told", ", ".join(lost))
                self._marks[partition].held = {r: c for r, c in self._marks[partition].held.items() if r in names}
            consumer.seek(partition, self._offsets[partition])
            self._commit(partition)  # an end, too, is where it was first seen: what comes from here on is told

    def run(self, producer: Any) -> None:
        """Tell what comes until `stop` is set. Raises KafkaError when the broker went away."""
        self._producer = producer
        with ThreadPoolExecutor(max(1, len(self._receivers)), "receiver") as pool:
            while not self._stop.is_set():
                self._intake.log_summary()
                if has_more_partitions(self._consumer):
                    log.info("partitions were added: they are read from their beginning")
                    topics = sorted({p.topic for p in self._offsets})
                    self.begin(self._consumer, partitions_of(self._consumer, topics))
                polled = self._consumer.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
                for partition, records in polled.items():
                    for record in records:
                        if self._stop.is_set():
                            return
                        self._tell(record, partition, pool)
                    if self._offsets[partition] != self._committed.get(partition):
                        self._commit(partition)
                self._tell_digests()

    def log_summary(self) -> None:
        """Log how many records were passed over, if any were since that was last logged."""
        self._intake.log_summary(at_once=True)

    def _tell(self, record: Any, partition: TopicPartition, pool: ThreadPoolExecutor) -> None:
        mark = self._marks[partition]
        self._offsets[partition] = record.offset  # markers of transactions may lie before it
        notice = self._notification(record)
        waiting = [] if notice is None else [r for r in self._wanting(notice) if r.name not in mark.served]
        if notice is not None:
            log.info("%s: %s: %s %s", notice.id, notice.severity, notice.title, notice.text)
            for receiver in waiting:
                if not self._limits[receiver.name].allow(notice, time.monotonic()):
                    self._suppress(mark, receiver, notice)
                    mark.served.append(receiver.name)
            self._deliver([r for r in waiting if r.name not in mark.served], notice, record, partition, pool)
            if any(r.name not in mark.served for r in waiting):
                self._commit(partition)
                return  # stopped: whoever starts next goes on with those
        mark.served.clear()
        self._offsets[partition] = record.offset + 1
        if notice is not None:  # what says nothing is committed with what is polled together with it
            self._commit(partition)

    def _deliver(
        self, to: list[Channel], notice: Notification, record: Any, partition: TopicPartition, pool: ThreadPoolExecutor
    ) -> None:
        """Tell receivers, all at once; what does not reach one is buried. Whoever is done stands in the mark then."""
        mark, failed = self._marks[partition], []
        futures = [
            pool.submit(deliver, r, notice, NO_RETRY if r.name in self._away else self._patience, self._stop)
            for r in to
        ]
        for future in as_completed(futures):
            if (delivery := future.result()) is None:
                continue
            if delivery.problem is not None:
                failed.append(delivery)
                continue
            self._away.discard(delivery.receiver.name)
            mark.served.append(delivery.receiver.name)
            # The others are still on their way; a broker that is away shows when all is done.
            with contextlib.suppress(KafkaError):
                self._commit(partition)
        for delivery in failed:
            receiver = delivery.receiver
            log.error("%s (%s) %s: %s is a dead letter", receiver.name, receiver.where, delivery.problem, notice.id)
            self._send_to_dead_letters(record, delivery)
            self._suppress(mark, receiver, notice)
            mark.served.append(receiver.name)
            if delivery.refused:
                self._away.discard(receiver.name)
            else:
                self._away.add(receiver.name)

    def _send_to_dead_letters(self, record: Any, delivery: Delivery) -> None:
        why = Rejection(
            row=0,
            code=dead_letters.OMITTED_PREFIX + ("refused" if delivery.refused else "away"),
            field=delivery.receiver.name,
            value=delivery.problem or "",
            expected="a receiver that takes it",
        )
        place = f"{record.topic}-{record.partition}-{record.offset}"
        headers = dead_letters.headers(why, record, group=group(self._settings), transaction_id=place)
        topic = self._settings.dead_letters_topic
        try:
            self._producer.send(topic, key=record.key, value=record.value, headers=headers).get(TIMEOUT_S)
        except (MessageSizeTooLargeError, ValueError) as error:  # its headers say where the record is
            log.warning("the dead letter of %s goes without its value: %s", place, error)
            self._producer.send(topic, key=place.encode(), headers=headers).get(TIMEOUT_S)

    def _suppress(self, mark: DeliveryState, receiver: Channel, notice: Notification) -> None:
        log.warning("%s is held back from %s", notice.id, receiver.name)
        mark.suppress(receiver.name, notice)
        self._digest_due_s.setdefault(receiver.name, time.monotonic() + WINDOW_S)

    def _tell_digests(self) -> None:
        """Tell each receiver whose time has come how much was held back from it; one that is away keeps its count."""
        for receiver in self._receivers:
            counts = suppressed_counts(self._marks.values(), receiver.name)
            if not counts or time.monotonic() < self._digest_due_s.get(receiver.name, 0.0):
                continue
            now_ms = int(time.time() * 1000)
            notice = digest(receiver.name, counts, model=self._settings.model_name, now_ms=now_ms)
            delivery = deliver(receiver, notice, NO_RETRY, self._stop)
            if delivery is None or delivery.problem is not None:
                self._digest_due_s[receiver.name] = time.monotonic() + WINDOW_S
                continue
            self._digest_due_s.pop(receiver.name, None)
            self._away.discard(receiver.name)
            for partition, mark in self._marks.items():
                if mark.held.pop(receiver.name, None) is not None:
                    self._commit(partition)

    def _wanting(self, notice: Notification) -> list[Channel]:
        """Those that the notification is severe enough for, and those that may have an alert open for it to close."""
        return [
            r
            for r in self._receivers
            if RANK[notice.severity] >= RANK[r.min_severity] or (r.closes_alerts and notice.resolved)
        ]

    def _notification(self, record: Any) -> Notification | None:
        """What a record has to say; None, and a line in the log, where it is none of ours."""
        event: DriftAlert | ModelEvent | None
        if record.topic == self._settings.drift_alerts_topic:
            event = self._intake.read_ours(record, DriftAlert)
        else:
            event = self._intake.read_ours(record, ModelEvent)
        place = f"{record.topic}-{record.partition}-{record.offset}"
        return None if event is None else notification(event, place)

    def _commit(self, partition: TopicPartition) -> None:
        mark = self._marks[partition].encode()
        self._consumer.commit({partition: OffsetAndMetadata(self._offsets[partition], mark, -1)})
        self._committed[partition] = self._offsets[partition]


def group(settings: Settings) -> str:
    """The consumer group under which the notifier keeps its place."""
    return f"{settings.consumer_group}-notifier"
