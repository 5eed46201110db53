"""Records of our own topics, decoded and held against what can be true; what cannot be used is counted and logged.

Every reader of a topic of ours reads through this, so that one record, whatever it holds, ends no process and moves no
state. The log has at most `LOG_LINES` lines a topic in `LOG_INTERVAL_S`, and says how many had none.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import msgspec

from schemas.configuration.settings import Settings
from schemas.json_codec import decode
from schemas.security.sanitizer import printable
from schemas.time_units import MINUTE_MS
from stream_app.kafka.plausibility import impossibility, latest_time_ms
from stream_app.kafka.topic_reader import ConsumedRecord

LOG_INTERVAL_S = 10.0
LOG_LINES = 5
SUMMARY_INTERVAL_S = 300.0
MAX_REASON_LENGTH = 300  # characters of what the log says of a record

T = TypeVar("T", bound=msgspec.Struct)


class RecordIntake:
    """One process's reading of its control topics. Not for several threads at once."""

    def __init__(
        self,
        settings: Settings,
        log: logging.Logger,
        count: Callable[[str], None] = lambda topic: None,
        *,
        what: str = "passed over",
    ) -> None:
        """count: called with the topic of each record that is passed over; what: how the log calls that."""
        self._model = settings.model_name
        self._max_ahead_ms = settings.max_event_time_ahead_minutes * MINUTE_MS
        self._log = log
        self._count = count
        self._what = what
        self._interval: dict[str, tuple[float, int]] = {}  # by topic: when it began, lines since
        self._silent: Counter[str] = Counter()  # by topic, since its last line
        self.passed_over: Counter[str] = Counter()  # by topic
        self._summarized = 0  # of those, when the last summary was logged
        self._summary_due_s = time.monotonic() + SUMMARY_INTERVAL_S

    def read(self, record: ConsumedRecord, type_: type[T]) -> T | None:
        """The record's value; None, and counted, where it is not of the type or cannot be true."""
        try:
            found = decode(record.value, type_)
        except msgspec.MsgspecError as error:
            self.pass_over(record, str(error))
            return None
        latest_ms = latest_time_ms(record.timestamp, int(time.time() * 1000), self._max_ahead_ms)
        if (why := impossibility(found, latest_ms)) is not None:
            self.pass_over(record, why)
            return None
        return found

    def read_ours(self, record: ConsumedRecord, type_: type[T]) -> T | None:
        """As `read`, for records that name a model; None, and not counted, where it is another than ours."""
        found = self.read(record, type_)
        return found if found is None or getattr(found, "model", None) == self._model else None

    def pass_over(self, record: ConsumedRecord, why: str) -> None:
        """Count a record that cannot be used, and say why, unless the log has just had a line of this topic."""
        topic = record.topic
        self.passed_over[topic] += 1
        self._count(topic)
        now = time.monotonic()
        began, lines = self._interval.get(topic, (now, 0))
        if now - began >= LOG_INTERVAL_S:
            began, lines = now, 0
        if lines >= LOG_LINES:
            self._silent[topic] += 1
            return
        self._interval[topic] = began, lines + 1
        place = f"{topic}-{record.partition}-{record.offset}"
        others = f" ({self._silent[topic]} others since the last line)" if self._silent[topic] else ""
        self._silent[topic] = 0
        self._log.warning("%s is %s: %s%s", place, self._what, printable(why, MAX_REASON_LENGTH), others)

    def log_summary(self, *, at_once: bool = False) -> None:
        """For a process without a metrics page: log how many records of each topic were passed over since its start.

        No line when none was added since the last one, nor, unless `at_once`, within `SUMMARY_INTERVAL_S` after it.
        """
        total = self.passed_over.total()
        if total == self._summarized or not (at_once or time.monotonic() >= self._summary_due_s):
            return
        self._summarized = total
        self._summary_due_s = time.monotonic() + SUMMARY_INTERVAL_S
        counts = ", ".join(f"{n} of {topic}" for topic, n in sorted(self.passed_over.items()))
        self._log.warning("records passed over since the start: %s", counts)
