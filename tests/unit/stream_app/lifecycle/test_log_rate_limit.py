"""Equal log records in a burst are counted and summarized; different ones are written."""

import io
import logging

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from stream_app.lifecycle import log_rate_limit
from stream_app.lifecycle.log_rate_limit import (
    MAX_KEYS,
    MAX_LIBRARY_RECORDS,
    MAX_OWN_RECORDS,
    WINDOW_S,
    RateLimitedHandler,
    export_suppressed_records,
)


class Log:
    """A handler that writes to memory, and a clock."""

    def __init__(self) -> None:
        self.handler = RateLimitedHandler()
        self.handler.setStream(io.StringIO())
        self.now_s = 1_000.0

    def write(
        self, text: str, *args: object, name: str = "aiokafka", level: int = logging.ERROR, line: int = 1
    ) -> None:
        record = logging.LogRecord(name, level, "client.py", line, text, args, None)
        record.created = self.now_s
        self.handler.handle(record)

    @property
    def lines(self) -> list[str]:
        return self.handler.stream.getvalue().splitlines()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(RateLimitedHandler, "suppressed", 0)
    return Log()


def test_a_burst_is_one_summary_after_its_first_records(log: Log) -> None:
    for port in range(2_000):
        log.write("Unable to connect to node: %s", port)
    assert log.lines == [f"Unable to connect to node: {port}" for port in range(MAX_LIBRARY_RECORDS)]
    log.now_s += WINDOW_S + 1
    log.write("connected", line=2)
    excess = 2_000 - MAX_LIBRARY_RECORDS
    assert log.lines[MAX_LIBRARY_RECORDS:] == [
        f"{excess} more such records within {WINDOW_S:g} s, the last: Unable to connect to node: 1999",
        "connected",
    ]
    assert RateLimitedHandler.suppressed == excess


def test_suppressed_records_are_summarized_when_the_program_ends(log: Log) -> None:
    for _ in range(MAX_LIBRARY_RECORDS + 3):
        log.write("away")
    log.handler.close()
    assert log.lines[-1] == f"3 more such records within {WINDOW_S:g} s, the last: away"


def test_a_record_of_another_call_site_level_logger_or_text_is_not_suppressed(log: Log) -> None:
    for _ in range(MAX_LIBRARY_RECORDS + 1):
        log.write("away")
    log.write("away", line=2)
    log.write("away", level=logging.WARNING)
    log.write("away", name="kafka")
    log.write("back")
    assert log.lines[MAX_LIBRARY_RECORDS:] == ["away", "away", "away", "back"]


def test_a_line_for_each_partition_is_written(log: Log) -> None:
    for partition in range(MAX_OWN_RECORDS + 1):
        log.write("partition %d: the offset is reset", partition, name="tamiz.worker")
    assert len(log.lines) == MAX_OWN_RECORDS


def test_debug_records_are_never_suppressed(log: Log) -> None:
    for _ in range(3 * MAX_OWN_RECORDS):
        log.write("a detail", level=logging.DEBUG)
    assert len(log.lines) == 3 * MAX_OWN_RECORDS


def test_memory_is_bounded(log: Log) -> None:
    for line in range(3 * MAX_KEYS):
        log.write("away", line=line)
    assert len(log.lines) == 3 * MAX_KEYS
    assert len(log.handler._windows) == MAX_KEYS


def test_a_template_that_is_no_text_is_a_record_like_any_other(log: Log) -> None:
    log.write(ValueError("odd"))  # type: ignore[arg-type]
    assert log.lines == ["odd"]


def test_suppressed_records_are_a_metric(log: Log) -> None:
    for _ in range(MAX_LIBRARY_RECORDS + 5):
        log.write("away")
    registry = CollectorRegistry()
    export_suppressed_records(registry)
    assert b"tamiz_log_records_suppressed_total 5.0" in generate_latest(registry)
    assert log_rate_limit.RateLimitedHandler.suppressed == 5
