"""Compression codecs: every client reads and writes each codec of a producer or topic."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from chaos.fuzz.raw_batches import CODECS
from schemas.configuration.settings import Settings
from schemas.records import Decision
from stream_app.decisions import dead_letters
from stream_app.kafka.topic_admin import admin
from stream_app.kafka.topic_reader import last_records, read_to_end
from stream_app.worker.pane_cursors import CursorReader
from stream_app.worker.worker_metrics import WorkerMetrics
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, read_topic, running_worker, wait_for
from tests.helpers.traffic.invalid_payloads import payload

pytestmark = pytest.mark.kafka

GOOD, BAD = payload(), b"hola " * 100


@pytest.fixture
def settings(kafka: Kafka, real_registry: Settings) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, real_registry.state_dir, partitions=1)


def kafka_python_sends(settings: Settings, codec: str) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap, compression_type=None if codec == "none" else codec)
    try:
        for value in (GOOD, BAD):
            producer.send(settings.transactions_topic, key=b"17", value=value).get(60)
    finally:
        producer.close()


def aiokafka_sends(settings: Settings, codec: str) -> None:
    async def send() -> None:
        kind = None if codec == "none" else codec
        async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap, compression_type=kind) as producer:
            for value in (GOOD, BAD):
                await producer.send_and_wait(settings.transactions_topic, key=b"17", value=value)

    asyncio.run(send())


def set_codec(settings: Settings, codec: str) -> None:
    """Make the broker store these topics with a codec, regardless of the producer's."""
    topics = (settings.transactions_topic, settings.decisions_topic, settings.dead_letters_topic)
    with admin(settings.bootstrap) as client:
        client.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, topic, {"compression.type": codec})
                for topic in (*topics, settings.drift_panes_topic)
            ]
        )


def read(settings: Settings, topic: str) -> list[Any]:
    return [record for records in read_to_end(settings.bootstrap, topic) for record in records]


def test_all_five_codecs_of_producers_and_of_topics_go_from_transaction_to_readers(
    settings: Settings, tmp_path: Path
) -> None:
    with running_worker(settings, tmp_path) as worker:
        for codec in CODECS:
            kafka_python_sends(settings, codec)
            aiokafka_sends(settings, codec)
        sent = 2 * len(CODECS)
        read_topic(settings.bootstrap, settings.decisions_topic, at_least=sent)
        for codec in CODECS[1:]:
            set_codec(settings, codec)
            kafka_python_sends(settings, "none")
            sent += 1
            wait_for(lambda n=sent: len(read(settings, settings.decisions_topic)) == n, 30, worker.tail)
        assert worker.stop() == 0, worker.tail()

    decisions = read(settings, settings.decisions_topic)
    assert len({msgspec.json.decode(r.value, type=Decision).transaction_id for r in decisions}) == sent
    letters = read(settings, settings.dead_letters_topic)
    assert [r.value for r in letters] == [BAD] * sent
    assert {found.code for r in letters if (found := dead_letters.read(r.headers))} == {"not-json"}
    (last,) = last_records(settings.bootstrap, settings.transactions_topic, 1)[-1:]
    assert last.value == BAD
    reader = CursorReader(
        settings.bootstrap,
        settings.drift_panes_topic,
        model=settings.model_name,
        version=lambda: 1,
        fits=lambda _: True,
        metrics=WorkerMetrics(),
    )
    cursors = asyncio.run(reader.last_cursors({0}))
    assert [cursor.last_offset for cursor in cursors[0].values()] == [2 * sent - 1]
