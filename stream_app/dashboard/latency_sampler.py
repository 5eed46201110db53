"""How long transactions waited for their decisions: a sample, so that neither worker nor broker feels it.

A decision carries its transaction's offset and its own time; when the transaction came stands only on `transactions`.
Once a second the first few kilobytes behind one recent offset of each partition are read there, and matched.
"""

import time
from collections import deque
from typing import Any

from kafka import TopicPartition

from stream_app.decisions.handler import OFFSET_HEADER
from stream_app.kafka.topic_reader import ConsumedRecord

KEPT = 2_000  # decisions of one partition
INTERVAL_S = 1.0
TIMEOUT_S = 1.0


class LatencySampler:
    """One thread's own."""

    def __init__(self) -> None:
        self._decided: dict[int, deque[tuple[int, int]]] = {}  # by partition: input offset, when it was decided
        self._found: list[tuple[float, int]] = []
        self._looked = 0.0

    def decided(self, record: ConsumedRecord) -> None:
        """Take note of a decision, which lies on the partition number of its transaction."""
        offset = next((value for name, value in record.headers if name == OFFSET_HEADER), None) or b""
        if offset.isdigit() and len(offset) < 19:
            self._decided.setdefault(record.partition, deque(maxlen=KEPT)).append((int(offset), record.timestamp))

    def look_up(self, consumer: Any, topic: str) -> None:
        """Read when some of the noted decisions' transactions came, if it is time. consumer: used for nothing else."""
        if time.monotonic() - self._looked < INTERVAL_S or not self._decided:
            return
        self._looked = time.monotonic()
        noted = {TopicPartition(topic, p): dict(places) for p, places in self._decided.items()}
        self._decided = {}
        there = consumer.partitions_for_topic(topic) or set()
        wanted = {place: places for place, places in noted.items() if place.partition in there}
        consumer.assign(list(wanted))
        for place, places in wanted.items():
            consumer.seek(place, list(places)[-min(len(places), 200)])
        deadline = time.monotonic() + TIMEOUT_S
        while wanted and time.monotonic() < deadline:
            for place, records in consumer.poll(timeout_ms=100).items():
                decided = wanted.pop(place, {})
                pairs = [(decided[r.offset], r.timestamp) for r in records if r.offset in decided]
                self._found += [(decided_ms - came_ms, decided_ms) for decided_ms, came_ms in pairs]

    def found(self) -> list[tuple[float, int]]:
        """Latency (ms) and time of the decision of what was looked up since the last call."""
        found, self._found = self._found, []
        return found
