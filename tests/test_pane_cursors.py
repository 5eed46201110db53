"""Cursors on `drift-panes`, on a real broker: found however far back, and held against the log that they counted."""

import asyncio
from collections import Counter

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from schemas.events import PaneSnapshot, VersionMark
from schemas.settings import Settings, load
from stream_app.clients import arguments
from stream_app.pane_cursors import FIRST_LOOKBACK_RECORDS, CursorReader, Cursors, fitted
from tests.conftest import Kafka
from tests.worker_process import settings_of_its_own

IDS = "A" * 22, "B" * 22


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


@pytest.mark.parametrize(
    ("topic_ids", "end", "reason", "last_offset"),
    [
        pytest.param((IDS[0], IDS[0]), 10, None, 9, id="all that there is was counted"),
        pytest.param((IDS[0], IDS[1]), 100, "another-topic", 9, id="the topic was made anew"),
        pytest.param((IDS[0], IDS[0]), 5, "log-cut", 4, id="the log was cut"),
        pytest.param(("", IDS[0]), 5, "beyond-end", 9, id="beyond the end, and from before there were ids"),
        pytest.param(("", IDS[0]), 10, None, 9, id="from before there were ids"),
    ],
)
def test_a_cursor_is_held_against_the_log_that_it_counted(
    topic_ids: tuple[str, str], end: int, reason: str | None, last_offset: int
) -> None:
    found, fitting = fitted(cursor(topic_id=topic_ids[0]), input_end=end, topic_id=topic_ids[1])
    assert (found, fitting.last_offset) == (reason, last_offset)


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
        # An input that ends at 10.
        for _ in range(10):
            await producer.send(settings.transactions_topic, b"{}", partition=0)
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
    refused: list[str] = []

    async def read() -> Cursors:
        await produce(settings, [cursor(1, 4), *fillers, named, cursor(3, 10**6)], attempts)
        reader = CursorReader(
            settings.bootstrap,
            settings.drift_panes_topic,
            model="card-transactions",
            transactions_topic=settings.transactions_topic,
            topic_id=IDS[0],
            refused=refused.append,
        )
        return await reader.last_cursors({0, 1})

    found = asyncio.run(read())
    assert found == {0: {1: cursor(1, 4), 2: named}, 1: {}}
    assert Counter(refused) == {"beyond-end": 1}
