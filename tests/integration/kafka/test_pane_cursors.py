"""Cursors on `drift-panes` on a real broker: found at any distance, and validated against the log that they count."""

import asyncio

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from schemas.configuration.settings import Settings, load
from schemas.records import PaneSnapshot, VersionMark
from schemas.topics import MAX_RECORD_BYTES
from stream_app.kafka.kafka_clients import client_config
from stream_app.worker import pane_cursors
from stream_app.worker.pane_cursors import FIRST_LOOKBACK_RECORDS, CursorReader, Cursors
from stream_app.worker.worker_metrics import WorkerMetrics
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings


def cursor(version: int = 1, last_offset: int = 9, partition: int = 0, topic_id: str = "") -> PaneSnapshot:
    return PaneSnapshot(
        model="card-transactions",
        model_version=version,
        layout="layout",
        partition=partition,
        last_offset=last_offset,
        watermark_ms=1_000_000,
        late=0,
        open=True,
        panes=(),
        topic_id=topic_id,
    )


async def produce(settings: Settings, committed: list[PaneSnapshot], aborted: int) -> None:
    """Cursors of partition 0, then attempts that are aborted, and junk."""

    def new_producer() -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **client_config(settings.bootstrap),
            transactional_id=settings.consumer_group,
            max_request_size=MAX_RECORD_BYTES,
        )

    producer = new_producer()
    await producer.start()
    try:
        topic = settings.drift_panes_topic
        await producer.begin_transaction()
        for record in committed:
            await producer.send(topic, msgspec.json.encode(record), key=b"%d" % record.model_version, partition=0)
        await producer.commit_transaction()
        for _ in range(aborted):
            await producer.begin_transaction()
            for _ in range(4):
                await producer.send_and_wait(topic, msgspec.json.encode(cursor(9, 10**9)), key=b"9", partition=0)
            await producer.abort_transaction()
        await producer.begin_transaction()
        for value in (b"junk", msgspec.json.encode(cursor(1, 3, partition=1))):
            await producer.send(topic, value, key=b"x", partition=0)
        await producer.commit_transaction()
    finally:
        await producer.stop()
    # A commit is confirmed before its markers are written. As for a worker that takes over, the broker lets the next
    # owner of the id begin only when they are.
    successor = new_producer()
    await successor.start()
    await successor.stop()


@pytest.mark.kafka
def test_the_cursor_is_found_behind_any_number_of_aborted_attempts(kafka: Kafka) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, load({}).state_dir)
    attempts = 70
    assert attempts * 5 > FIRST_LOOKBACK_RECORDS, "each attempt fills five offsets, one with its marker"
    older = VersionMark(model_version=1, watermark_ms=1_000_000)
    named = msgspec.structs.replace(cursor(2, 9), others=(older,))
    fillers = [cursor(2, 5) for _ in range(2 * FIRST_LOOKBACK_RECORDS)]
    metrics = WorkerMetrics()

    async def read() -> Cursors:
        await produce(settings, [cursor(1, 4), *fillers, named, cursor(3, 10**6)], attempts)
        reader = CursorReader(
            settings.bootstrap,
            settings.drift_panes_topic,
            model="card-transactions",
            version=lambda: 1,
            fits=lambda found: found.last_offset < 10,
            metrics=metrics,
        )
        return await reader.last_cursors({0, 1})

    found = asyncio.run(read())
    assert found == {0: {1: cursor(1, 4), 2: named}, 1: {}}
    refused = metrics.registry.get_sample_value
    assert refused("tamiz_drift_cursors_rejected_total", {"reason": "log"}) == 1
    assert refused("tamiz_drift_cursors_rejected_total", {"reason": "partition"}) >= 1


@pytest.mark.kafka
def test_invented_versions_neither_hide_a_cursor_nor_make_the_search_read_all(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pane_cursors, "MAX_NAMED_LOOKBACK_RECORDS", 2 * FIRST_LOOKBACK_RECORDS)
    settings = isolated_settings(kafka.bootstrap_servers, load({}).state_dir)
    true, metrics = cursor(1, 8), WorkerMetrics()
    forged = [cursor(77, 9) for _ in range(2 * FIRST_LOOKBACK_RECORDS)]
    invented = tuple(VersionMark(model_version=100 + n, watermark_ms=1_000_000) for n in range(30_000))
    large = msgspec.structs.replace(cursor(77, 9), others=invented)
    assert len(msgspec.json.encode(large)) > 1_048_576

    async def read(committed: list[PaneSnapshot]) -> Cursors:
        await produce(settings, committed, 0)
        reader = CursorReader(
            settings.bootstrap,
            settings.drift_panes_topic,
            model="card-transactions",
            version=lambda: 1,
            fits=lambda _: True,
            metrics=metrics,
        )
        return await reader.last_cursors({0})

    assert asyncio.run(read([true, *forged])) == {0: {1: true, 77: forged[-1]}}
    # The true one is now further back than the search goes for what this one invents.
    assert asyncio.run(read([*forged, large])) == {0: {77: large}}
    assert metrics.registry.get_sample_value("tamiz_drift_cursors_rejected_total", {"reason": "missing"}) == 1
