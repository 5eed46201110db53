"""Rate limit of log records: a broker outage makes client libraries log thousands of equal lines.

Records are equal if logger, level, call site and the beginning of the message template are. The first of them in a
window are written; the others are counted and summarized in one line when the window ends.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

WINDOW_S = 30.0
MAX_LIBRARY_RECORDS = 10  # equal records of a library in a window
MAX_OWN_RECORDS = 100  # of Tamiz: one for each partition must fit
MAX_KEYS = 1_000  # kinds of records that are tracked at once; bounds the memory
TEMPLATE_LENGTH = 40  # characters of a template that are compared; what follows may vary

OWN_LOGGERS = "tamiz"


@dataclass
class LogWindow:
    """Equal records since `start_s`."""

    start_s: float  # `LogRecord.created` of the first
    records: int
    latest: logging.LogRecord


class RateLimitedHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes at most a fixed number of equal records per window. Debug records are never suppressed."""

    suppressed = 0  # records, in this process

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[object, ...], LogWindow] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it. `logging` calls this under the handler's lock."""
        if record.levelno > logging.DEBUG:
            self._summarize(record.created - WINDOW_S)
            if self._is_excess(record):
                RateLimitedHandler.suppressed += 1
                return
        super().emit(record)

    def close(self) -> None:
        """Summarize what is still counted."""
        self._summarize(float("inf"))
        super().close()

    def _is_excess(self, record: logging.LogRecord) -> bool:
        key = (record.name, record.levelno, record.pathname, record.lineno, str(record.msg)[:TEMPLATE_LENGTH])
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) < MAX_KEYS:
                self._windows[key] = LogWindow(record.created, 1, record)
            return False
        window.records += 1
        window.latest = record
        return window.records > _limit(record)

    def _summarize(self, before_s: float) -> None:
        """Remove the windows that began before `before_s`, and write a line for each that had an excess."""
        # The oldest come first, so a record is not compared with all windows.
        ended = [key for key, _ in takewhile(lambda item: item[1].start_s < before_s, self._windows.items())]
        for window in map(self._windows.pop, ended):
            latest = window.latest
            if (excess := window.records - _limit(latest)) > 0:
                summary = f"{excess} more such records within {WINDOW_S:g} s, the last: {latest.getMessage()}"
                super().emit(
                    logging.LogRecord(
                        latest.name, latest.levelno, latest.pathname, latest.lineno, "%s", (summary,), None
                    )
                )


def _limit(record: logging.LogRecord) -> int:
    return MAX_OWN_RECORDS if record.name.startswith(OWN_LOGGERS) else MAX_LIBRARY_RECORDS


class SuppressedRecords(Collector):
    """Exports the number of suppressed log records of this process."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The metric, for the registry that scrapes it."""
        text = "Log records suppressed by the rate limit; one line summarizes those that are equal"
        yield CounterMetricFamily("tamiz_log_records_suppressed", text, value=RateLimitedHandler.suppressed)


def export_suppressed_records(registry: CollectorRegistry) -> None:
    """Add the metric to a registry."""
    registry.register(SuppressedRecords())
