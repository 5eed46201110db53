"""Writes records that people made, and waits until the broker has them."""

from collections.abc import Callable, Iterable
from itertools import islice

from kafka import KafkaProducer
from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from stream_app.kafka.kafka_clients import client_config, require_broker

TIMEOUT_MS = 10_000
MAX_UNACKNOWLEDGED = 5_000  # records; bounds the memory of an import
MAX_REQUEST_BYTES = 4 * 1024 * 1024  # as `schemas.topics.MAX_RECORD_BYTES`


def write_records(
    settings: Settings,
    topic: str,
    records: Iterable[tuple[str, bytes]],
    progress: Callable[[int], None] = lambda written: None,
) -> None:
    """Write keys and values to partition 0 in this order, and wait until all in-sync replicas have them.

    progress: called with the number of records that are acknowledged.
    Raises BrokerError, one line, if no broker responds, the topic does not exist or a record is not acknowledged.
    """
    producer, written = None, 0
    try:
        with require_broker(settings.bootstrap):
            producer = KafkaProducer(
                **client_config(settings.bootstrap),
                allow_auto_create_topics=False,
                acks="all",
                linger_ms=5,
                max_request_size=MAX_REQUEST_BYTES,
                max_block_ms=TIMEOUT_MS,
                bootstrap_timeout_ms=TIMEOUT_MS,
                request_timeout_ms=TIMEOUT_MS // 2,
                delivery_timeout_ms=TIMEOUT_MS,
            )
        waiting = iter(records)
        while some := list(islice(waiting, MAX_UNACKNOWLEDGED)):
            sent = [producer.send(topic, key=key.encode(), value=value, partition=0) for key, value in some]
            for future in sent:
                future.get(TIMEOUT_MS / 1000)
            progress(written := written + len(sent))
    except (BrokerError, KafkaError) as error:
        done = (
            f"{written:,} records were written to {topic}, the others were not"
            if written
            else f"nothing was written to {topic}"
        )
        raise BrokerError(f"{done}: {error}; `tamiz topics create` creates a missing topic") from None
    finally:
        if producer is not None:
            producer.close(timeout=1)
