"""The retrainer trains once per request, publishes every step, and survives failed trainings."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.records import ModelEvent, RetrainRequest
from stream_app.kafka import kafka_clients
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_reader import read_to_end
from tamiz.services import retrainer_service
from tamiz.services.retrainer_service import process_requests, serve
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from tests.conftest import Kafka
from tests.helpers.bundles.failing_trainings import (
    crashing_training,
    file_training,
    hanging_training,
    recorded_training,
)
from tests.helpers.bundles.small_bundle import small_bundle
from tests.helpers.services.worker_process import add_partitions, isolated_settings, wait_for
from tests.helpers.traffic.scored_fixtures import month, train_model
from training.registry import mlflow_registry, request_claims, version_transitions
from training.service.retrainer import RequestProgress, Retrainer
from training.service.training_process import TrainingFunction

LOOP = "card-transactions-score-drift-1580000000000"


def request(correlation_id: str = LOOP, model: str = "card-transactions") -> RetrainRequest:
    return RetrainRequest(
        correlation_id=correlation_id,
        model=model,
        model_version=1,
        cause="score-drift",
        features=("score", "monto"),
        reason="score: PSI at least 0.21 over 24 h",
        from_ms=0,
        until_ms=2**42,
        requested_at_ms=2,
    )


def event(change: str, correlation_id: str | None = LOOP, version: int | None = None) -> ModelEvent:
    values = {"model": "card-transactions", "model_version": version, "change": change, "reason": "", "by": "a"}
    return msgspec.convert({**values, "happened_at_ms": 0, "correlation_id": correlation_id}, ModelEvent)


@pytest.fixture(autouse=True)
def new_processes_find_our_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent.parent.parent)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path / "state", retrain_attempts=2, retrain_backoff_seconds=1, retrain_timeout_seconds=60
    )


class Bench:
    """A retrainer without Kafka, and the events that it published."""

    def __init__(
        self,
        settings: Settings,
        *past: ModelEvent,
        training: TrainingFunction = file_training,
        stop: threading.Event | None = None,
    ) -> None:
        self.told: list[ModelEvent] = []
        stop = stop or threading.Event()
        self.retrainer = Retrainer(settings, self.told.append, RequestProgress(past), stop=stop, training=training)

    @property
    def changes(self) -> list[str]:
        return [event.change for event in self.told]


@pytest.mark.parametrize("outcome", ["promoted", "retained", "awaiting-approval"])
def test_a_request_answered_on_model_events_is_not_trained_again(settings: Settings, outcome: str) -> None:
    bench = Bench(settings, event("training-started"), event("registered", version=2), event(outcome, version=2))
    assert bench.retrainer.answer(request())
    assert bench.told == []


def test_events_of_other_requests_and_models_do_not_answer_a_request(settings: Settings) -> None:
    once = msgspec.structs.replace(settings, retrain_attempts=1)
    bench = Bench(once, event("promoted", correlation_id="another"), event("promoted", correlation_id=None))
    assert bench.retrainer.answer(request(model="another"))
    assert bench.told == []
    assert bench.retrainer.answer(request())
    assert bench.changes == ["training-started", "training-failed"]


def test_an_outcome_known_only_to_the_registry_is_published_without_training(
    settings: Settings, tmp_path: Path
) -> None:
    small_bundle(tmp_path / "bundle")
    (tmp_path / "evaluation").mkdir()
    mlflow_registry.register(
        settings, tmp_path / "bundle", report=tmp_path / "evaluation", metrics={}, params={}, tags={}
    )
    version_transitions.promote(settings, 1, "it is better", correlation_id=LOOP, by="tamiz retrainer")
    bench = Bench(settings, event("training-started"))
    assert bench.retrainer.answer(request())
    assert [(e.change, e.model_version, e.reason, e.correlation_id) for e in bench.told] == [
        ("promoted", 1, "it is better", LOOP)
    ]


def test_a_training_that_crashes_is_reported_retried_and_given_up(settings: Settings) -> None:
    bench = Bench(settings, training=crashing_training)
    assert bench.retrainer.answer(request())
    assert bench.changes == ["training-started", "training-failed"] * settings.retrain_attempts
    assert "exit code 9" in bench.told[1].reason
    assert {e.correlation_id for e in bench.told} == {LOOP}
    once_more = Bench(settings, *bench.told)  # as after a restart
    assert once_more.retrainer.answer(request())
    assert once_more.told == []


def test_a_training_that_hangs_ends_at_its_time_limit(settings: Settings) -> None:
    impatient = msgspec.structs.replace(settings, retrain_timeout_seconds=1, retrain_attempts=1)
    bench = Bench(impatient, training=hanging_training)
    assert bench.retrainer.answer(request())
    assert bench.changes == ["training-started", "training-failed"]
    assert "longer than retrain_timeout_seconds, 1 s" in bench.told[1].reason


def test_a_stop_ends_the_training_and_leaves_the_request_uncommitted(settings: Settings) -> None:
    stop = threading.Event()
    bench = Bench(settings, training=hanging_training, stop=stop)

    def stop_once_it_trains() -> None:
        wait_for(lambda: bool(bench.told), 60)
        stop.set()

    threading.Thread(target=stop_once_it_trains).start()
    assert not bench.retrainer.answer(request())
    assert bench.changes == ["training-started"]


def test_a_failed_training_is_reported_and_retried(settings: Settings, tmp_path: Path) -> None:
    told: list[ModelEvent] = []

    def tell(event: ModelEvent) -> None:
        told.append(event)
        if event.change == "training-failed":
            (tmp_path / "history.csv").touch()

    retrainer = Retrainer(
        settings,
        tell,
        RequestProgress(),
        stop=threading.Event(),
        history=tmp_path / "history.csv",
        training=file_training,
    )
    assert retrainer.answer(request())
    assert [e.change for e in told] == ["training-started", "training-failed", "training-started", "promoted"]
    assert told[1].reason == f"{tmp_path / 'history.csv'}: No such file"


def test_one_of_two_retrainers_trains_and_is_replaced_if_it_stops(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_claims, "HEARTBEAT_INTERVAL_S", 0.5)
    monkeypatch.setattr(request_claims, "HEARTBEAT_TIMEOUT_S", 60.0)
    mlflow_registry.ensure_reachable(settings)
    trained = tmp_path / "trained"

    def answer(correlation_id: str, stop: threading.Event, told: list[ModelEvent]) -> bool:
        training, progress = recorded_training, RequestProgress()
        return Retrainer(settings, told.append, progress, stop=stop, training=training, history=trained).answer(
            request(correlation_id)
        )

    told: list[list[ModelEvent]] = [[], [], []]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(answer, LOOP, threading.Event(), told[i]) for i in range(2)]
        assert [one.result(120) for one in both] == [True, True]
    assert sorted([e.change for e in one] for one in told[:2]) == [[], ["training-started", "promoted"]]
    assert len(trained.read_text().splitlines()) == 1

    dead = request_claims.acquire(settings, "another-loop", threading.Event())
    assert dead is not None
    dead._ended.set()  # as if its process had died: no beat, and nothing let go
    monkeypatch.setattr(request_claims, "HEARTBEAT_TIMEOUT_S", 2.0)
    assert answer("another-loop", threading.Event(), told[2])
    assert [e.change for e in told[2]] == ["training-started", "promoted"]

    monkeypatch.setattr(request_claims, "HEARTBEAT_TIMEOUT_S", 60.0)
    stop = threading.Event()
    stopped = request_claims.acquire(settings, "a-third", stop)
    assert stopped is not None
    stopped.release(answered=False)
    started = time.monotonic()
    again = request_claims.acquire(settings, "a-third", stop)
    assert again is not None
    assert time.monotonic() - started < request_claims.HEARTBEAT_TIMEOUT_S
    again.release(answered=True)
    assert request_claims.acquire(settings, "a-third", stop) is None


@contextlib.contextmanager
def onlooker(settings: Settings) -> Iterator[Callable[..., int | None]]:
    """Up to which offset of a partition (0 unless another is named) the retrainer has answered, whenever asked."""
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=f"{settings.consumer_group}-retrainer")
    try:
        yield lambda partition=0: consumer.committed(TopicPartition(settings.retrain_requests_topic, partition))
    finally:
        consumer.close()


def serve_until(settings: Settings, answered: int) -> None:
    """Run the service until so many records are answered."""
    stop = threading.Event()
    service = threading.Thread(target=serve, args=(settings, None, stop))
    service.start()
    try:
        with onlooker(settings) as committed:
            wait_for(lambda: committed() == answered or not service.is_alive(), 120)
            assert committed() == answered
    finally:
        stop.set()
        service.join(30)


def told_on(settings: Settings) -> list[ModelEvent]:
    records = [r for batch in read_to_end(settings.bootstrap, settings.model_events_topic) for r in batch]
    assert {r.key for r in records} <= {b"card-transactions"}
    return [msgspec.json.decode(r.value or b"", type=ModelEvent) for r in records]


@pytest.fixture
def world(kafka: Kafka, tmp_path: Path) -> Settings:
    """Own topics with a month of labelled transactions with a signal, and a champion that was trained on noise."""
    settings = isolated_settings(kafka.bootstrap_servers, tmp_path / "state")
    past = month()
    noise = np.random.default_rng(0).permutation(past.fraud)
    train_model(tmp_path / "misled", past._replace(fraud=noise), 1)
    (tmp_path / "evaluation").mkdir()
    mlflow_registry.register(
        settings, tmp_path / "misled", report=tmp_path / "evaluation", metrics={}, params={}, tags={}
    )
    version_transitions.promote(settings, 1, "the first")
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap, linger_ms=5)
    traffic = Traffic(rows=12_000, seed=3, users=1000, signal=True)
    for key, value in keyed_payloads(traffic):
        producer.send(settings.transactions_topic, key=key, value=value)
    producer.close()
    return settings


@pytest.mark.kafka
def test_a_request_leads_to_one_new_champion_despite_other_records(world: Settings) -> None:
    producer = KafkaProducer(bootstrap_servers=world.bootstrap)

    def send(*values: bytes | None) -> None:
        for value in values:
            producer.send(world.retrain_requests_topic, key=b"card-transactions", value=value).get(30)

    asked = msgspec.json.encode(request())
    poison = (
        b"\xff not a request",
        None,
        b'{"correlation_id": 7}',
        b'{"correlation_id": "\xff"}',
        b'{"x":' + b"[" * 20_000,
    )
    send(*poison, asked, asked)
    service = subprocess.Popen(
        [sys.executable, "-m", "tamiz", "retrainer"], env=child_environment(world), stderr=subprocess.PIPE
    )
    try:
        with onlooker(world) as committed:
            wait_for(lambda: committed() == len(poison) or service.poll() is not None, 60)
        service.send_signal(signal.SIGTERM)
        log = service.communicate(timeout=30)[1].decode()
    finally:
        service.kill()
    assert (service.returncode, log.count("not a valid request")) == (0, len(poison)), log

    serve_until(world, answered=len(poison) + 2)
    send(asked)
    serve_until(world, answered=len(poison) + 3)  # by a restarted retrainer
    producer.close()

    events = told_on(world)
    # The first training was ended by the signal, if it had begun.
    assert [(e.change, e.model_version) for e in events[-3:]] == [
        ("training-started", None),
        ("registered", 2),
        ("promoted", 2),
    ]
    assert {e.change for e in events[:-3]} <= {"training-started"}
    assert {e.correlation_id for e in events} == {LOOP}
    assert mlflow_registry.champion(world) == 2
    assert "better than the champion, version 1" in events[-1].reason
    assert version_transitions.history(world)[-1].correlation_id == LOOP


@pytest.mark.kafka
def test_an_added_partition_is_read_and_skipped_records_are_summarized(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kafka_clients, "METADATA_MAX_AGE_MS", 500)
    settings = isolated_settings(kafka.bootstrap_servers, tmp_path / "state")
    topic, stop = settings.retrain_requests_topic, threading.Event()
    service = threading.Thread(target=serve, args=(settings, None, stop))
    service.start()
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    try:
        with onlooker(settings) as committed:
            producer.send(topic, value=b"no request", partition=0).get(30)
            wait_for(lambda: committed() == 1, 60)
            add_partitions(settings, 2, topic)
            producer.close()
            producer = KafkaProducer(bootstrap_servers=settings.bootstrap)  # its metadata has the new partition
            producer.send(topic, value=b"no request", partition=1).get(30)
            wait_for(lambda: committed(1) == 1, 60)
    finally:
        stop.set()
        producer.close()
        service.join(30)
    assert f"records skipped since the start: 2 of {topic}" in caplog.text


def test_a_request_that_causes_an_internal_error_is_retried_then_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrainer_service, "RECONNECT_DELAY_S", 0)
    settings, stop, asked = Settings(), threading.Event(), []

    class Bears:
        def answer(self, request: RetrainRequest) -> bool:
            asked.append(request.correlation_id)
            if request.correlation_id == "unbearable":
                raise RuntimeError("no loop of such a name")
            return True

    class Polled:
        committed = 0

        def assignment(self) -> set[TopicPartition]:
            return {TopicPartition("retrain-requests", 0)}

        def partitions_for_topic(self, topic: str) -> set[int]:
            return {0}

        def poll(self, **_: int) -> dict[TopicPartition, list[Any]]:
            stop.set() if self.committed else None
            place = TopicPartition("retrain-requests", 0)
            values = [msgspec.json.encode(request(name)) for name in ("unbearable", "good")]
            records = [
                ConsumerRecord(*place, None, i, -1, 0, None, value, [], None, -1, -1, -1)
                for i, value in enumerate(values)
            ]
            return {} if self.committed else {place: records}

        def commit(self, offsets: dict[TopicPartition, Any]) -> None:
            (self.committed,) = (found.offset for found in offsets.values())

    consumer, intake = Polled(), RecordIntake(settings, retrainer_service.log)
    process_requests(consumer, Bears(), intake, stop, attempts=3)  # type: ignore[arg-type]
    assert (asked, consumer.committed) == (["unbearable"] * 3 + ["good"], 2)
    assert intake.skipped.total() == 1
