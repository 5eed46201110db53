"""A monitor with a large backlog reads its topics in step, catches up, and reports its progress."""

import json
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from benchmarks.components.monitor_start import decision
from chaos.fuzz.raw_batches import RawProducer, RawRecord, encode_batch
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.records import PaneSnapshot
from stream_app.kafka.kafka_clients import client_config
from stream_app.monitor.monitor_input import MAX_BUFFERED_RECORDS
from stream_app.monitor.monitor_loop import Monitor
from stream_app.monitor.monitor_metrics import MonitorMetrics
from stream_app.monitor.monitor_server import MonitorServer
from stream_app.worker.champion_cache import ChampionCache
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, wait_for

PARTITIONS = 4


def snapshot(partition: int, n: int, version: int, layout: str) -> PaneSnapshot:
    return PaneSnapshot(
        model="card-transactions",
        model_version=version,
        layout=layout,
        partition=partition,
        last_offset=-1,  # nothing is on `transactions`
        watermark_ms=60_000 * n,
        late=0,
        open=True,
        panes=(),
    )


@pytest.mark.kafka
def test_more_snapshots_than_are_read_ahead_do_not_keep_it_from_its_end(
    kafka: Kafka, simulated_registry: Settings
) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, simulated_registry.state_dir, partitions=PARTITIONS)
    store = ChampionCache(settings, load_dataset(settings.dataset))
    store.open()
    champion = store.current  # not always version 1: other tests of the session may have promoted another
    producer = KafkaProducer(**client_config(settings.bootstrap), acks="all")
    for n in range(2 * MAX_BUFFERED_RECORDS + 100):
        for p in range(PARTITIONS):
            value = msgspec.json.encode(snapshot(p, n, champion.version, champion.bins.digest))
            producer.send(settings.drift_panes_topic, value, key=b"%d" % n, partition=p)
    producer.flush()
    producer.close()
    over, ready, metrics = threading.Event(), threading.Event(), MonitorMetrics()
    watching = Monitor(settings, store, metrics)
    with MonitorServer(settings, metrics, watching.alive, watching.readiness) as server:
        assert page(server, "readyz") == (
            503,
            {
                "ready": False,
                "waiting_for": ["the history to be read"],
                "model": "card-transactions",
                "model_versions": [],
            },
        )
        monitor = threading.Thread(target=watching.run, args=(over, ready.set))
        monitor.start()
        try:
            wait_for(lambda: ready.is_set() or not monitor.is_alive(), 60)
            assert monitor.is_alive()
            assert page(server, "livez") == (200, {"alive": True})
            assert page(server, "readyz")[1]["model_versions"] == [champion.version]
            assert "tamiz_drift_evaluations_total 0.0" in page(server, "metrics")[1]
        finally:
            over.set()
            monitor.join(60)


#  decisions   0 ......................... 799
#              |---- too old to be known ---|-- read at the start --|
@pytest.mark.kafka
def test_it_reads_at_its_start_no_more_decisions_than_it_remembers(
    kafka: Kafka, simulated_registry: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_app.monitor.monitor_input.DECISIONS_AT_START", 100)
    settings = isolated_settings(kafka.bootstrap_servers, simulated_registry.state_dir, partitions=PARTITIONS)
    now_ms = int(time.time() * 1000)
    with RawProducer(settings.bootstrap) as producer:
        for p in range(PARTITIONS):
            values = [msgspec.json.encode(decision(200 * p + i, settings.model_name, now_ms)) for i in range(200)]
            producer.send(settings.decisions_topic, p, encode_batch([RawRecord(v) for v in values], timestamp=now_ms))
    store = ChampionCache(settings, load_dataset(settings.dataset))
    store.open()
    over, ready = threading.Event(), threading.Event()
    watching = Monitor(settings, store)
    monitor = threading.Thread(target=watching.run, args=(over, ready.set))
    monitor.start()
    try:
        wait_for(lambda: ready.is_set() or not monitor.is_alive(), 60)
    finally:
        over.set()
        monitor.join(60)
    assert watching._context.performance(1, now_ms).matured == 100


def page(server: MonitorServer, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/{path}", timeout=10) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    return status, body.decode() if path == "metrics" else json.loads(body)
