"""Samples the latency from a transaction to its decision, without measurable load on workers and broker.

A decision carries its transaction's offset and its own timestamp. The transaction's timestamp is only on
`transactions`. Once a second, a few kilobytes from one recent offset of each partition are read there and matched.
"""

import time
from collections import deque
from typing import Any

from kafka import TopicPartition

from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.kafka.topic_reader import ConsumedRecord

MAX_DECISIONS_PER_PARTITION = 2_000
MAX_OFFSETS_BACK = 200  # decisions; how far before the newest one sampling starts
SAMPLE_INTERVAL_S = 1.0
SAMPLE_TIMEOUT_S = 1.0


class LatencySampler:
    """Matches decisions with the timestamps of their transactions. Not thread-safe."""

    def __init__(self) -> None:
        self._decided: dict[int, deque[tuple[int, int]]] = {}  # partition -> input offset, decision time
        self._samples: list[tuple[float, int]] = []
        self._sampled_s = 0.0

    def update(self, record: ConsumedRecord) -> None:
        """Remember a decision. Its partition number equals that of its transaction."""
        offset = next((value for name, value in record.headers if name == OFFSET_HEADER), None) or b""
        if offset.isdigit() and len(offset) < 19:
            self._decided.setdefault(record.partition, deque(maxlen=MAX_DECISIONS_PER_PARTITION)).append(
                (int(offset), record.timestamp)
            )

    def sample(self, consumer: Any, topic: str) -> None:
        """Read the timestamps of some remembered decisions' transactions, at most once a second.

        consumer: a kafka-python consumer that nothing else uses; its assignment is replaced. topic: `transactions`.
        """
        if time.monotonic() - self._sampled_s < SAMPLE_INTERVAL_S or not self._decided:
            return
        self._sampled_s = time.monotonic()
        remembered = {TopicPartition(topic, p): dict(offsets) for p, offsets in self._decided.items()}
        self._decided = {}
        existing = consumer.partitions_for_topic(topic) or set()
        pending = {tp: offsets for tp, offsets in remembered.items() if tp.partition in existing}
        consumer.assign(list(pending))
        for tp, offsets in pending.items():
            consumer.seek(tp, list(offsets)[-min(len(offsets), MAX_OFFSETS_BACK)])
        deadline = time.monotonic() + SAMPLE_TIMEOUT_S
        while pending and time.monotonic() < deadline:
            for tp, records in consumer.poll(timeout_ms=100).items():
                decided = pending.pop(tp, {})
                pairs = [(decided[r.offset], r.timestamp) for r in records if r.offset in decided]
                self._samples += [(decided_ms - arrived_ms, decided_ms) for decided_ms, arrived_ms in pairs]

    def drain(self) -> list[tuple[float, int]]:
        """The samples since the last call: latency in ms, and time of the decision in ms since 1970."""
        samples, self._samples = self._samples, []
        return samples
