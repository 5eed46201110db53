"""Runs the notifier: its Kafka clients, its reconnects, and the reports that mails attach."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kafka import TopicPartition

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from stream_app.kafka.kafka_clients import committing_reader, require_broker, service_producer
from stream_app.kafka.topic_reader import existing_partitions
from stream_app.lifecycle.reconnect import reconnect
from tamiz.notifications.channels.catalogue import SETTING_NAMES, channels
from tamiz.notifications.channels.channel import ReportLoader
from tamiz.notifications.delivery_loop import Notifier, consumer_group
from tamiz.notifications.retry import DEFAULT_RETRIES, RetryPolicy

log = logging.getLogger("tamiz.notifier")

MAX_LETTER_BYTES = 2 * 1024 * 1024  # the topic's maximum


def serve(
    settings: Settings,
    stop: threading.Event,
    *,
    retry_policy: RetryPolicy = DEFAULT_RETRIES,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Send notifications of new records until `stop` is set. Reconnects if the broker goes away.

    ready: called once, when every record written from then on is delivered.
    Raises BrokerError at the start if no broker responds or a topic is missing.
    """
    found = channels(settings, report_loader(settings))
    if not found:
        log.warning("no channel is configured; set %s. Until then notifications are only logged", SETTING_NAMES)
    notifier = Notifier(settings, found, stop, retry_policy)

    def session(connected: Callable[[], None]) -> None:
        with clients(settings) as (consumer, producer, partitions):
            notifier.resume(consumer, partitions)
            connected()
            notifier.run(producer)

    reconnect(session, stop, log, ready)
    notifier.log_summary()


def report_loader(settings: Settings) -> ReportLoader:
    """Function that fetches the PDF report of a notification's model version; None if it has none."""

    @functools.lru_cache(maxsize=1)  # a retried mail attaches the same report
    def fetch(notice: Notification) -> bytes | None:
        from training.registry.mlflow_registry import REPORT, read_artifact, run_id_of

        if notice.model_version is None:
            return None
        try:
            return read_artifact(settings, run_id_of(settings, notice.model_version), REPORT)
        except ModelUnavailableError as error:
            log.info("%s is sent without a report: %s", notice.id, error)
            return None

    return fetch


@contextlib.contextmanager
def clients(settings: Settings) -> Iterator[tuple[Any, Any, list[TopicPartition]]]:
    """Consumer of the notifier's group, producer of dead letters, and the partitions to read.

    Raises BrokerError if no broker responds or a topic is missing.
    """
    with contextlib.ExitStack() as stack, require_broker(settings.bootstrap):
        # Assigned manually: a group member that retries for a minute without polling could be removed from the group.
        consumer = committing_reader(settings.bootstrap, consumer_group(settings))
        stack.callback(consumer.close)
        producer = service_producer(settings.bootstrap, max_request_size=MAX_LETTER_BYTES)
        stack.callback(producer.close, timeout=5)
        partitions = [
            partition
            for topic in (settings.drift_alerts_topic, settings.model_events_topic)
            for partition in existing_partitions(consumer, settings.bootstrap, topic)
        ]
        stack = stack.pop_all()
    with stack:
        yield consumer, producer, partitions
