"""Watchdog: marks the worker not ready when no offset is committed while records wait, and exits after a timeout.

A consumer can die without an error, and scoring can hang in its thread while heartbeats continue. So the watchdog
checks progress from outside, in a thread: is the first uncommitted record still the same one?

While the worker's consumer gets answers from the broker and records are written, the watchdog relies on them
(`known_backlogs`). In doubt, a client of its own asks the broker (`read_backlogs`): a dead consumer would not notice
that records wait. A broker that does not respond is not counted as a stall of the worker.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from schemas.errors import BrokerError, ModelUnavailableError
from stream_app.kafka.kafka_clients import client_config, require_broker

log = logging.getLogger("tamiz.worker")
T = TypeVar("T")
MAX_RETRY_DELAY_S = 2.0  # of a start that waits for broker or registry
CHECKS_PER_TIMEOUT = 8
FETCHED = -1  # pseudo partition: records fetched and not done, by the worker's own count


class StalledError(Exception):
    """Transactions wait and none is decided."""


class StallDetector:
    """Measures for how long the first waiting record of a partition has been the same: a fold over observations."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[int, float]] = {}

    def update(self, now_s: float, waiting: Mapping[int, int]) -> float:
        """Seconds without progress in the partition that has waited longest; 0 if every partition progresses.

        now_s: monotonic clock. waiting: partition -> first uncommitted offset, for partitions with waiting records.
        """
        self._since = {
            partition: (offset, since if offset == known else now_s)
            for partition, offset in waiting.items()
            for known, since in [self._since.get(partition, (offset, now_s))]
        }
        return max((now_s - since for _, since in self._since.values()), default=0.0)


class Backlog(NamedTuple):
    """The waiting records of one partition."""

    first: int | None  # offset of the first uncommitted record; None if there is none
    lag: int  # offsets from the committed one to the end; markers of Kafka transactions count, too


class ConsumedPartition(NamedTuple):
    """What the worker's own consumer knows of a partition."""

    position: int  # next offset to be passed to the worker
    end: int  # offset after the last record that may be read, by the last answer to a fetch
    answered_s: float  # when that answer came; wall clock


def known_backlogs(
    consumed: Mapping[int, ConsumedPartition],
    written: Mapping[int, int],
    written_before: Mapping[int, int],
    *,
    is_idle: bool,
    answered_since_s: float,
) -> dict[int, Backlog]:
    """The waiting records of those partitions for which the worker itself can tell: none wait, or some were written.

    written, written_before: offset after the last record whose output is written, now and at the previous check.
    is_idle: whether nothing that was read is unwritten. answered_since_s: older answers of the broker are not trusted.
    """
    found = {}
    for partition, state in consumed.items():
        if state.answered_s < answered_since_s:
            continue
        if is_idle and state.position >= state.end:
            found[partition] = Backlog(None, 0)
        elif partition in written_before and (offset := written.get(partition, 0)) > written_before[partition]:
            found[partition] = Backlog(offset, max(state.end - offset, 0))
    return found


def read_backlogs(bootstrap: str, group: str, topic: str, partitions: list[int]) -> dict[int, Backlog]:
    """The waiting records of a consumer group, by partition, as the broker knows them.

    Raises BrokerError or KafkaError if the broker does not respond.
    """
    with require_broker(bootstrap):
        consumer = KafkaConsumer(
            **client_config(bootstrap),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=1,
            bootstrap_timeout_ms=10_000,
        )
    try:
        found = {}
        for tp in (TopicPartition(topic, p) for p in partitions):
            if (committed := consumer.committed(tp)) is None:
                committed = consumer.beginning_offsets([tp])[tp]
            lag = consumer.end_offsets([tp])[tp] - committed
            records = []
            # Markers of Kafka transactions occupy offsets, too; only a record counts as waiting.
            if lag > 0:
                consumer.assign([tp])
                records = consumer.poll(timeout_ms=2_000).get(tp, [])
            found[tp.partition] = Backlog(records[0].offset if records else None, max(lag, 0))
        return found
    finally:
        consumer.close()


class Watchdog(threading.Thread):
    """Thread that checks the worker's partitions until it is stopped."""

    def __init__(
        self,
        read_backlogs: Callable[[], Mapping[int, Backlog]],
        stall_timeout_s: float,
        on_backlogs: Callable[[Mapping[int, Backlog]], None],
        exit_: Callable[[BaseException], None],
        progress: Callable[[], int | None] = lambda: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """read_backlogs: the waiting records by partition. on_backlogs: called with each result.

        stall_timeout_s: reports not ready after half this time without progress; calls `exit_` after all of it.
        progress: as `WorkerLoop.progress`; used when reading backlogs fails with an internal error. on_failure: called
        then.
        """
        super().__init__(name="tamiz-watchdog", daemon=True)
        self._read_backlogs = read_backlogs
        self._on_backlogs = on_backlogs
        self._stall_timeout_s = stall_timeout_s
        self._exit = exit_
        self._progress = progress
        self._on_failure = on_failure
        self._stop_event = threading.Event()
        self.stalled_s = 0.0

    @property
    def is_stalled(self) -> bool:
        """Whether the worker should report not ready."""
        return self.stalled_s >= self._stall_timeout_s / 2

    def run(self) -> None:
        """Check `CHECKS_PER_TIMEOUT` times within the stall timeout, until stopped."""
        detector = StallDetector()
        while not self._stop_event.wait(self._stall_timeout_s / CHECKS_PER_TIMEOUT):
            waiting = self._waiting()
            self.stalled_s = detector.update(time.monotonic(), waiting)
            if self.stalled_s >= self._stall_timeout_s:
                places = ", ".join(
                    "fetched already" if p == FETCHED else f"{p} at {offset}" for p, offset in sorted(waiting.items())
                )
                self._exit(
                    StalledError(f"transactions wait (partition {places}); none was decided for {self.stalled_s:.0f} s")
                )
                return

    def _waiting(self) -> dict[int, int]:
        try:
            read = self._read_backlogs()
            self._on_backlogs(read)
        except (KafkaError, BrokerError):
            return {}
        except Exception:
            # A bug must not end the watchdog. The worker's own count of fetches is still available.
            log.exception("the watchdog cannot read the group's backlog; it uses the worker's own count of fetches")
            self._on_failure()
            finished = self._progress()
            return {} if finished is None else {FETCHED: finished}
        return {partition: backlog.first for partition, backlog in read.items() if backlog.first is not None}

    def stop(self) -> None:
        """Stop checking."""
        self._stop_event.set()


def retry_until(attempt: Callable[[], T], timeout_s: float) -> T:
    """Retry with exponential backoff until broker and registry respond. Logs each failure in one line.

    Raises the error of the last attempt, BrokerError or ModelUnavailableError, after `timeout_s`.
    """
    deadline_s, wait_s = time.monotonic() + timeout_s, 0.5
    while True:
        try:
            return attempt()
        except (BrokerError, ModelUnavailableError) as error:
            left = deadline_s - time.monotonic()
            if left <= 0:
                raise
            wait_s = min(wait_s * 2, MAX_RETRY_DELAY_S, left)
            log.warning("cannot start yet: %s; retry in %.1f s, giving up in %.0f s", error, wait_s, left)
        time.sleep(wait_s)
