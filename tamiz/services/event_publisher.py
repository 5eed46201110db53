"""Publishes model events and retraining requests from commands, without waiting long for a broker."""

from collections.abc import Iterable

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from schemas.records import ModelEvent, RetrainRequest
from stream_app.kafka.kafka_clients import client_config, require_broker

CONNECT_TIMEOUT_S = 0.5  # per server; short, because commands also work without Kafka
TIMEOUT_MS = 5_000  # once a server has responded


def publish_event(settings: Settings, events: Iterable[ModelEvent]) -> str | None:
    """Publish events, keyed by model. Returns None, or a one-line warning if they could not be published.

    That is no error: the registry is authoritative, and workers poll it.
    """
    try:
        publish(settings, settings.model_events_topic, events)
    except BrokerError as error:
        return f"{error}. The change is in effect: workers poll the registry every {settings.registry_poll_seconds} s"
    return None


def publish(settings: Settings, topic: str, records: Iterable[ModelEvent | RetrainRequest]) -> None:
    """Publish records, keyed by model, and wait until they are acknowledged.

    Raises BrokerError, in one line, if no broker responds or the topic does not exist.
    """
    producer = None
    try:
        with require_broker(settings.bootstrap, connect_timeout_s=CONNECT_TIMEOUT_S):
            producer = KafkaProducer(
                **client_config(settings.bootstrap),
                allow_auto_create_topics=False,
                max_block_ms=2_000,  # a missing topic fails within this time
                bootstrap_timeout_ms=TIMEOUT_MS,
                request_timeout_ms=TIMEOUT_MS,
                delivery_timeout_ms=TIMEOUT_MS,
            )
        sent = [producer.send(topic, key=r.model.encode(), value=msgspec.json.encode(r)) for r in records]
        for future in sent:
            future.get(TIMEOUT_MS / 1000)
    except (BrokerError, KafkaError) as error:
        raise BrokerError(f"nothing was published to {topic}: {error}") from None
    finally:
        if producer is not None:
            producer.close(timeout=1)
