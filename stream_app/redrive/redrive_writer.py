"""Writes redriven transactions and their records on `redrives` in one Kafka transaction. Fences other redrives."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from kafka import KafkaProducer
from kafka.errors import (
    InvalidProducerEpochError,
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFencedError,
    RecordListTooLargeError,
)

from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from schemas.records import Redrive
from stream_app.kafka.kafka_clients import client_config
from stream_app.kafka.topic_admin import max_message_bytes
from stream_app.redrive.redrive_plan import Letter, outgoing_headers, redrive_key

BATCH_BYTES = 16_384  # of small records sent together
# Errors that concern one record; all others concern the cluster. kafka-python raises ValueError and TypeError for a
# record with neither key nor value, or with text that is not UTF-8.
RECORD_ERRORS = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    InvalidRecordError,
    InvalidTimestampError,
    ValueError,
    TypeError,
)


@contextlib.contextmanager
def fencing_producer(settings: Settings) -> Iterator[Any]:
    """A transactional producer that fences every earlier redrive. Raises BrokerError as `redrive` does."""
    producer = None
    limit = max_message_bytes(settings.bootstrap, (settings.transactions_topic, settings.redrives_topic))
    try:
        producer = KafkaProducer(
            **client_config(settings.bootstrap),
            transactional_id=f"tamiz-redrive-{settings.dead_letters_topic}",
            allow_auto_create_topics=False,
            max_block_ms=30_000,
            # A record that is too large must fail in the client: after the broker has refused a batch, later batches
            # fail by their sequence numbers, and kafka-python cannot abort any more.
            max_request_size=limit,
            batch_size=min(BATCH_BYTES, limit),
            bootstrap_timeout_ms=15_000,
        )
        producer.init_transactions()
        yield producer
    except KafkaError as error:
        if _is_fenced(error):
            raise BrokerError(
                "another `tamiz redrive` has started and fenced this one; it continues from here, nothing is sent twice"
            ) from None
        raise BrokerError(f"dead letters could not be sent back to {settings.bootstrap}: {error}") from None
    finally:
        if producer is not None:
            producer.close(timeout=30)


def _is_fenced(error: BaseException) -> bool:
    # After it is fenced, kafka-python raises a plain KafkaError whose text ends with the first error's.
    return isinstance(error, ProducerFencedError | InvalidProducerEpochError) or "ProducerFencedError" in str(error)


def send_back(producer: Any, letters: Sequence[Letter], settings: Settings) -> list[tuple[Letter, Exception | None]]:
    """Send letters and record them on `redrives`, in one Kafka transaction. Returns each letter with its error or None.

    If a record is refused, the transaction is aborted and each half is sent in its own one, recursively, until the
    refused records are isolated. Raises KafkaError for errors of the cluster.
    """
    if not letters:
        return []
    try:
        _transact(producer, letters, settings)
    except RECORD_ERRORS as error:
        if len(letters) == 1:
            return [(letters[0], error)]
        half = len(letters) // 2
        return send_back(producer, letters[:half], settings) + send_back(producer, letters[half:], settings)
    return [(letter, None) for letter in letters]


def _transact(producer: Any, letters: Sequence[Letter], settings: Settings) -> None:
    encode = msgspec.json.Encoder().encode
    now_ms = int(time.time() * 1000)
    partitions = producer.partitions_for(settings.transactions_topic) or ()
    futures: list[Any] = []
    producer.begin_transaction()
    try:
        for letter in letters:
            about = letter.about
            has_origin = about.topic == settings.transactions_topic and about.partition in partitions
            futures.append(
                producer.send(
                    settings.transactions_topic,
                    key=letter.key,
                    value=letter.value,
                    headers=outgoing_headers(letter),
                    partition=about.partition if has_origin else None,
                )
            )
            marker = Redrive(
                transaction_id=about.transaction_id,
                dead_letter=letter.place,
                consumed_from=about.origin,
                redriven_at_ms=now_ms,
            )
            futures.append(producer.send(settings.redrives_topic, key=redrive_key(marker), value=encode(marker)))
        producer.flush()
        for future in futures:
            future.get(30)
    except BaseException as error:
        # Also on Ctrl-C, since `read_committed` readers wait behind an open transaction. A fencing producer has aborted
        # it already.
        if not _is_fenced(error):
            producer.abort_transaction()
            # A refused record makes its neighbours fail, too; raise the error of the refused one.
            for future in futures:
                if isinstance(error, KafkaError) and isinstance(future.exception, RECORD_ERRORS):
                    raise future.exception from error
        raise
    producer.commit_transaction()
