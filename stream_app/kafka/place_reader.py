"""Reads single records by partition and offset."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from stream_app.kafka.batches.record_batches import KEEP_BYTES
from stream_app.kafka.kafka_clients import METADATA_MAX_AGE_MS, reader, require_broker
from stream_app.kafka.topic_reader import ConsumedRecord

SEEK_DISTANCE = 300  # offsets; records nearer than that are read one after the other
REQUEST_TIMEOUT_MS = 5_000
POLL_TIMEOUT_MS = 100
FETCH_BYTES = 65_536  # of a partition at once; a larger record batch is fetched whole


class PlaceReader:
    """Reads records of one topic. Not thread-safe. Connects at the first call, and again after a failure."""

    def __init__(self, bootstrap: str, topic: str, *, keep_bytes: int = KEEP_BYTES) -> None:
        """keep_bytes: as for `RecordConsumer`."""
        self._bootstrap = bootstrap
        self._topic = topic
        self._keep_bytes = keep_bytes
        self._consumer: Any = None

    def read(self, places: Iterable[tuple[int, int]], timeout_s: float) -> dict[tuple[int, int], ConsumedRecord]:
        """The records at some partitions and offsets. Those that do not exist, or are not read in time, are left out.

        Raises BrokerError or KafkaError if the broker does not respond.
        """
        until_s = time.monotonic() + timeout_s
        if self._consumer is None:
            with require_broker(self._bootstrap):
                self._consumer = reader(
                    self._bootstrap,
                    keep_bytes=self._keep_bytes,
                    bootstrap_timeout_ms=15_000,
                    metadata_max_age_ms=METADATA_MAX_AGE_MS,
                    fetch_max_wait_ms=20,
                    max_partition_fetch_bytes=FETCH_BYTES,
                    auto_offset_reset="latest",
                )
        try:
            return self._read(places, until_s)
        except KafkaError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _read(self, places: Iterable[tuple[int, int]], until_s: float) -> dict[tuple[int, int], ConsumedRecord]:
        consumer, left = self._consumer, self._existing(places)
        found: dict[tuple[int, int], ConsumedRecord] = {}
        consumer.assign(list(left))
        consumer.resume(*left)  # a partition that was assigned before is paused
        for tp, offsets in left.items():
            consumer.seek(tp, offsets[0])
        while left and time.monotonic() < until_s:
            for tp, records in consumer.poll(timeout_ms=POLL_TIMEOUT_MS).items():
                offsets = left.get(tp, deque())
                wanted = set(offsets)
                found |= {(tp.partition, r.offset): r for r in records if r.offset in wanted}
            for tp, offsets in list(left.items()):
                position = consumer.position(tp)
                while offsets and offsets[0] < position:  # read, or not in the log any more
                    offsets.popleft()
                if not offsets:
                    del left[tp]
                    consumer.pause(tp)
                elif offsets[0] > position + SEEK_DISTANCE:
                    consumer.seek(tp, offsets[0])
        return found

    def _existing(self, places: Iterable[tuple[int, int]]) -> dict[TopicPartition, deque[int]]:
        """The offsets to read by partition, ascending: those that are in the log."""
        known = self._consumer.partitions_for_topic(self._topic) or set()
        wanted: dict[TopicPartition, set[int]] = {}
        for partition, offset in places:
            if partition in known:
                wanted.setdefault(TopicPartition(self._topic, partition), set()).add(offset)
        if not wanted:
            return {}
        begins: Mapping[TopicPartition, int] = self._consumer.beginning_offsets(
            list(wanted), timeout_ms=REQUEST_TIMEOUT_MS
        )
        ends: Mapping[TopicPartition, int] = self._consumer.end_offsets(list(wanted), timeout_ms=REQUEST_TIMEOUT_MS)
        inside = {
            tp: deque(sorted(offset for offset in offsets if begins[tp] <= offset < ends[tp]))
            for tp, offsets in wanted.items()
        }
        return {tp: offsets for tp, offsets in inside.items() if offsets}
