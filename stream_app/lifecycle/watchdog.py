"""A worker that looks after itself: one that stands still while transactions wait says so, then ends.

Consumers can die without an error, and a loop can hang while heartbeats, which have a thread of their own, go on. So
progress is judged from outside, as an operator would: is the first transaction that is not committed still the same
one? A thread asks; a broker that does not answer tells nothing, and is not the worker's fault.
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
MAX_WAIT_S = 15.0
FETCHED = -1  # stands for a partition: what was fetched and is not done, by the worker's own count


class StalledError(Exception):
    """Transactions wait, and none is decided."""


class StallDetector:
    """How long the first waiting transaction of a partition has been the same: a fold over looks at the group."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[int, float]] = {}

    def observe(self, now_s: float, waiting: Mapping[int, int]) -> float:
        """Seconds that the longest-waiting partition has stood still; 0 when none has.

        waiting: partition -> the first offset that is not committed, of those with records there.
        """
        self._since = {
            partition: (offset, since if offset == known else now_s)
            for partition, offset in waiting.items()
            for known, since in [self._since.get(partition, (offset, now_s))]
        }
        return max((now_s - since for _, since in self._since.values()), default=0.0)


class Backlog(NamedTuple):
    """What waits in one partition."""

    first: int | None  # offset of the first record behind the committed offset; None when there is none
    lag: int  # offsets from the committed one to the end; a transaction's marker fills one, too


def backlogs(bootstrap: str, group: str, topic: str, partitions: list[int]) -> dict[int, Backlog]:
    """What waits for the group in each of these partitions.

    Raises BrokerError or KafkaError when the broker does not answer.
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
        for place in (TopicPartition(topic, p) for p in partitions):
            if (done := consumer.committed(place)) is None:
                done = consumer.beginning_offsets([place])[place]
            lag = consumer.end_offsets([place])[place] - done
            records = []
            # Markers of transactions fill offsets, too: only a record is somebody who waits.
            if lag > 0:
                consumer.assign([place])
                records = consumer.poll(timeout_ms=2_000).get(place, [])
            found[place.partition] = Backlog(records[0].offset if records else None, max(lag, 0))
        return found
    finally:
        consumer.close()


class Watchdog(threading.Thread):
    """Looks at the worker's own partitions until it ends."""

    def __init__(
        self,
        look: Callable[[], Mapping[int, Backlog]],
        patience_s: float,
        tell: Callable[[Mapping[int, Backlog]], None],
        die: Callable[[BaseException], None],
        progress: Callable[[], int | None] = lambda: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """look: as `backlogs`. patience_s: a standstill of half of it is told, one of all of it is the end.

        progress: of the worker itself, as `Scorer.progress`: judged where looking at the group fails by a fault of
        ours. failed: called when it did.
        """
        super().__init__(name="tamiz-self-care", daemon=True)
        self._look = look
        self._tell = tell
        self._patience_s = patience_s
        self._die = die
        self._progress = progress
        self._failed = failed
        self._over = threading.Event()
        self.stalled_s = 0.0

    @property
    def stalled(self) -> bool:
        """Whether the worker should be called unready."""
        return self.stalled_s >= self._patience_s / 2

    def run(self) -> None:
        """Look, some times within the patience."""
        standstill = StallDetector()
        while not self._over.wait(self._patience_s / 8):
            waiting = self._waiting()
            self.stalled_s = standstill.observe(time.monotonic(), waiting)
            if self.stalled_s >= self._patience_s:
                places = ", ".join(
                    "fetched already" if p == FETCHED else f"{p} at {offset}" for p, offset in sorted(waiting.items())
                )
                self._die(
                    StalledError(f"transactions wait (partition {places}), none was decided for {self.stalled_s:.0f} s")
                )
                return

    def _waiting(self) -> dict[int, int]:
        try:
            seen = self._look()
            self._tell(seen)
        except (KafkaError, BrokerError):
            return {}
        except Exception:
            # A fault of ours must not end the watch. What the worker holds itself is still known.
            log.exception("the watchdog cannot look at the group; it goes by what was fetched")
            self._failed()
            done = self._progress()
            return {} if done is None else {FETCHED: done}
        return {partition: backlog.first for partition, backlog in seen.items() if backlog.first is not None}

    def stop(self) -> None:
        """Look no more."""
        self._over.set()


def retry_until(attempt: Callable[[], T], timeout_s: float) -> T:
    """Try until broker and registry are there, ever more slowly; every refusal is told in a line.

    Raises what the last attempt raised, BrokerError or ModelUnavailableError, once the time is over.
    """
    over, wait_s = time.monotonic() + timeout_s, 0.5
    while True:
        try:
            return attempt()
        except (BrokerError, ModelUnavailableError) as error:
            left = over - time.monotonic()
            if left <= 0:
                raise
            wait_s = min(wait_s * 2, MAX_WAIT_S, left)
            log.warning("cannot start yet: %s; trying again in %.0f s, for %.0f s more", error, wait_s, left)
        time.sleep(wait_s)
