"""A program that cannot stop cleanly exits within its deadline and logs the reason."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from schemas.configuration.child_environment import child_environment
from schemas.configuration.kafka_config import Secret
from schemas.configuration.settings import Settings, load
from stream_app.lifecycle.stop_deadline import CLOSE_TIMEOUT_S, EXIT_CODE, StopDeadline
from tamiz.dev_broker.embedded_broker import EmbeddedBroker
from tests.helpers.services.worker_process import isolated_settings, running_worker, wait_for
from tests.helpers.traffic.invalid_payloads import payload

NOWHERE = Secret("http://127.0.0.1:9/")  # a channel, so that the notifier has one
KUBERNETES_KILLS_AFTER_S = 45


def test_the_default_deadline_is_well_before_a_supervisors_kill() -> None:
    assert StopDeadline(load({}), "nothing").seconds <= KUBERNETES_KILLS_AFTER_S - 10


def test_a_process_that_exceeds_the_stop_deadline_ends_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[int] = []
    settings = msgspec.structs.replace(load({}), drain_timeout_seconds=1)
    deadline = StopDeadline(settings, "uncommitted transactions are decided again", ended.append)
    deadline.seconds = 0
    before = set(threading.enumerate())
    deadline.begin()
    deadline.begin()
    for timer in set(threading.enumerate()) - before:
        timer.join(30)
    assert ended == [EXIT_CODE]
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "not stopped within 0 s" in line
    assert "uncommitted transactions are decided again" in line


# Log line of each program after its start; until then an unreachable broker ends it with an error.
STARTED_LINES = {
    "monitor": "caught up with drift-panes",
    "retrainer": "waiting for requests on",
    "dashboard": "dashboard on",
    "notifier": "ready; sending new notifications",
}


@pytest.mark.kafka
def test_sigterm_with_the_broker_away_ends_every_program_within_the_deadline(
    real_registry: Settings, tmp_path: Path
) -> None:
    with EmbeddedBroker() as broker:
        at_least_once = isolated_settings(broker.bootstrap_servers, real_registry.state_dir, drain_timeout_seconds=1)
        exact = isolated_settings(
            broker.bootstrap_servers,
            real_registry.state_dir,
            drain_timeout_seconds=1,
            processing_guarantee="exactly-once",
        )
        with running_worker(at_least_once, tmp_path) as first, running_worker(exact, tmp_path) as second:
            environ = child_environment(
                msgspec.structs.replace(at_least_once, monitor_port=0, dashboard_port=0, slack_webhook=NOWHERE)
            )
            logs = {command: tmp_path / f"{command}.log" for command in STARTED_LINES}
            services = []
            for command, log in logs.items():
                with log.open("wb") as output:
                    services.append(
                        subprocess.Popen(
                            [sys.executable, "-m", "tamiz", command], env=environ, stderr=output, cwd=tmp_path
                        )
                    )
            try:
                for settings in (at_least_once, exact):
                    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
                    for _ in range(2_000):
                        producer.send(settings.transactions_topic, value=payload())
                    producer.flush()
                    producer.close()
                for command, log in logs.items():
                    wait_for(lambda c=command, at=log: STARTED_LINES[c] in at.read_text(), 60, log.read_text)  # type: ignore[misc]
                os.killpg(broker._process.pid, signal.SIGKILL)  # type: ignore[union-attr]  # its guard, too
                time.sleep(1)
                for process in (first.process, second.process, *services):
                    process.send_signal(signal.SIGTERM)
                signalled_s = time.monotonic()
                codes = [p.wait(CLOSE_TIMEOUT_S + 20) for p in (first.process, second.process, *services)]
                took = time.monotonic() - signalled_s
            finally:
                for process in services:
                    process.kill()
                    process.wait()
            assert took < 1 + CLOSE_TIMEOUT_S + 10, (took, codes)
            assert set(codes) <= {0, EXIT_CODE}, (codes, first.tail(), second.tail())
            for worker, code in ((first, codes[0]), (second, codes[1])):
                assert code == 0 or "not stopped within 11 s" in worker.log.read_text(), worker.tail()
