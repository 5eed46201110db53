"""Fetches the originals of truncated dead letters from the transactions topic, by offset, and verifies their SHA-256.

The offset alone is not enough: retention may have deleted the record, or the topic may have been recreated. A fetched
record is used only if its digest matches the one in the dead letter.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.record_parts import TRUNCATED_HEADERS_HEADER, TruncatedBytes
from stream_app.decisions.dead_letters import (
    TRUNCATED_KEY_SHA256_HEADER,
    TRUNCATED_VALUE_BYTES_HEADER,
    TRUNCATED_VALUE_SHA256_HEADER,
    DeadLetter,
)
from stream_app.kafka.kafka_clients import RecordConsumer, client_config, require_broker
from stream_app.kafka.topic_reader import ConsumedRecord

FETCH_TIMEOUT_MS = 5_000
KEEP_ORIGINAL_BYTES = 16 * 1024 * 1024  # largest value that is restored
MAX_ORIGINAL_BYTES = 64 * 1024 * 1024  # per fetch; a broker returns a larger record if it is the first one


class Truncation(NamedTuple):
    """The truncated parts of a dead letter."""

    value_sha256: str | None  # None: the value is whole
    value_bytes: int  # length of the whole value; 0 if the value is whole or the header is invalid
    key_sha256: str | None  # None: the key is whole
    headers: bool  # some headers are truncated or left out


def read_truncation(headers: Iterable[tuple[str, bytes | None]]) -> Truncation | None:
    """The truncated parts of a dead letter; None if it is whole. The first of a repeated header counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        found.setdefault(name, (value or b"").decode("ascii", "replace"))
    size = found.get(TRUNCATED_VALUE_BYTES_HEADER, "")
    truncation = Truncation(
        value_sha256=found.get(TRUNCATED_VALUE_SHA256_HEADER),
        value_bytes=int(size) if re.fullmatch(r"[0-9]{1,12}", size) else 0,
        key_sha256=found.get(TRUNCATED_KEY_SHA256_HEADER),
        headers=TRUNCATED_HEADERS_HEADER in found,
    )
    return truncation if truncation.value_sha256 or truncation.key_sha256 or truncation.headers else None


def matches(original: ConsumedRecord, truncation: Truncation) -> bool:
    """Whether a record is the original of a truncated dead letter."""
    if isinstance(original.value, TruncatedBytes) or isinstance(original.key, TruncatedBytes):
        return False  # larger than `KEEP_ORIGINAL_BYTES`
    return (truncation.value_sha256 is None or _sha256(original.value) == truncation.value_sha256) and (
        truncation.key_sha256 is None or _sha256(original.key) == truncation.key_sha256
    )


class Originals:
    """Fetches originals, one at a time. Created by `open_originals`."""

    def __init__(self, consumer: Any, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def fetch(self, about: DeadLetter, truncation: Truncation) -> ConsumedRecord | None:
        """The original record; None if it does not exist (any more) or does not match.

        Reads the transactions topic only, so that a forged dead letter cannot copy records of another topic.
        """
        if about.topic != self._topic or about.offset < 0:
            return None
        place = TopicPartition(about.topic, about.partition)
        if about.partition not in (self._consumer.partitions_for_topic(self._topic) or ()):
            return None
        self._consumer.assign([place])
        begin, end = self._consumer.beginning_offsets([place])[place], self._consumer.end_offsets([place])[place]
        if not begin <= about.offset < end:
            return None
        self._consumer.seek(place, about.offset)
        records = self._consumer.poll(timeout_ms=FETCH_TIMEOUT_MS, max_records=1).get(place, [])
        if not records or records[0].offset != about.offset or not matches(records[0], truncation):
            return None
        record: ConsumedRecord = records[0]
        return record


@contextlib.contextmanager
def open_originals(settings: Settings) -> Iterator[Originals]:
    """A fetcher with a consumer of its own. Raises BrokerError if the broker does not respond."""
    with require_broker(settings.bootstrap):
        consumer = RecordConsumer(
            **client_config(settings.bootstrap),
            keep_bytes=KEEP_ORIGINAL_BYTES,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            allow_auto_create_topics=False,
            max_partition_fetch_bytes=1024,  # only the requested record
            fetch_max_bytes=MAX_ORIGINAL_BYTES,
        )
    try:
        yield Originals(consumer, settings.transactions_topic)
    finally:
        with contextlib.suppress(KafkaError):
            consumer.close()


def _sha256(content: bytes | None) -> str:
    return hashlib.sha256(content or b"").hexdigest()
