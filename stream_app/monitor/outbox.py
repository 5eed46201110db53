"""Outbox of the monitor: a report goes out only after the alerts and requests before it are acknowledged.

    alert ─┐
    request ┼▶ waiting ─▶ sent ─▶ acknowledged: removed
    report ─┘     ▲────────────── refused, or no answer: counted, and sent again after `RETRY_S`

At its start the monitor publishes nothing up to the last report on the topic. A report that went out after a lost
alert would thus hide that alert for good. Behind a refused alert the other alerts go out, and the reports wait.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

from schemas.errors import BrokerError
from schemas.security.sanitizer import printable

log = logging.getLogger("tamiz.monitor")
RETRY_S = 60.0
UNANSWERED = (KafkaTimeoutError, KafkaConnectionError)  # the next record would wait as long
MAX_WAITING = 1_000  # records; some days of evaluations
FLUSH_RECORDS = 100  # that wait, while much is evaluated at once
CLOSE_TIMEOUT_S = 5
MAX_REASON_LENGTH = 300  # characters of an error in the log


class OutboxRecord(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A record that is to be published."""

    topic: str
    key: bytes
    value: bytes


class Outbox:
    """Records in the order of their evaluations. Not for several threads at once."""

    def __init__(
        self,
        make_producer: Callable[[], Any],
        *,
        last_topic: str,
        on_refused: Callable[[str], None],
        on_waiting: Callable[[int], None],
    ) -> None:
        """last_topic: records on it wait for all that were added before them.

        on_refused: called with the topic of each failed attempt; on_waiting: with the number of records that wait.
        """
        self._make_producer = make_producer  # a producer may have failed for good: after a refusal there is a new one
        self._producer: Any = None
        self._last_topic = last_topic
        self._on_refused = on_refused
        self._on_waiting = on_waiting
        self._waiting: list[OutboxRecord] = []
        self._is_retry = False  # records are sent one by one, so that one that is refused fails no other
        self._retry_at_s = 0.0  # monotonic clock

    def add(self, topic: str, key: str, record: msgspec.Struct) -> None:
        """Put a record behind the others."""
        self._waiting.append(OutboxRecord(topic=topic, key=key.encode(), value=msgspec.json.encode(record)))
        if len(self._waiting) >= FLUSH_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Send what waits and wait for the answers; does nothing within `RETRY_S` after a refusal.

        When `MAX_WAITING` records wait, the oldest reports are dropped and counted; no alert is. Raises
        BrokerError when so many alerts and requests wait: after a new start they are evaluated again.
        """
        if self._waiting and time.monotonic() >= self._retry_at_s:
            urgent = [record for record in self._waiting if record.topic != self._last_topic]
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
            raise BrokerError(f"{len(self._waiting)} records are refused, the first by the topic {first_topic}")

    def _drop_reports(self) -> None:
        # A later report carries the mark, and waits for the alerts as these did.
        excess = len(self._waiting) - MAX_WAITING + 1
        dropped = [record for record in self._waiting if record.topic == self._last_topic][: max(0, excess)]
        if dropped:
            self._settle(dropped, set())
            log.error("%d reports are dropped: more than %d records wait for alerts", len(dropped), MAX_WAITING)
            for record in dropped:
                self._on_refused(record.topic)

    def clear(self) -> None:
        """Forget what waits, as it will be evaluated again."""
        self._waiting.clear()

    def close(self) -> None:
        """Close the producer. What still waits is evaluated again after the next start."""
        if self._producer is not None:
            self._producer.close(timeout=CLOSE_TIMEOUT_S)
            self._producer = None

    def _settle(self, attempted: Sequence[OutboxRecord], failed: set[OutboxRecord]) -> None:
        done = set(attempted) - failed
        self._waiting = [record for record in self._waiting if record not in done]

    def _send(self, records: Sequence[OutboxRecord], *, at_once: int) -> set[OutboxRecord]:
        """Send records, `at_once` before their answers are waited for; those that failed.

        What is refused fails all that is in its batch, and its producer for good: the next ones get a new producer.
        """
        failed: dict[OutboxRecord, Exception] = {}
        for start in range(0, len(records), at_once):
            found = self._try(records[start : start + at_once])
            failed |= found
            if found:
                self.close()
            if any(isinstance(error, UNANSWERED) for error in found.values()):
                failed |= dict.fromkeys(records[start + at_once :], next(iter(found.values())))
                break
        for record in failed:
            self._on_refused(record.topic)
        if failed:
            self._retry_at_s = time.monotonic() + RETRY_S
            record, error = next(iter(failed.items()))
            log.error(
                "%d records are not published, the first on %s: %s; reports wait for alerts; trying again in %.0f s",
                len(failed),
                record.topic,
                printable(str(error) or repr(error), MAX_REASON_LENGTH),
                RETRY_S,
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
