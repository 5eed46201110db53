"""A thread that reads topics without a consumer group, and others that wait until it has read to their end.

When the broker does not respond, reading continues later from the same offsets.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.errors import BrokerError
from schemas.topics import MAX_RECORD_BYTES
from stream_app.kafka.kafka_clients import METADATA_MAX_AGE_MS, reader, require_broker
from stream_app.kafka.topic_reader import existing_partitions

RETRY_DELAY_S = 2.0


class FollowerThread:
    """Base class: a subclass reads in `_follow`."""

    def __init__(self, bootstrap: str, topics: Sequence[str], name: str, log: logging.Logger) -> None:
        """name: of the thread. Without topics there is nothing to wait for."""
        self._bootstrap = bootstrap
        self._topics = topics
        self._log = log
        self._condition = threading.Condition()
        self._requested = 1  # requests to read to the end of the topics; the first is that of readiness
        self._served = 0
        self._serving = 0  # the request for which `_ends` were read
        self._ends: dict[TopicPartition, int] = {}  # that are waited for
        self._left = 0  # records until then
        self._fault: str | None = None  # why the topics cannot be read
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_ready(self) -> bool:
        """Whether everything that was there at the start is read."""
        return self._served > 0 or not self._topics

    @property
    def progress(self) -> str:
        """One line for readiness and the log."""
        return f"{' and '.join(self._topics)}: {self._fault or f'{self._left:,} records left'}"

    def start(self) -> None:
        """Start the thread, if there are topics."""
        if self._topics:
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stopping.set()
        with self._condition:
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def catch_up(self, timeout_s: float | None = None) -> bool:
        """Wait until everything that is there now is read. False after the timeout, or when the follower stops."""
        if not self._topics:
            return True
        with self._condition:
            self._requested += 1
            mine = self._requested
            self._condition.wait_for(lambda: self._served >= mine or self._stopping.is_set(), timeout_s)
            return self._served >= mine

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except (KafkaError, BrokerError, OSError) as error:
                self._fault = f"cannot be read: {error}"
                names = " and ".join(self._topics)
                self._log.warning("%s cannot be read: %s; retry in %.0f s", names, error, RETRY_DELAY_S)
                self._stopping.wait(RETRY_DELAY_S)

    def _follow(self) -> None:
        """Read the topics until stopped, or until they must be opened again."""
        raise NotImplementedError

    def _consumer(self, *, max_poll_records: int, poll_timeout_ms: int, auto_offset_reset: str) -> Any:
        with require_broker(self._bootstrap):
            return reader(
                self._bootstrap,
                keep_bytes=MAX_RECORD_BYTES,
                max_poll_records=max_poll_records,
                fetch_max_wait_ms=poll_timeout_ms,
                bootstrap_timeout_ms=15_000,
                metadata_max_age_ms=METADATA_MAX_AGE_MS,
                auto_offset_reset=auto_offset_reset,
            )

    def _partitions(self, consumer: Any) -> list[TopicPartition]:
        return [p for topic in self._topics for p in existing_partitions(consumer, self._bootstrap, topic)]

    @property
    def _has_request(self) -> bool:
        return self._serving == self._served < self._requested

    def _take_request(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        """Begin to read to the end of the partitions."""
        self._serving = self._requested
        self._ends = consumer.end_offsets(partitions)

    def _note_positions(self, positions: dict[TopicPartition, int]) -> bool:
        """Note the next offsets. Returns whether the end is reached that a request waits for."""
        self._fault = None
        self._left = sum(max(0, end - positions[tp]) for tp, end in self._ends.items())
        return self._serving > self._served and not self._left

    def _serve(self) -> None:
        """Answer the request."""
        with self._condition:
            self._served = self._serving
            self._condition.notify_all()
