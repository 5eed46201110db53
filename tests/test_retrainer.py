"""The retrainer: each request is trained for once, told step by step, and nothing that goes wrong ends it."""

import threading
import time
import uuid
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from schemas.events import ModelEvent, RetrainRequest
from schemas.settings import Settings, load
from schemas.topics import table
from stream_app.reading import read_to_end
from stream_app.topic_admin import create_topics
from tamiz.retraining import serve
from tests.conftest import Kafka
from tests.scored_world import learned, month
from tests.small_bundle import small_bundle
from tests.trainings import dies, hangs, needs_its_file
from training import moves, registry, spellings
from training.apart import Training
from training.retrainer import Progress, Retrainer
from training.simulation import Traffic, simulate

LOOP = "card-transactions-score-drift-1580000000000"


def request(loop_id: str = LOOP, model: str = "card-transactions") -> RetrainRequest:
    return RetrainRequest(
        loop_id=loop_id,
        model=model,
        model_version=1,
        cause="score-drift",
        features=("score", "monto"),
        reason="score: PSI surely above 0.21 over 24 h",
        from_ms=0,
        until_ms=1,
        requested_at_ms=2,
    )


def event(change: str, loop_id: str | None = LOOP, version: int | None = None) -> ModelEvent:
    values = {"model": "card-transactions", "model_version": version, "change": change, "reason": "", "by": "a"}
    return msgspec.convert({**values, "happened_at_ms": 0, "loop_id": loop_id}, ModelEvent)


@pytest.fixture(autouse=True)
def new_processes_find_our_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path / "state", retrain_attempts=2, retrain_backoff_seconds=1, retrain_timeout_seconds=60
    )


class Bench:
    """A retrainer with what it told, and no Kafka."""

    def __init__(
        self,
        settings: Settings,
        *past: ModelEvent,
        training: Training = needs_its_file,
        stop: threading.Event | None = None,
    ) -> None:
        self.told: list[ModelEvent] = []
        stop = stop or threading.Event()
        self.retrainer = Retrainer(settings, self.told.append, Progress(past), stop=stop, training=training)

    @property
    def changes(self) -> list[str]:
        return [event.change for event in self.told]


@pytest.mark.parametrize("outcome", ["promoted", "retained", "awaiting-approval"])
def test_what_model_events_says_was_settled_is_not_trained_for_again(settings: Settings, outcome: str) -> None:
    bench = Bench(settings, event("training-started"), event("registered", version=2), event(outcome, version=2))
    assert bench.retrainer.answer(request())
    assert bench.told == []


def test_another_cause_and_another_model_are_not_taken_for_this_one(settings: Settings) -> None:
    bench = Bench(settings, event("promoted", loop_id="another"), event("promoted", loop_id=None), training=dies)
    assert bench.retrainer.answer(request(model="another"))
    assert bench.told == []
    assert bench.retrainer.answer(request())
    assert bench.changes[0] == "training-started"


def test_an_outcome_that_only_the_registry_knows_is_told_and_not_trained_for_again(
    settings: Settings, tmp_path: Path
) -> None:
    small_bundle(tmp_path / "bundle")
    (tmp_path / "evaluation").mkdir()
    registry.register(settings, tmp_path / "bundle", report=tmp_path / "evaluation", metrics={}, params={}, tags={})
    moves.promote(settings, 1, "it is better", loop_id=LOOP, by="tamiz retrainer")
    bench = Bench(settings, event("training-started"))
    assert bench.retrainer.answer(request())
    assert [(e.change, e.model_version, e.reason, e.loop_id) for e in bench.told] == [
        ("promoted", 1, "it is better", LOOP)
    ]


def test_a_training_that_dies_is_told_tried_again_and_given_up(settings: Settings) -> None:
    bench = Bench(settings, training=dies)
    assert bench.retrainer.answer(request())
    assert bench.changes == ["training-started", "training-failed"] * settings.retrain_attempts
    assert "exit code 9" in bench.told[1].reason
    assert {e.loop_id for e in bench.told} == {LOOP}
    once_more = Bench(settings, *bench.told)  # as after a restart
    assert once_more.retrainer.answer(request())
    assert once_more.told == []


