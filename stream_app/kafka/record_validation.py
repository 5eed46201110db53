"""Decodes and validates records of Tamiz' topics. Invalid ones are skipped, counted and logged.

Every reader of these topics uses it, so that no invalid record ends a process or changes state. The log is
limited to `MAX_LOG_LINES` per topic and `LOG_INTERVAL_S`, and counts suppressed lines.
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
from stream_app.kafka.plausibility import implausibility, latest_time_ms
from stream_app.kafka.topic_reader import ConsumedRecord

LOG_INTERVAL_S = 10.0
MAX_LOG_LINES = 5
SUMMARY_INTERVAL_S = 300.0
MAX_REASON_LENGTH = 300  # characters of a reason in the log

T = TypeVar("T", bound=msgspec.Struct)


class RecordIntake:
    """Reads records for one process. Not thread-safe."""

    def __init__(
        self,
        settings: Settings,
        log: logging.Logger,
        count: Callable[[str], None] = lambda topic: None,
        *,
        log_text: str = "skipped",
    ) -> None:
        """count: called with the topic of each skipped record. log_text: logged for such a record."""
        self._model = settings.model_name
        self._max_ahead_ms = settings.max_event_time_ahead_minutes * MINUTE_MS
        self._log = log
        self._count = count
        self._log_text = log_text
        self._interval: dict[str, tuple[float, int]] = {}  # by topic: start of the interval, lines since then
        self._suppressed: Counter[str] = Counter()  # lines by topic, since its last logged one
        self.skipped: Counter[str] = Counter()  # records by topic
        self._summarized = 0  # total of `skipped` at the last summary
        self._summary_due_s = time.monotonic() + SUMMARY_INTERVAL_S

    def read(self, record: ConsumedRecord, type_: type[T]) -> T | None:
        """The decoded value; None, and counted, if it is not of this type or not plausible."""
        try:
            found = decode(record.value, type_)
        except msgspec.MsgspecError as error:
            self.skip(record, str(error))
            return None
        latest_ms = latest_time_ms(record.timestamp, int(time.time() * 1000), self._max_ahead_ms)
        if (why := implausibility(found, latest_ms)) is not None:
            self.skip(record, why)
            return None
        return found

    def read_ours(self, record: ConsumedRecord, type_: type[T]) -> T | None:
        """As `read`, for records that name a model; None, and not counted, for a model other than `model_name`."""
        found = self.read(record, type_)
        return found if found is None or getattr(found, "model", None) == self._model else None

    def skip(self, record: ConsumedRecord, why: str) -> None:
        """Count a record as skipped, and log the reason within the rate limit."""
        topic = record.topic
        self.skipped[topic] += 1
        self._count(topic)
        now = time.monotonic()
        began, lines = self._interval.get(topic, (now, 0))
        if now - began >= LOG_INTERVAL_S:
            began, lines = now, 0
        if lines >= MAX_LOG_LINES:
            self._suppressed[topic] += 1
            return
        self._interval[topic] = began, lines + 1
        place = f"{topic}-{record.partition}-{record.offset}"
        suppressed = self._suppressed.pop(topic, 0)
        others = f" ({suppressed} more since the last line)" if suppressed else ""
        self._log.warning("%s %s: %s%s", place, self._log_text, printable(why, MAX_REASON_LENGTH), others)

    def log_summary(self, *, at_once: bool = False) -> None:
        """Log the number of skipped records by topic since the start, for a process without a metrics page.

        Logs nothing if the numbers are unchanged, nor within `SUMMARY_INTERVAL_S` of the last line, unless `at_once`.
        """
        total = self.skipped.total()
        if total == self._summarized or not (at_once or time.monotonic() >= self._summary_due_s):
            return
        self._summarized = total
        self._summary_due_s = time.monotonic() + SUMMARY_INTERVAL_S
        counts = ", ".join(f"{n} of {topic}" for topic, n in sorted(self.skipped.items()))
        self._log.warning("records skipped since the start: %s", counts)
