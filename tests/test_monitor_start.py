"""A monitor that starts late reads everything in step, however much it is, and gets to its end."""

import threading

import msgspec
import pytest
from kafka import KafkaProducer

from schemas.dataset import load_dataset
from schemas.events import PaneSnapshot
from schemas.settings import Settings
from stream_app.clients import arguments
from stream_app.model_store import ModelStore
from stream_app.monitor import BUFFERED, Monitor
from tests.conftest import Kafka
from tests.worker_process import settings_of_its_own, wait_for

PARTITIONS = 4


def snapshot(partition: int, n: int) -> PaneSnapshot:
    return PaneSnapshot(
        model="card-transactions",
        model_version=1,
        layout="of another model",
        partition=partition,
        last_offset=n,
        watermark_ms=60_000 * n,
        late=0,
        open=True,
        panes=(),
    )


@pytest.mark.kafka
def test_more_snapshots_than_are_read_ahead_do_not_keep_it_from_its_end(kafka: Kafka, skilled: Settings) -> None:
    settings = settings_of_its_own(kafka.bootstrap_servers, skilled.state_dir, partitions=PARTITIONS)
    producer = KafkaProducer(**arguments(settings.bootstrap), acks="all")
    for n in range(2 * BUFFERED + 100):
        for p in range(PARTITIONS):
            value = msgspec.json.encode(snapshot(p, n))
            producer.send(settings.drift_panes_topic, value, key=b"%d" % n, partition=p)
    producer.flush()
    producer.close()
    store = ModelStore(settings, load_dataset(settings.dataset))
    store.open()
    over, ready = threading.Event(), threading.Event()
    monitor = threading.Thread(target=Monitor(settings, store).run, args=(over, ready.set))
    monitor.start()
    try:
        wait_for(lambda: ready.is_set() or not monitor.is_alive(), 60)
        assert monitor.is_alive()
    finally:
        over.set()
        monitor.join(60)
