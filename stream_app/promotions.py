"""Hearing of promotions on `model-events`: the registry is the truth, the topic only saves the wait."""

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from schemas.events import ModelEvent
from schemas.settings import Settings
from schemas.wire import decode
from stream_app.clients import arguments

log = logging.getLogger("tamiz.models")
RETURN_S = 5  # before a broker that went away is looked for again
MOVED = ("promoted", "rolled-back")  # what gives the word to another version


async def promotions(settings: Settings) -> AsyncIterator[ModelEvent]:
    """Every move of the champion of our model from now on, for every worker alike: no consumer group.

    What is not a model event is passed over with a warning: a poisoned record must not stop a worker, and neither must
    a broker that is away; what is missed meanwhile the registry tells.
    """
    while True:
        try:
            async for event in _events(settings):
                if event.model == settings.model and event.change in MOVED:
                    yield event
        except KafkaError as error:
            log.warning("%s cannot be heard (%s); trying again", settings.model_events_topic, error)
            await asyncio.sleep(RETURN_S)


async def _events(settings: Settings) -> AsyncIterator[ModelEvent]:
    consumer = AIOKafkaConsumer(
        settings.model_events_topic,
        **arguments(settings.bootstrap),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        isolation_level="read_committed",
    )
    try:
        await consumer.start()
        async for record in consumer:
            try:
                yield decode(record.value, ModelEvent)
            except msgspec.MsgspecError as error:
                log.warning("%s-%d-%d is passed over: %s", record.topic, record.partition, record.offset, error)
    finally:
        await consumer.stop()
