"""Sends the messages of an iterator to a topic: at full speed or at a rate (open loop)."""

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError
from kafka.partitioner import DefaultPartitioner

from schemas.dataset.declaration import Dataset
from schemas.errors import BrokerError
from schemas.time_units import DAY_MS
from scoring.input.cleaning import clean_payloads
from scoring.input.text_parsing import identifier
from stream_app.kafka.kafka_clients import COMPRESSION, client_config, require_broker
from stream_app.kafka.topic_admin import admin

CHUNK_ROWS = 2_000  # rows cleaned at once, to get their event times
MAX_IN_FLIGHT = 20_000  # records sent before the oldest must be acknowledged
ACKNOWLEDGE_TIMEOUT_S = 60
MAX_CACHED_KEYS = 1_000_000  # of the partitioner


class Message(NamedTuple):
    """A message to produce. timestamp_ms: None for the current time."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None


class Sent(NamedTuple):
    """The result of sending: all `records` were acknowledged by all in-sync replicas."""

    topic: str
    records: int
    seconds: float
    records_per_s: float
    max_behind_ms: float  # largest delay of a record against the schedule; 0 without a rate


def plan(
    payloads: Iterable[bytes], dataset: Dataset, *, now_ms: Callable[[], int], retention_ms: int
) -> Iterator[Message]:
    """Add key and timestamp to each payload.

    The timestamp is the event time, if the payload has a valid one within the topic's retention. A broker deletes by
    record timestamp, so events older than `retention_ms` get the time of sending; the payload keeps the event time.
    """
    for chunk in _batched(payloads, CHUNK_ROWS):
        cleaned = clean_payloads(dataset, chunk)
        now = now_ms()
        event_times = dict(zip(cleaned.rows.tolist(), cleaned.event_time_ms.tolist(), strict=True))
        for row, payload in enumerate(chunk):
            event_time = event_times.get(row)
            usable = event_time is not None and now - retention_ms < event_time <= now
            yield Message(message_key(payload, dataset), payload, event_time if usable else None)


def message_key(payload: bytes, dataset: Dataset) -> bytes | None:
    """The text of the key field, as cleaning reads it; None if the payload has no valid one, or no key is declared."""
    try:
        value = msgspec.json.decode(payload)[dataset.key]
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError):
        return None
    key = identifier(value, frozenset(dataset.missing))
    return key.encode() if isinstance(key, str) else None


class CachedPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """Kafka's default partitioner (murmur2 of the key) with a cache: hashing in Python is a third of a send's cost."""

    def __init__(self) -> None:
        self._cache: dict[tuple[str, bytes], int] = {}

    def partition(self, topic: str, key: Any, serialized_key: bytes | None, *rest: Any) -> int:
        """The key's partition. Partitions that are added later are used by the next producer only."""
        if serialized_key is None:
            return int(super().partition(topic, key, serialized_key, *rest))
        cached = self._cache.get((topic, serialized_key))
        if cached is None:
            cached = int(super().partition(topic, key, serialized_key, *rest))
            if len(self._cache) < MAX_CACHED_KEYS:
                self._cache[topic, serialized_key] = cached
        return cached


@contextlib.contextmanager
def connected(bootstrap: str) -> Iterator[Any]:
    """An idempotent producer that waits for all replicas; closed afterwards.

    Raises BrokerError if the broker does not respond.
    """
    with require_broker(bootstrap):
        producer = KafkaProducer(
            **client_config(bootstrap),
            acks="all",
            enable_idempotence=True,
            allow_auto_create_topics=False,
            linger_ms=5,
            batch_size=256 * 1024,
            compression_type=COMPRESSION,
            max_block_ms=15_000,
            bootstrap_timeout_ms=15_000,
            partitioner=CachedPartitioner(),
        )
    try:
        yield producer
    finally:
        producer.close(timeout=30)


def send(producer: Any, topic: str, messages: Iterable[Message], rate: float | None = None) -> Sent:
    """Produce on schedule, independent of acknowledgements (open loop), and wait until every record is acknowledged.

    rate: records per second; None for full speed.
    Raises BrokerError if a record is not acknowledged or the topic does not exist.
    """
    in_flight: deque[Any] = deque()
    n, max_behind_s = 0, 0.0
    try:
        producer.partitions_for(topic)
        start = time.monotonic()
        for message in messages:
            if rate:
                early_s = start + n / rate - time.monotonic()
                if early_s > 0.001:
                    time.sleep(early_s)
                max_behind_s = max(max_behind_s, -early_s)
            in_flight.append(
                producer.send(topic, key=message.key, value=message.value, timestamp_ms=message.timestamp_ms)
            )
            n += 1
            if len(in_flight) > MAX_IN_FLIGHT:
                in_flight.popleft().get(ACKNOWLEDGE_TIMEOUT_S)
        producer.flush(ACKNOWLEDGE_TIMEOUT_S)
        for future in in_flight:
            future.get(ACKNOWLEDGE_TIMEOUT_S)
    except (KafkaError, ValueError) as error:
        raise BrokerError(
            f"topic {topic}: record {n:,} could not be produced: {error}; `tamiz topics list` shows the existing topics"
        ) from None
    seconds = time.monotonic() - start
    return Sent(topic, n, round(seconds, 3), round(n / seconds if seconds else 0.0, 1), round(max_behind_s * 1000, 1))


def topic_retention_ms(bootstrap: str, topic: str) -> int:
    """Retention of a topic in ms; a thousand years for unlimited retention."""
    with admin(bootstrap) as client:
        described = client.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": None})], config_filter="all"
        )
    entry = described["topic"][topic]["retention.ms"]
    retention_ms = int(entry["value"])
    return retention_ms if retention_ms >= 0 else 1_000 * 365 * DAY_MS


def show_progress(messages: Iterable[Message], total: int | None, *, quiet: bool) -> Iterable[Message]:
    """Yield the messages and show a progress bar on standard error."""
    if quiet:
        return messages
    from rich.console import Console
    from rich.progress import track

    return track(messages, "producing", total=total, console=Console(stderr=True))


def _batched(payloads: Iterable[bytes], n: int) -> Iterator[Sequence[bytes]]:
    source = iter(payloads)
    while batch := list(itertools.islice(source, n)):
        yield batch
