"""The listener of `model-events` on a real broker."""

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from kafka import KafkaProducer

from schemas.records import ModelEvent
from stream_app.worker import promotion_listener as listening
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings


@pytest.mark.kafka
def test_a_listener_that_ends_between_two_events_leaves_no_connection_open(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, tmp_path)
    event = ModelEvent(
        model=settings.model_name, model_version=2, change="promoted", reason="", by="me", happened_at_ms=1
    )
    consumers: list[AIOKafkaConsumer] = []

    def make(*topics: str, **arguments: object) -> AIOKafkaConsumer:
        consumers.append(AIOKafkaConsumer(*topics, **arguments))
        return consumers[-1]

    monkeypatch.setattr(listening, "AIOKafkaConsumer", make)

    async def listen(received: asyncio.Event) -> None:
        async with contextlib.aclosing(listening.listen_for_promotions(settings)) as events:
            async for _ in events:
                received.set()

    async def story() -> list[bool]:
        received = asyncio.Event()
        task = asyncio.create_task(listen(received))
        with KafkaProducer(bootstrap_servers=settings.bootstrap) as producer:
            while not received.is_set():  # it begins at the end of the topic, whenever that is
                producer.send(settings.model_events_topic, msgspec.json.encode(event), key=b"m").get(10)
                await asyncio.sleep(0.2)
        await asyncio.sleep(0)  # the listener waits, behind the event that it handed on
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [connection.connected() for connection in consumers[0]._client._conns.values()]

    assert not any(asyncio.run(story()))
