"""The notifier's clients, and the reports that it attaches."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kafka import KafkaProducer, TopicPartition

from monitoring.alerting.notification import Notification
from schemas.configuration.settings import Settings
from schemas.errors import BrokerError, ModelUnavailableError
from stream_app.kafka.kafka_clients import client_config, committing_reader, require_broker
from stream_app.kafka.topic_reader import partitions_of
from stream_app.lifecycle.reconnect import reconnect
from tamiz.notifications.channels.catalogue import SETTING_OF_EACH, channels
from tamiz.notifications.channels.channel import ReportLoader
from tamiz.notifications.delivery_loop import Notifier, group
from tamiz.notifications.retry import DEFAULT_RETRIES, RetryPolicy

log = logging.getLogger("tamiz.notifier")

MAX_LETTER_BYTES = 2 * 1024 * 1024  # bytes, as the topic takes them


def serve(
    settings: Settings,
    stop: threading.Event,
    *,
    patience: RetryPolicy = DEFAULT_RETRIES,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Tell people what comes until `stop` is set; a broker that goes away is waited for.

    ready: called once, when whatever comes from then on is told.
    Raises BrokerError when there is none, or a topic is missing, at the start.
    """
    found = channels(settings, report_of(settings))
    if not found:
        log.warning("no channel is set; set %s. Until then notifications are only logged", SETTING_OF_EACH)
    notifier = Notifier(settings, found, stop, patience)

    def session(connected: Callable[[], None]) -> None:
        with clients(settings) as (consumer, producer, partitions):
            notifier.begin(consumer, partitions)
            connected()
            notifier.run(producer)

    reconnect(session, stop, log, ready)
    notifier.log_summary()


def report_of(settings: Settings) -> ReportLoader:
    """What fetches the PDF that was written when the version was trained, None where there is none to be had."""

    @functools.lru_cache(maxsize=1)  # a mail that is tried again brings the same
    def fetch(notice: Notification) -> bytes | None:
        from training.registry.mlflow_registry import REPORT, read_artifact, run_id_of

        if notice.model_version is None:
            return None
        try:
            return read_artifact(settings, run_id_of(settings, notice.model_version), REPORT)
        except ModelUnavailableError as error:
            log.info("%s goes without a report: %s", notice.id, error)
            return None

    return fetch


@contextlib.contextmanager
def clients(settings: Settings) -> Iterator[tuple[Any, Any, list[TopicPartition]]]:
    """A consumer that commits for the notifier's group, a producer of dead letters, and what there is to read.

    Raises BrokerError when nobody answers or a topic is missing.
    """
    with contextlib.ExitStack() as stack, require_broker(settings.bootstrap):
        # Assigned by hand: who waits for a receiver must not be thrown out of a group meanwhile.
        consumer = committing_reader(settings.bootstrap, group(settings))
        stack.callback(consumer.close)
        producer = KafkaProducer(
            **client_config(settings.bootstrap),
            allow_auto_create_topics=False,
            max_request_size=MAX_LETTER_BYTES,
            max_block_ms=30_000,
            delivery_timeout_ms=30_000,
            request_timeout_ms=15_000,
            bootstrap_timeout_ms=15_000,
        )
        stack.callback(producer.close, timeout=5)
        partitions = []
        for topic in (settings.drift_alerts_topic, settings.model_events_topic):
            found = partitions_of(consumer, [topic])
            if not found:
                raise BrokerError(f"there is no topic {topic} at {settings.bootstrap}; `tamiz topics create` makes it")
            partitions += found
        stack = stack.pop_all()
    with stack:
        yield consumer, producer, partitions
