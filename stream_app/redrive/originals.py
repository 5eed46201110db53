"""Originals of dead letters that were cut: fetched from the topic of transactions, by offset, and checked by SHA-256.

An offset alone proves nothing: the record may have expired, or its topic may have been made anew. What is fetched
counts only when its digest is the one that the dead letter gives.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.record_parts import CUT_HEADERS_HEADER, TruncatedBytes
from stream_app.decisions.dead_letters import (
    CUT_KEY_SHA256_HEADER,
    CUT_VALUE_BYTES_HEADER,
    CUT_VALUE_SHA256_HEADER,
    DeadLetter,
)
from stream_app.kafka.kafka_clients import RecordConsumer, client_config, require_broker
from stream_app.kafka.topic_reader import ConsumedRecord

FETCH_TIMEOUT_MS = 5_000
KEEP_ORIGINAL_BYTES = 16 * 1024 * 1024  # of a value; a larger one cannot be had
MAX_ORIGINAL_BYTES = 64 * 1024 * 1024  # of one fetch; brokers give a record that is larger, too, when it is the first


class Cut(NamedTuple):
    """What a dead letter lacks of its original."""

    value_sha256: str | None  # None: the value is whole
    value_bytes: int  # 0 where the value is whole, or no number is given
    key_sha256: str | None  # None: the key is whole
    headers: bool  # some are cut, or left out


def cut_of(headers: Iterable[tuple[str, bytes | None]]) -> Cut | None:
    """What the headers of a dead letter say was cut; None: nothing. Of a repeated name the first one counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        found.setdefault(name, (value or b"").decode("ascii", "replace"))
    size = found.get(CUT_VALUE_BYTES_HEADER, "")
    cut = Cut(
        value_sha256=found.get(CUT_VALUE_SHA256_HEADER),
        value_bytes=int(size) if re.fullmatch(r"[0-9]{1,12}", size) else 0,
        key_sha256=found.get(CUT_KEY_SHA256_HEADER),
        headers=CUT_HEADERS_HEADER in found,
    )
    return cut if cut.value_sha256 or cut.key_sha256 or cut.headers else None


def matches(original: ConsumedRecord, cut: Cut) -> bool:
    """Whether a record is the original of what was cut."""
    if isinstance(original.value, TruncatedBytes) or isinstance(original.key, TruncatedBytes):
        return False  # too large for us to have it whole
    return (cut.value_sha256 is None or _sha256(original.value) == cut.value_sha256) and (
        cut.key_sha256 is None or _sha256(original.key) == cut.key_sha256
    )


class Originals:
    """Fetches originals, one at a time; `opened` makes it."""

    def __init__(self, consumer: Any, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def fetch(self, about: DeadLetter, cut: Cut) -> ConsumedRecord | None:
        """The original; None when it is not there, any more or at all.

        Only the topic of transactions is read: whoever can write a dead letter must not make us copy another topic.
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
        if not records or records[0].offset != about.offset or not matches(records[0], cut):
            return None
        record: ConsumedRecord = records[0]
        return record


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Originals]:
    """A fetcher on a consumer of its own. Raises BrokerError when no Kafka answers."""
    with require_broker(settings.bootstrap):
        consumer = RecordConsumer(
            **client_config(settings.bootstrap),
            keep_bytes=KEEP_ORIGINAL_BYTES,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            allow_auto_create_topics=False,
            max_partition_fetch_bytes=1024,  # no more than the one record that is asked for
            fetch_max_bytes=MAX_ORIGINAL_BYTES,
        )
    try:
        yield Originals(consumer, settings.transactions_topic)
    finally:
        with contextlib.suppress(KafkaError):
            consumer.close()


def _sha256(content: bytes | None) -> str:
    return hashlib.sha256(content or b"").hexdigest()
