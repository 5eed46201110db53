"""Reads topics without a consumer group and without commits, with isolation level `read_committed`."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.errors import BrokerError
from stream_app.kafka.batches.record_batches import KEEP_BYTES
from stream_app.kafka.kafka_clients import reader, require_broker


class ConsumedRecord(Protocol):
    """A consumed record, as of kafka-python."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@contextlib.contextmanager
def assigned(bootstrap: str, topic: str, *, from_beginning: bool, keep_bytes: int = KEEP_BYTES) -> Iterator[Any]:
    """A consumer of all partitions of a topic, positioned at their start or end; closed afterwards.

    keep_bytes: largest value to keep; a longer one is truncated to a `schemas.record_parts.TruncatedBytes`.
    Raises BrokerError if the broker does not respond or the topic does not exist.
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
        partitions = existing_partitions(consumer, bootstrap, topic)
        consumer.assign(partitions)
        if from_beginning:
            consumer.seek_to_beginning(*partitions)
        else:
            consumer.seek_to_end(*partitions)
        for partition in partitions:
            consumer.position(partition)  # fixes the end now, not at the first poll
        yield consumer
    except KafkaError as error:
        raise BrokerError(f"topic {topic} cannot be read: {error}") from None
    finally:
        consumer.close()


def partitions_of(consumer: Any, topics: Collection[str]) -> list[TopicPartition]:
    """The topics' partitions, as far as the client knows them."""
    return [TopicPartition(t, p) for t in topics for p in sorted(consumer.partitions_for_topic(t) or ())]


def existing_partitions(consumer: Any, bootstrap: str, topic: str) -> list[TopicPartition]:
    """All partitions of a topic. Raises BrokerError if it does not exist."""
    if not (partitions := partitions_of(consumer, [topic])):
        raise BrokerError(f"topic {topic} does not exist at {bootstrap}; `tamiz topics create` creates it")
    return partitions


def has_more_partitions(consumer: Any) -> bool:
    """Whether an assigned topic has partitions that are not assigned, by the client's metadata."""
    assigned = consumer.assignment()
    return bool(set(partitions_of(consumer, {p.topic for p in assigned})) - assigned)


def read_to_end(
    bootstrap: str,
    topic: str,
    progress: Callable[[int, int], None] = lambda read, of: None,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    keep_bytes: int = KEEP_BYTES,
) -> Iterator[list[ConsumedRecord]]:
    """All records that are committed in a topic at the time of the call, in batches, in order per partition.

    since_ms, until_ms: begin and end at the first record of this timestamp or a later one.
    progress: called after each batch with the number of offsets read and the total.
    Raises BrokerError if the broker does not respond or the topic does not exist.
    """
    with assigned(bootstrap, topic, from_beginning=True, keep_bytes=keep_bytes) as consumer:
        ends = consumer.end_offsets(list(consumer.assignment()))
        if since_ms is not None:
            for partition, found in consumer.offsets_for_times(dict.fromkeys(ends, since_ms)).items():
                consumer.seek(partition, ends[partition] if found is None else found.offset)
        if until_ms is not None:
            for partition, found in consumer.offsets_for_times(dict.fromkeys(ends, until_ms)).items():
                ends[partition] = ends[partition] if found is None else found.offset
        unread = {p for p, end in ends.items() if consumer.position(p) < end}
        begun = sum(consumer.position(p) for p in ends)
        while unread:
            for partition, records in consumer.poll(timeout_ms=500).items():
                yield [r for r in records if r.offset < ends[partition]]
            # The position also advances over transaction markers and aborted records, which are not returned.
            unread = {p for p in unread if consumer.position(p) < ends[p]}
            progress(sum(min(consumer.position(p), end) for p, end in ends.items()) - begun, sum(ends.values()) - begun)


def first_timestamp_ms(bootstrap: str, topic: str) -> int | None:
    """The earliest timestamp of the first records of a topic's partitions; None if the topic is empty.

    Raises BrokerError if the broker does not respond or the topic does not exist.
    """
    found: list[int] = []
    with assigned(bootstrap, topic, from_beginning=True) as consumer:
        for partition, end in consumer.end_offsets(list(consumer.assignment())).items():
            consumer.assign([partition])
            consumer.seek_to_beginning(partition)
            while consumer.position(partition) < end:
                if records := consumer.poll(timeout_ms=500, max_records=1).get(partition):
                    found.append(records[0].timestamp)
                    break
    return min(found, default=None)


def last_records(bootstrap: str, topic: str, n: int, *, keep_bytes: int = KEEP_BYTES) -> list[ConsumedRecord]:
    """The last committed records of a topic, at most n per partition (transaction markers count).

    Raises BrokerError if the broker does not respond or the topic does not exist.
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
