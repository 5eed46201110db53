"""Read topics as a bystander: no consumer group, no commits, and only what is committed is seen."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.errors import BrokerError
from stream_app.kafka.kafka_clients import reader, require_broker
from stream_app.kafka.record_batches import KEEP_BYTES


class ConsumedRecord(Protocol):
    """A record as kafka-python gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@contextlib.contextmanager
def assigned(bootstrap: str, topic: str, *, from_beginning: bool, keep_bytes: int = KEEP_BYTES) -> Iterator[Any]:
    """A consumer of all of a topic's partitions, at their beginning or their end; closed afterwards.

    keep_bytes: of a value, here and below; a longer one is cut (`schemas.record_parts.TruncatedBytes`).
    Raises BrokerError when nobody answers or there is no such topic.
    """
    with require_broker(bootstrap):
        consumer = reader(
            bootstrap,
            keep_bytes=keep_bytes,
            max_poll_records=2_000,
            fetch_max_wait_ms=100,
            bootstrap_timeout_ms=15_000,
        )
    try:
        partitions = partitions_of(consumer, [topic])
        if not partitions:
            raise BrokerError(f"there is no topic {topic} at {bootstrap}; `tamiz topics create` makes it")
        consumer.assign(partitions)
        if from_beginning:
            consumer.seek_to_beginning(*partitions)
        else:
            consumer.seek_to_end(*partitions)
        for partition in partitions:
            consumer.position(partition)  # an end is where it is now, not at the first poll
        yield consumer
    except KafkaError as error:
        raise BrokerError(f"topic {topic} cannot be read: {error}") from None
    finally:
        consumer.close()


def partitions_of(consumer: Any, topics: Collection[str]) -> list[TopicPartition]:
    """The topics' partitions, as far as the client knows them."""
    return [TopicPartition(t, p) for t in topics for p in sorted(consumer.partitions_for_topic(t) or ())]


def has_more_partitions(consumer: Any) -> bool:
    """Whether a topic that is read by hand was given partitions that are not assigned; asks what the client knows."""
    assigned = consumer.assignment()
    return bool(set(partitions_of(consumer, {p.topic for p in assigned})) - assigned)


def read_to_end(
    bootstrap: str,
    topic: str,
    progress: Callable[[int, int], None] = lambda read, of: None,
    *,
    keep_bytes: int = KEEP_BYTES,
) -> Iterator[list[ConsumedRecord]]:
    """Everything that is committed in a topic now, in batches, each partition in its order; what comes later is not.

    progress: told after each batch how many offsets are read, and of how many.
    Raises BrokerError when nobody answers or there is no such topic.
    """
    with assigned(bootstrap, topic, from_beginning=True, keep_bytes=keep_bytes) as consumer:
        ends = consumer.end_offsets(list(consumer.assignment()))
        unread = {p for p, end in ends.items() if consumer.position(p) < end}
        begun = sum(consumer.position(p) for p in ends)
        while unread:
            for partition, records in consumer.poll(timeout_ms=500).items():
                yield [r for r in records if r.offset < ends[partition]]
            # The position also passes markers and what was aborted, which are never handed out.
            unread = {p for p in unread if consumer.position(p) < ends[p]}
            progress(sum(min(consumer.position(p), end) for p, end in ends.items()) - begun, sum(ends.values()) - begun)


def last_records(bootstrap: str, topic: str, n: int, *, keep_bytes: int = KEEP_BYTES) -> list[ConsumedRecord]:
    """The last committed records of each of a topic's partitions, at most n of each (markers between them count).

    Raises BrokerError when nobody answers or there is no such topic.
    """
    found: list[ConsumedRecord] = []
    with assigned(bootstrap, topic, from_beginning=True, keep_bytes=keep_bytes) as consumer:
        ends = consumer.end_offsets(list(consumer.assignment()))
        for partition, end in ends.items():
            consumer.seek(partition, max(consumer.position(partition), end - n))
        while any(consumer.position(p) < end for p, end in ends.items()):
            for records in consumer.poll(timeout_ms=500).values():
                found.extend(records)
    return found
