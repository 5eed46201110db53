"""The retrainer service: reads requests, publishes model events, and commits offsets after the outcome is published."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from schemas.records import ModelEvent, RetrainRequest
from schemas.security.actor import MAX_LENGTH
from schemas.security.sanitizer import printable
from stream_app.kafka.kafka_clients import DELIVERY_TIMEOUT_S, committing_reader, require_broker, service_producer
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import existing_partitions, has_more_partitions, partitions_of, read_to_end
from stream_app.lifecycle.reconnect import RECONNECT_DELAY_S, reconnect
from training.service.retrainer import RequestProgress, Retrainer
from training.service.training_process import RETRAINER_ACTOR

log = logging.getLogger("tamiz.retrainer")

POLL_MS = 500
POLL_RECORDS = 100


def serve(
    settings: Settings, history: Path | None, stop: threading.Event, *, allow_missing: tuple[str, ...] = ()
) -> None:
    """Process requests until `stop` is set. Reconnects if the broker goes away.

    history, allow_missing: a file to train on instead of the topics, and the optional columns that it may lack.
    Raises BrokerError at the start if no broker responds or a topic is missing.
    """
    request_intake = RecordIntake(settings, log, log_text="skipped, not a valid request")
    event_intake = RecordIntake(settings, log)

    def session(connected: Callable[[], None]) -> None:
        event_intake.log_summary()
        with _clients(settings) as (consumer, producer):
            progress = RequestProgress(_published_events(settings, event_intake))
            connected()
            publish = _publisher(settings, producer)
            retrainer = Retrainer(
                settings,
                publish,
                progress,
                stop=stop,
                training=partial(train_for, allow_missing=allow_missing),
                history=history,
                past=lambda: _published_events(settings, event_intake),
            )
            process_requests(consumer, retrainer, request_intake, stop, attempts=settings.retrain_attempts)

    def ready() -> None:
        log.info("waiting for requests on %s at %s", settings.retrain_requests_topic, settings.bootstrap)

    reconnect(session, stop, log, ready)
    request_intake.log_summary(at_once=True)
    event_intake.log_summary(at_once=True)


def train_for(
    settings: Settings, request: RetrainRequest, history: Path | None, *, allow_missing: tuple[str, ...] = ()
) -> tuple[ModelEvent, ...]:
    """Train for a request: on the requested event times from Kafka, or on a file. Returns the resulting model events.

    Raises TrainingError and ModelUnavailableError like `training.pipeline.train`, BrokerError if no broker responds.
    """
    from tamiz.services.history_reader import read_kafka_history
    from training.pipeline import train

    source = history or read_kafka_history(settings, from_ms=request.from_ms, until_ms=request.until_ms)
    return train(
        settings,
        source,
        correlation_id=request.correlation_id,
        by=training_actor(request),
        report=True,
        allow_missing=allow_missing,
    ).events


def training_actor(request: RetrainRequest) -> str:
    """Actor in the model's history: the retrainer, and the person who requested the training.

    One printable line of at most `schemas.security.actor.MAX_LENGTH` characters.
    """
    return printable(f"{RETRAINER_ACTOR} for {request.by}", MAX_LENGTH) if request.by else RETRAINER_ACTOR


def process_requests(
    consumer: Any, retrainer: Retrainer, intake: RecordIntake, stop: threading.Event, *, attempts: int
) -> None:
    """Process requests until `stop` is set, and commit each.

    attempts: for a request that raises an unexpected error; then it is skipped, because it would end the service again
    after every restart. Raises KafkaError and BrokerError.
    """
    while not stop.is_set():
        intake.log_summary()
        if has_more_partitions(consumer):
            log.info("partitions were added; reading them from their beginning")
            consumer.assign(partitions_of(consumer, {p.topic for p in consumer.assignment()}))
        for partition, records in consumer.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS).items():
            skipped = None  # uncommitted offset after records that are no requests
            for record in records:
                request = intake.read_ours(record, RetrainRequest)
                if request is not None:
                    if skipped is not None:
                        _commit(consumer, partition, skipped)
                    if stop.is_set() or not _process_request(retrainer, request, record, intake, stop, attempts):
                        return
                    _commit(consumer, partition, record.offset + 1)
                skipped = None if request is not None else record.offset + 1
            if skipped is not None:
                _commit(consumer, partition, skipped)


def _process_request(
    retrainer: Retrainer,
    request: RetrainRequest,
    record: Any,
    intake: RecordIntake,
    stop: threading.Event,
    attempts: int,
) -> bool:
    why = ""
    for _ in range(attempts):
        try:
            return retrainer.answer(request)
        except (BrokerError, KafkaError):
            raise
        except Exception as error:
            why = repr(error)
            log.exception("request %s-%d-%d failed", record.topic, record.partition, record.offset)
            if stop.wait(RECONNECT_DELAY_S):
                return False
    intake.skip(record, why)
    return True


def _commit(consumer: Any, partition: TopicPartition, offset: int) -> None:
    consumer.commit({partition: OffsetAndMetadata(offset, "", -1)})


def _publisher(settings: Settings, producer: Any) -> Any:
    def publish(event: ModelEvent) -> None:
        sent = producer.send(settings.model_events_topic, key=event.model.encode(), value=msgspec.json.encode(event))
        sent.get(DELIVERY_TIMEOUT_S)

    return publish


def _published_events(settings: Settings, intake: RecordIntake) -> Iterator[ModelEvent]:
    for records in read_to_end(settings.bootstrap, settings.model_events_topic):
        for record in records:
            if (event := intake.read_ours(record, ModelEvent)) is not None:
                yield event


@contextlib.contextmanager
def _clients(settings: Settings) -> Iterator[tuple[Any, Any]]:
    with contextlib.ExitStack() as stack, require_broker(settings.bootstrap):
        # Assigned manually: a group member that trains for an hour without polling would be removed from the group.
        consumer = committing_reader(settings.bootstrap, f"{settings.consumer_group}-retrainer")
        stack.callback(consumer.close)
        producer = service_producer(settings.bootstrap)
        stack.callback(producer.close, timeout=5)
        consumer.assign(existing_partitions(consumer, settings.bootstrap, settings.retrain_requests_topic))
        stack = stack.pop_all()
    with stack:
        yield consumer, producer
