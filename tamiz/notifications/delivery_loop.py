"""The notifier's loop: sends records of `drift-alerts` and `model-events` to every channel, then commits their offsets.

    record ─▶ notification ─▶ for each channel: delivered
                                                suppressed by the rate limit, and counted ─▶ digest, later
                                                dead letter, and counted ─▶ digest, later

A `DeliveryState` is committed with the offset of each partition: the channels that are done with the record at the
offset, and the number of suppressed notifications. A restarted notifier repeats no notification and keeps the counts.
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
from stream_app.kafka.kafka_clients import DELIVERY_TIMEOUT_S
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import has_more_partitions, partitions_of
from tamiz.notifications.channels.channel import Channel
from tamiz.notifications.retry import NO_RETRY, Delivery, RetryPolicy, deliver

log = logging.getLogger("tamiz.notifier")

POLL_MS = 500
POLL_RECORDS = 100


class Notifier:
    """Delivers notifications. Its state survives a reconnect: each session gets new Kafka clients."""

    def __init__(
        self, settings: Settings, channels: list[Channel], stop: threading.Event, retry_policy: RetryPolicy
    ) -> None:
        self._settings = settings
        self._channels = channels
        self._stop = stop
        self._intake = RecordIntake(settings, log)
        self._retry_policy = retry_policy
        self._unavailable: set[str] = set()  # channels whose last delivery failed: one attempt until one succeeds
        self._limits = {channel.name: RateLimiter() for channel in channels}
        self._digest_due_s: dict[str, float] = {}
        self._consumer: Any = None
        self._producer: Any = None
        self._states: dict[TopicPartition, DeliveryState] = {}
        self._offsets: dict[TopicPartition, int] = {}  # of the next record to deliver
        self._committed: dict[TopicPartition, int] = {}

    def resume(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Seek to this notifier's position, else to the committed one, else to the end of the topic.

        A partition added to a topic that has a position is read from its beginning.
        """
        self._consumer = consumer
        consumer.assign(partitions)
        names = {channel.name for channel in self._channels}
        commits = {p: consumer.committed(p, metadata=True) for p in partitions if p not in self._offsets}
        begun = {p.topic for p in self._offsets} | {p.topic for p, found in commits.items() if found}
        for partition in partitions:
            if partition in commits:
                found = commits[partition]
                state = self._states[partition] = read_delivery_state(found.metadata if found else "")
                start = consumer.beginning_offsets if partition.topic in begun else consumer.end_offsets
                self._offsets[partition] = found.offset if found else start([partition])[partition]
                if removed := set(state.suppressed) - names:
                    log.warning(
                        "%s: not configured any more; its suppressed notifications are dropped", ", ".join(removed)
                    )
                state.suppressed = {name: counts for name, counts in state.suppressed.items() if name in names}
            consumer.seek(partition, self._offsets[partition])
            self._commit(partition)  # also a start at the end: a restart then misses nothing

    def run(self, producer: Any) -> None:
        """Deliver new records until `stop` is set. Raises KafkaError if the broker goes away."""
        self._producer = producer
        with ThreadPoolExecutor(max(1, len(self._channels)), "channel") as pool:
            while not self._stop.is_set():
                self._intake.log_summary()
                if has_more_partitions(self._consumer):
                    log.info("partitions were added; reading them from their beginning")
                    topics = sorted({p.topic for p in self._offsets})
                    self.resume(self._consumer, partitions_of(self._consumer, topics))
                polled = self._consumer.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
                for partition, records in polled.items():
                    for record in records:
                        if self._stop.is_set():
                            return
                        self._handle(record, partition, pool)
                    if self._offsets[partition] != self._committed.get(partition):
                        self._commit(partition)
                self._send_digests()

    def log_summary(self) -> None:
        """Log the number of skipped records since the last summary, if any."""
        self._intake.log_summary(at_once=True)

    def _handle(self, record: Any, partition: TopicPartition, pool: ThreadPoolExecutor) -> None:
        state = self._states[partition]
        self._offsets[partition] = record.offset  # Kafka's transaction markers may precede it
        notice = self._notification(record)
        if notice is not None:
            log.info("%s: %s: %s %s", notice.id, notice.severity, notice.title, notice.text)
            pending = [c for c in self._recipients(notice) if c.name not in state.done]
            for channel in pending:
                if not self._limits[channel.name].allow(notice, time.monotonic()):
                    self._suppress(state, channel, notice)
                    state.done.append(channel.name)
            self._deliver([c for c in pending if c.name not in state.done], notice, record, partition, pool)
            if any(c.name not in state.done for c in pending):
                self._commit(partition)
                return  # stopped: the next notifier continues with the remaining channels
        state.done.clear()
        self._offsets[partition] = record.offset + 1
        if notice is not None:  # records without a notification are committed once per poll
            self._commit(partition)

    def _deliver(
        self, to: list[Channel], notice: Notification, record: Any, partition: TopicPartition, pool: ThreadPoolExecutor
    ) -> None:
        """Send to all channels in parallel. A failed delivery becomes a dead letter. Records the channels as done."""
        state, failed = self._states[partition], []
        futures = [
            pool.submit(deliver, c, notice, NO_RETRY if c.name in self._unavailable else self._retry_policy, self._stop)
            for c in to
        ]
        for future in as_completed(futures):
            if (delivery := future.result()) is None:
                continue
            if delivery.problem is not None:
                failed.append(delivery)
                continue
            self._unavailable.discard(delivery.channel.name)
            state.done.append(delivery.channel.name)
            # Other deliveries are in progress; the last commit of the record reports a broker that is gone.
            with contextlib.suppress(KafkaError):
                self._commit(partition)
        for delivery in failed:
            channel = delivery.channel
            log.error("%s (%s) %s: %s is a dead letter", channel.name, channel.where, delivery.problem, notice.id)
            self._send_to_dead_letters(record, delivery)
            self._suppress(state, channel, notice)
            state.done.append(channel.name)
            if delivery.refused:
                self._unavailable.discard(channel.name)
            else:
                self._unavailable.add(channel.name)

    def _send_to_dead_letters(self, record: Any, delivery: Delivery) -> None:
        why = Rejection(
            row=0,
            code=dead_letters.NOTIFICATION_PREFIX + ("refused" if delivery.refused else "undelivered"),
            field=delivery.channel.name,
            value=delivery.problem or "",
            expected="a channel that accepts the notification",
        )
        place = f"{record.topic}-{record.partition}-{record.offset}"
        headers = dead_letters.headers(why, record, group=consumer_group(self._settings), transaction_id=place)
        topic = self._settings.dead_letters_topic
        try:
            self._producer.send(topic, key=record.key, value=record.value, headers=headers).get(DELIVERY_TIMEOUT_S)
        except (MessageSizeTooLargeError, ValueError) as error:  # its headers name the original record
            log.warning("the dead letter of %s is sent without its value: %s", place, error)
            self._producer.send(topic, key=place.encode(), headers=headers).get(DELIVERY_TIMEOUT_S)

    def _suppress(self, state: DeliveryState, channel: Channel, notice: Notification) -> None:
        log.warning("%s is suppressed for %s", notice.id, channel.name)
        state.suppress(channel.name, notice)
        self._digest_due_s.setdefault(channel.name, time.monotonic() + WINDOW_S)

    def _send_digests(self) -> None:
        """Send each channel the number of its suppressed notifications once per window. A failure keeps the count."""
        for channel in self._channels:
            counts = suppressed_counts(self._states.values(), channel.name)
            if not counts or time.monotonic() < self._digest_due_s.get(channel.name, 0.0):
                continue
            now_ms = int(time.time() * 1000)
            notice = digest(channel.name, counts, model=self._settings.model_name, now_ms=now_ms)
            delivery = deliver(channel, notice, NO_RETRY, self._stop)
            if delivery is None or delivery.problem is not None:
                self._digest_due_s[channel.name] = time.monotonic() + WINDOW_S
                continue
            self._digest_due_s.pop(channel.name, None)
            self._unavailable.discard(channel.name)
            for partition, state in self._states.items():
                if state.suppressed.pop(channel.name, None) is not None:
                    self._commit(partition)

    def _recipients(self, notice: Notification) -> list[Channel]:
        """Channels whose minimum severity is met, and those that may have an open alert which it closes."""
        return [
            c
            for c in self._channels
            if RANK[notice.severity] >= RANK[c.min_severity] or (c.closes_alerts and notice.resolved)
        ]

    def _notification(self, record: Any) -> Notification | None:
        """Notification of a record; None if it needs none, or is invalid, which is logged."""
        event: DriftAlert | ModelEvent | None
        if record.topic == self._settings.drift_alerts_topic:
            event = self._intake.read_ours(record, DriftAlert)
        else:
            event = self._intake.read_ours(record, ModelEvent)
        place = f"{record.topic}-{record.partition}-{record.offset}"
        return None if event is None else notification(event, place)

    def _commit(self, partition: TopicPartition) -> None:
        state = self._states[partition].encode()
        self._consumer.commit({partition: OffsetAndMetadata(self._offsets[partition], state, -1)})
        self._committed[partition] = self._offsets[partition]


def consumer_group(settings: Settings) -> str:
    """The notifier's consumer group."""
    return f"{settings.consumer_group}-notifier"
