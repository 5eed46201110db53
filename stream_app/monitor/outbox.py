"""Outbox of the monitor: a report is sent only after the alerts and requests before it are acknowledged.

    alert ─┐
    request ┼▶ waiting ─▶ sent ─▶ acknowledged: removed
    report ─┘     ▲────────────── refused or timed out: counted, and sent again after `RETRY_DELAY_S`

At its start the monitor publishes nothing up to the last report on the topic. A report sent after a lost alert would
hide that alert permanently. If an alert is refused, other alerts are still sent, and reports wait.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

from schemas.errors import BrokerError
from schemas.security.sanitizer import printable

log = logging.getLogger("tamiz.monitor")
RETRY_DELAY_S = 60.0
TIMEOUT_ERRORS = (KafkaTimeoutError, KafkaConnectionError)  # the next record would time out, too
MAX_WAITING = 1_000  # records; some days of evaluations
FLUSH_RECORDS = 100  # waiting records that trigger a flush
CLOSE_TIMEOUT_S = 5
MAX_REASON_LENGTH = 300  # characters of an error in the log


class OutboxRecord(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A record to publish."""

    topic: str
    key: bytes
    value: bytes


class Outbox:
    """Records in the order of their evaluations. Not thread-safe."""

    def __init__(
        self,
        make_producer: Callable[[], Any],
        *,
        last_topics: Collection[str],
        on_refused: Callable[[str], None],
        on_waiting: Callable[[int], None],
    ) -> None:
        """last_topics: records on them wait for all records added before them.

        on_refused: called with the topic of each failed attempt. on_waiting: called with the number of waiting records.
        """
        self._make_producer = make_producer  # a producer can fail permanently, so a new one is created after a failure
        self._producer: Any = None
        self._last_topics = frozenset(last_topics)
        self._on_refused = on_refused
        self._on_waiting = on_waiting
        self._waiting: list[OutboxRecord] = []
        self._is_retry = False  # send records one by one, so that a refused one fails no other
        self._retry_at_s = 0.0  # monotonic clock

    def add(self, topic: str, key: str, record: msgspec.Struct) -> None:
        """Append a record."""
        self._waiting.append(OutboxRecord(topic=topic, key=key.encode(), value=msgspec.json.encode(record)))
        if len(self._waiting) >= FLUSH_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Send waiting records and wait for acknowledgements. Does nothing within `RETRY_DELAY_S` after a failure.

        Beyond `MAX_WAITING` records, the oldest reports are dropped and counted, but no alert. Raises BrokerError if
        that many alerts and requests wait; after a restart they are evaluated again.
        """
        if self._waiting and time.monotonic() >= self._retry_at_s:
            urgent = [record for record in self._waiting if record.topic not in self._last_topics]
            self._settle(urgent, failed := self._send(urgent, at_once=1))
            first = next((n for n, record in enumerate(self._waiting) if record in failed), len(self._waiting))
            reports = self._waiting[:first]
            at_once = 1 if self._is_retry else FLUSH_RECORDS
            self._settle(reports, refused := self._send(reports, at_once=at_once))
            self._is_retry = bool(failed or refused)
        self._drop_reports()
        self._on_waiting(len(self._waiting))
        if len(self._waiting) >= MAX_WAITING:
            first_topic = self._waiting[0].topic
            raise BrokerError(f"{len(self._waiting)} records cannot be published, the first one to topic {first_topic}")

    def _drop_reports(self) -> None:
        # Later reports also mark the published event time, and wait for the alerts in the same way.
        excess = len(self._waiting) - MAX_WAITING + 1
        dropped = [record for record in self._waiting if record.topic in self._last_topics][: max(0, excess)]
        if dropped:
            self._settle(dropped, set())
            log.error("dropped %d reports: more than %d records wait behind alerts", len(dropped), MAX_WAITING)
            for record in dropped:
                self._on_refused(record.topic)

    def clear(self) -> None:
        """Drop waiting records, because they will be evaluated again."""
        self._waiting.clear()

    def close(self) -> None:
        """Close the producer. Waiting records are evaluated again after the next start."""
        if self._producer is not None:
            self._producer.close(timeout=CLOSE_TIMEOUT_S)
            self._producer = None

    def _settle(self, attempted: Sequence[OutboxRecord], failed: set[OutboxRecord]) -> None:
        done = set(attempted) - failed
        self._waiting = [record for record in self._waiting if record not in done]

    def _send(self, records: Sequence[OutboxRecord], *, at_once: int) -> set[OutboxRecord]:
        """Send records in groups of `at_once`; returns those that failed.

        A refused record fails its whole batch and its producer permanently, so the next group gets a new producer.
        """
        failed: dict[OutboxRecord, Exception] = {}
        for start in range(0, len(records), at_once):
            found = self._try(records[start : start + at_once])
            failed |= found
            if found:
                self.close()
            if any(isinstance(error, TIMEOUT_ERRORS) for error in found.values()):
                failed |= dict.fromkeys(records[start + at_once :], next(iter(found.values())))
                break
        for record in failed:
            self._on_refused(record.topic)
        if failed:
            self._retry_at_s = time.monotonic() + RETRY_DELAY_S
            record, error = next(iter(failed.items()))
            log.error(
                "%d records are not published, the first on %s: %s; reports wait for alerts; retry in %.0f s",
                len(failed),
                record.topic,
                printable(str(error) or repr(error), MAX_REASON_LENGTH),
                RETRY_DELAY_S,
            )
        return set(failed)

    def _try(self, records: Sequence[OutboxRecord]) -> dict[OutboxRecord, Exception]:
        failed: dict[OutboxRecord, Exception] = {}
        futures = []
        for record in records:
            try:
                if self._producer is None:
                    self._producer = self._make_producer()
                futures.append((record, self._producer.send(record.topic, key=record.key, value=record.value)))
            except (KafkaError, ValueError) as error:
                failed[record] = error
        for record, future in futures:
            try:
                future.get()  # the producer's delivery_timeout_ms bounds it
            except KafkaError as error:
                failed[record] = error
        return failed
