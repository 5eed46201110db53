"""Cursors on `drift-panes`, on a real broker: found however far back, and held against the log that they counted."""

import asyncio

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from schemas.events import PaneSnapshot, VersionMark
from schemas.settings import Settings, load
from stream_app.clients import arguments
from stream_app.pane_cursors import FIRST_LOOKBACK_RECORDS, CursorReader, Cursors
from stream_app.worker_metrics import WorkerMetrics
from tests.conftest import Kafka
from tests.worker_process import settings_of_its_own


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
    producer = AIOKafkaProducer(**arguments(settings.bootstrap), transactional_id=settings.group)
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


@pytest.mark.kafka
def test_the_cursor_is_found_behind_any_number_of_aborted_attempts(kafka: Kafka) -> None:
    settings = settings_of_its_own(kafka.bootstrap_servers, load({}).state_dir)
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
            fits=lambda found: found.last_offset < 10,
            metrics=metrics,
        )
        return await reader.last_cursors({0, 1})

    found = asyncio.run(read())
    assert found == {0: {1: cursor(1, 4), 2: named}, 1: {}}
    refused = metrics.registry.get_sample_value
    assert refused("tamiz_drift_cursors_refused_total", {"reason": "log"}) == 1
    assert refused("tamiz_drift_cursors_refused_total", {"reason": "partition"}) >= 1
