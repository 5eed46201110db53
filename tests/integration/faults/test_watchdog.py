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
from stream_app.lifecycle.watchdog import Backlog, StallDetector, Watchdog, backlogs, retry_until
from stream_app.worker.worker_metrics import WorkerMetrics
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings

HANGING = """
import time
from schemas.configuration import settings as settings
from stream_app.worker.worker import run
run(settings.load(), on_step=lambda step: time.sleep(10_000) if step == "scored" else None)
"""


#  look at     0 s    10 s    20 s    30 s
#  partition 0 at 5   at 5    at 7    at 7
#  partition 1 -      at 9    at 9    at 9
#  stalled      0      10      10      20
def test_a_standstill_lasts_from_the_first_look_at_the_same_waiting_record() -> None:
    looks: list[dict[int, int]] = [{0: 5}, {0: 5, 1: 9}, {0: 7, 1: 9}, {0: 7, 1: 9}, {}, {0: 7}]
    standstill = StallDetector()
    assert [standstill.update(10.0 * i, waiting) for i, waiting in enumerate(looks)] == [0, 10, 10, 20, 0, 0]


@pytest.mark.kafka
def test_a_worker_that_hangs_while_transactions_wait_ends_for_its_supervisor(
    kafka: Kafka, real_registry: Settings, tmp_path: Path
) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, real_registry.state_dir)
    settings = msgspec.structs.replace(settings, stall_timeout_seconds=4, web_port=0)
    place = settings.bootstrap, settings.consumer_group, settings.transactions_topic, [0, 1]
    assert backlogs(*place) == {0: Backlog(None, 0), 1: Backlog(None, 0)}
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    producer.send(settings.transactions_topic, value=b"{}", partition=1).get(30)
    producer.close()
    assert backlogs(*place) == {0: Backlog(None, 0), 1: Backlog(0, 1)}
    done = subprocess.run(
        [sys.executable, "-c", HANGING], env=child_environment(settings), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 70, done.stderr
    assert "transactions wait (partition 1 at 0)" in done.stderr


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
