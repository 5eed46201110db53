"""The retraining loop on a real broker: drift, alert, request, training, promotion, model swap."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from monitoring.drift.reference import load_reference
from schemas.configuration.settings import Settings
from schemas.records import Decision, DriftAlert, DriftReport, ModelEvent, PaneSnapshot, RetrainRequest
from schemas.time_units import DAY_MS
from tamiz.simulation.drift_injection import InjectedDrift
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from tests.conftest import Kafka
from tests.helpers.services.worker_process import (
    isolated_settings,
    read_topic,
    running_command,
    running_worker,
    wait_for,
)
from tests.helpers.traffic.drift_simulation import FIRST_DAY_MS, ROWS_PER_DAY
from training.registry.mlflow_registry import download_bundle

pytestmark = pytest.mark.kafka

DAYS = 20
POISON = b'{"model": "\xff'
SHIFT_MS = FIRST_DAY_MS + 2 * DAY_MS
SHIFT = (
    InjectedDrift(kind="mean-shift", at_ms=SHIFT_MS, strength=-0.7, feature="monto"),
    InjectedDrift(kind="concept", at_ms=SHIFT_MS, strength=1.0),
)


@pytest.fixture
def settings(kafka: Kafka, simulated_registry: Settings) -> Settings:
    return isolated_settings(
        kafka.bootstrap_servers,
        simulated_registry.state_dir,
        registry_poll_seconds=600,  # a promotion can only be noticed through the topic
        retrain_sustained_hours=15 * 24,  # so that there is enough data after the shift to train on
    )


def traffic(shift: tuple[InjectedDrift, ...]) -> list[tuple[bytes, bytes]]:
    wanted = Traffic(rows=DAYS * ROWS_PER_DAY, seed=2, signal=True, start_ms=FIRST_DAY_MS, days=DAYS, drift=shift)
    return list(keyed_payloads(wanted))


def produce(
    settings: Settings, pairs: list[tuple[bytes, bytes]], topic: str | None = None, partition: int | None = None
) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap, linger_ms=5)
    try:
        for key, value in pairs:
            producer.send(topic or settings.transactions_topic, key=key, value=value, partition=partition)
        producer.flush()
    finally:
        producer.close()


def read(settings: Settings, topic: str, type_: type[Any], at_least: int = 0) -> list[Any]:
    records = read_topic(settings.bootstrap, topic, at_least=at_least)
    return [msgspec.json.decode(r.value, type=type_) for r in records if r.value != POISON]


@pytest.fixture
def watched_worker(settings: Settings, tmp_path: Path) -> Iterator[Any]:
    with running_worker(settings, tmp_path) as worker, running_command("monitor", settings, tmp_path) as log:
        wait_for(lambda: "caught up with drift-panes" in log.read_text(), 60, log.read_text)
        yield worker


# Must run first: the loop below leaves another champion, for which this traffic is drift.
def test_traffic_without_a_shift_is_silent_at_full_speed_and_with_an_absurd_date_published(
    settings: Settings, watched_worker: Any, tmp_path: Path
) -> None:
    pairs = traffic(())
    produce(settings, pairs[:ROWS_PER_DAY])
    read(settings, settings.decisions_topic, Decision, at_least=ROWS_PER_DAY)
    poison = PaneSnapshot(
        model=settings.model_name,
        model_version=1,
        layout=load_reference(download_bundle(settings, 1, tmp_path / "bundle")).bins.digest,
        partition=0,
        last_offset=0,
        watermark_ms=4_070_908_800_000,
        late=0,
        open=True,
        panes=(),
    )
    produce(settings, [(b"?", msgspec.json.encode(poison))], settings.drift_panes_topic, partition=0)
    produce(settings, pairs[ROWS_PER_DAY:])
    read(settings, settings.decisions_topic, Decision, at_least=len(pairs))
    until = FIRST_DAY_MS + (DAYS - 1) * DAY_MS
    wait_for(
        lambda: max((r.until_ms for r in read(settings, settings.drift_reports_topic, DriftReport)), default=0) > until,
        60,
        watched_worker.tail,
    )
    assert read(settings, settings.drift_alerts_topic, DriftAlert) == []
    assert read(settings, settings.retrain_requests_topic, RetrainRequest) == []


def test_drift_ends_in_a_new_champion_that_decides(settings: Settings, watched_worker: Any, tmp_path: Path) -> None:
    pairs = traffic(SHIFT)
    kept, last = pairs[: -ROWS_PER_DAY // 2], pairs[-ROWS_PER_DAY // 2 :]
    for topic in (settings.model_events_topic, settings.labels_topic, settings.drift_panes_topic):
        produce(settings, [(b"?", POISON)], topic)  # no program may fail on it
    with running_command("retrainer", settings, tmp_path) as log:
        produce(settings, kept)
        (request,) = read(settings, settings.retrain_requests_topic, RetrainRequest, at_least=1)
        wait_for(lambda: watched_worker.readiness()["model_version"] != request.model_version, 120, log.read_text)
        produce(settings, last)
        decisions = read(settings, settings.decisions_topic, Decision, at_least=len(pairs))

    alerts = read(settings, settings.drift_alerts_topic, DriftAlert, at_least=1)
    assert "monto" in alerts[0].features
    assert alerts[0].happened_at_ms > SHIFT_MS
    assert len(alerts[0].examples) == 5
    assert set(alerts[0].examples) <= {d.transaction_id for d in decisions}
    assert "monto" in request.features
    changes = [
        e for e in read(settings, settings.model_events_topic, ModelEvent) if e.correlation_id == request.correlation_id
    ]
    assert [e.change for e in changes] == ["training-started", "registered", "promoted"]
    version = changes[-1].model_version
    assert watched_worker.readiness()["model_version"] == version
    assert {d.model_version for d in decisions} == {request.model_version, version}
    assert len({d.transaction_id for d in decisions}) == len(decisions) == len(pairs), "none lost, none decided twice"

    with running_command("monitor", settings, tmp_path) as again:
        wait_for(lambda: "caught up with drift-panes" in again.read_text(), 60, again.read_text)
    # The fixture's monitor also runs: either may publish new results; published ones are not published again.
    published = [
        (a.incident_id, a.change, a.happened_at_ms) for a in read(settings, settings.drift_alerts_topic, DriftAlert)
    ]
    assert len(published) == len(set(published))
