"""The watchdog ends a worker that hangs; a worker without a broker or champion waits."""

import itertools
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer
from prometheus_client import generate_latest

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.errors import BrokerError, ModelUnavailableError
from stream_app.lifecycle.watchdog import (
    Backlog,
    ConsumedPartition,
    StallDetector,
    Watchdog,
    known_backlogs,
    read_backlogs,
    retry_until,
)
from stream_app.worker.worker_metrics import WorkerMetrics
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, wait_for

HANGING = """
import time
from schemas.configuration import settings as settings
from stream_app.worker.worker import run
run(settings.load(), on_step=lambda step: time.sleep(10_000) if step == "scored" else None)
"""

DEAD_CONSUMER = """
from schemas.configuration.settings import load
from stream_app.lifecycle.stop_deadline import StopDeadline
from stream_app.worker.faust_app import StoppingWorker
from stream_app.worker.worker import make_worker

def end_fetching(step):
    if step == "committed":
        fetcher = app._consumer._thread._consumer._fetcher
        fetcher._send_requests = lambda: float("inf")  # no request, and none later
        fetcher._keep = lambda *fetched: None  # of the request that waits at the broker

settings = load()
app, services = make_worker(settings, on_step=end_fetching)
worker = StoppingWorker(app, services, quiet=True, loglevel="INFO")
worker.deadline = StopDeadline(settings, "")
worker.execute_from_commandline()
"""


#  look at     0 s    10 s    20 s    30 s
#  partition 0 at 5   at 5    at 7    at 7
#  partition 1 -      at 9    at 9    at 9
#  stalled      0      10      10      20
def test_a_standstill_lasts_from_the_first_look_at_the_same_waiting_record() -> None:
    looks: list[dict[int, int]] = [{0: 5}, {0: 5, 1: 9}, {0: 7, 1: 9}, {0: 7, 1: 9}, {}, {0: 7}]
    standstill = StallDetector()
    assert [standstill.update(10.0 * i, waiting) for i, waiting in enumerate(looks)] == [0, 10, 10, 20, 0, 0]


# What the consumer knows of partition 0: position, end, time of the answer; then what was written, now and before.
@pytest.mark.parametrize(
    ("state", "written", "before", "is_idle", "known"),
    [
        pytest.param((7, 7, 100.0), {}, {}, True, Backlog(None, 0), id="nothing waits"),
        pytest.param((7, 7, 99.0), {}, {}, True, None, id="the consumer has no answers any more"),
        pytest.param((6, 7, 100.0), {}, {}, True, None, id="a record was fetched and is not passed on"),
        pytest.param((7, 7, 100.0), {}, {}, False, None, id="a record is in progress"),
        pytest.param((9, 12, 100.0), {0: 8}, {0: 5}, False, Backlog(8, 4), id="some were written since the last check"),
        pytest.param((9, 12, 100.0), {0: 8}, {0: 8}, False, None, id="none were written since the last check"),
        pytest.param((9, 12, 99.0), {0: 8}, {0: 5}, False, None, id="written, but by old answers"),
        pytest.param((9, 12, 100.0), {0: 8}, {}, False, None, id="written for the first time"),
        pytest.param((3, 12, 100.0), {0: 2}, {0: 8}, False, None, id="the topic was created again"),
    ],
)
def test_a_worker_answers_for_a_partition_only_if_nothing_waits_or_some_records_were_written(
    state: tuple[int, int, float],
    written: dict[int, int],
    before: dict[int, int],
    is_idle: bool,
    known: Backlog | None,
) -> None:
    found = known_backlogs({0: ConsumedPartition(*state)}, written, before, is_idle=is_idle, answered_since_s=99.5)
    assert found == ({} if known is None else {0: known})


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("script", "records", "waiting"), [(HANGING, 1, 0), (DEAD_CONSUMER, 2, 1)], ids=["its loop", "its consumer"]
)
def test_a_worker_that_hangs_while_transactions_wait_ends_for_its_supervisor(
    script: str, records: int, waiting: int, kafka: Kafka, real_registry: Settings, tmp_path: Path
) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, real_registry.state_dir)
    settings = msgspec.structs.replace(settings, stall_timeout_seconds=4, web_port=0)
    place = settings.bootstrap, settings.consumer_group, settings.transactions_topic, [0, 1]
    assert read_backlogs(*place) == {0: Backlog(None, 0), 1: Backlog(None, 0)}
    with KafkaProducer(bootstrap_servers=settings.bootstrap) as producer:
        producer.send(settings.transactions_topic, value=b"{}", partition=1).get(30)
        assert read_backlogs(*place) == {0: Backlog(None, 0), 1: Backlog(0, 1)}
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen([sys.executable, "-c", script], env=child_environment(settings), stderr=log)
        try:
            for _ in range(records - 1):  # sent once nothing waits any more
                wait_for(lambda: read_backlogs(*place)[1] == Backlog(None, 0), 60, (tmp_path / "log").read_text)
                producer.send(settings.transactions_topic, value=b"{}", partition=1).get(30)
            assert process.wait(120) == 70, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait()
    assert f"transactions wait (partition 1 at {waiting})" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("error", [BrokerError, ModelUnavailableError])
def test_a_start_waits_for_an_unreachable_service_and_logs_it(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    attempts = itertools.count()

    def attempt() -> str:
        if next(attempts) == 0:
            raise error("no broker responds")
        return "there"

    assert retry_until(attempt, 30.0) == "there"
    assert "cannot start yet: no broker responds; retry in" in caplog.text


def test_a_start_gives_up_when_its_time_is_over() -> None:
    def attempt() -> None:
        raise BrokerError("no broker responds")

    with pytest.raises(BrokerError, match="no broker responds"):
        retry_until(attempt, 0.0)


def test_the_lag_metric_covers_only_assigned_partitions() -> None:
    metrics = WorkerMetrics()
    metrics.set_lag({0: 5, 1: 0})
    metrics.set_lag({1: 7, 2: 0})
    lag_lines = [
        line for line in generate_latest(metrics.registry).decode().splitlines() if line.startswith("tamiz_lag")
    ]
    assert lag_lines == ['tamiz_lag_records{partition="1"} 7.0', 'tamiz_lag_records{partition="2"} 0.0']


def test_the_watchdog_survives_an_internal_error_and_detects_a_stalled_worker() -> None:
    ended: list[BaseException] = []
    faults: list[int] = []

    def look() -> dict[int, Backlog]:
        raise ZeroDivisionError("a bug")

    watch = Watchdog(look, 0.4, lambda _: None, ended.append, progress=lambda: 7, on_failure=lambda: faults.append(1))
    watch.start()
    watch.join(10)
    assert [type(error).__name__ for error in ended] == ["StalledError"]
    assert "fetched already" in str(ended[0])
    assert len(faults) > 1


def test_an_idle_worker_is_not_stalled_while_backlogs_cannot_be_read() -> None:
    ended: list[BaseException] = []

    def look() -> dict[int, Backlog]:
        raise ZeroDivisionError("a bug")

    watch = Watchdog(look, 0.2, lambda _: None, ended.append, progress=lambda: None)
    watch.start()
    watch.join(0.6)
    assert (watch.is_alive(), ended) == (True, [])
    watch.stop()