def test_a_training_that_hangs_is_ended_at_its_limit(settings: Settings) -> None:
    impatient = msgspec.structs.replace(settings, retrain_timeout_seconds=1, retrain_attempts=1)
    bench = Bench(impatient, training=hangs)
    assert bench.retrainer.answer(request())
    assert bench.changes == ["training-started", "training-failed"]
    assert "longer than the 1 s" in bench.told[1].reason


def test_stopping_ends_the_training_and_leaves_the_request_unanswered(settings: Settings) -> None:
    stop = threading.Event()
    bench = Bench(settings, training=hangs, stop=stop)
    threading.Timer(1, stop.set).start()
    assert not bench.retrainer.answer(request())
    assert bench.changes == ["training-started"]


def test_a_training_that_failed_is_told_and_tried_again(settings: Settings, tmp_path: Path) -> None:
    told: list[ModelEvent] = []

    def tell(event: ModelEvent) -> None:
        told.append(event)
        if event.change == "training-failed":
            (tmp_path / "history.csv").touch()

    retrainer = Retrainer(
        settings,
        tell,
        Progress(),
        stop=threading.Event(),
        history=tmp_path / "history.csv",
        training=needs_its_file,
    )
    assert retrainer.answer(request())
    assert [e.change for e in told] == ["training-started", "training-failed", "training-started", "promoted"]
    assert told[1].reason == f"{tmp_path / 'history.csv'}: No such file"


def committed(settings: Settings) -> int | None:
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=f"{settings.group}-retrainer")
    try:
        found: int | None = consumer.committed(TopicPartition(settings.retrain_requests_topic, 0))
        return found
    finally:
        consumer.close()


def serve_until(settings: Settings, history: Path, answered: int) -> None:
    """Run the service until so many records are answered."""
    stop = threading.Event()
    service = threading.Thread(target=serve, args=(settings, history, stop))
    service.start()
    deadline = time.monotonic() + 120
    try:
        while committed(settings) != answered:
            assert service.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        stop.set()
        service.join(30)


@pytest.mark.kafka
def test_a_request_leads_to_a_new_champion_once_whatever_else_comes(kafka: Kafka, tmp_path: Path) -> None:
    run = uuid.uuid4().hex[:8]
    settings = load(
        {
            "TAMIZ_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "TAMIZ_STATE_DIR": str(tmp_path / "state"),
            "TAMIZ_RETRAIN_REQUESTS_TOPIC": f"retrain-requests-{run}",
            "TAMIZ_MODEL_EVENTS_TOPIC": f"model-events-{run}",
            "TAMIZ_GROUP": run,
        }
    )
    create_topics(settings.bootstrap, [t for t in table(settings) if t.role in ("retrain-requests", "model-events")], 1)
    past = month()
    noise = np.random.default_rng(0).permutation(past.fraud)
    learned(tmp_path / "misled", past._replace(fraud=noise), 1)
    (tmp_path / "evaluation").mkdir()
    registry.register(settings, tmp_path / "misled", report=tmp_path / "evaluation", metrics={}, params={}, tags={})
    moves.promote(settings, 1, "the first")

    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)

    def send(*values: bytes | None) -> None:
        for value in values:
            producer.send(settings.retrain_requests_topic, key=b"card-transactions", value=value).get(30)

    asked = msgspec.json.encode(request())
    send(b"\xff not a request", None, b'{"loop_id": 7}', asked, asked)
    traffic = Traffic(rows=12_000, seed=3, users=1000, signal=True)
    spellings.write(traffic, simulate(traffic), history := tmp_path / "history.csv")
    serve_until(settings, history, answered=5)
    send(asked)
    serve_until(settings, history, answered=6)  # one that was started anew
    producer.close()

    records = [r for batch in read_to_end(settings.bootstrap, settings.model_events_topic) for r in batch]
    events = [msgspec.json.decode(r.value or b"", type=ModelEvent) for r in records]
    assert [(e.change, e.model_version) for e in events] == [
        ("training-started", None),
        ("registered", 2),
        ("promoted", 2),
    ]
    assert {(r.key, e.loop_id) for r, e in zip(records, events, strict=True)} == {(b"card-transactions", LOOP)}
    assert registry.champion(settings) == 2
    assert "better than the champion, version 1" in events[-1].reason
    assert moves.history(settings)[-1].loop_id == LOOP
