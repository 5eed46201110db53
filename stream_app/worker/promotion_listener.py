"""Hearing of promotions on `model-events`: the registry is the truth, the topic only saves the wait."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable

from aiokafka import AIOKafkaConsumer

from schemas.configuration.settings import Settings
from schemas.records import ModelEvent
from stream_app.kafka.kafka_clients import client_config
from stream_app.kafka.record_validation import RecordIntake

log = logging.getLogger("tamiz.models")
RECONNECT_DELAY_S = 5  # before a broker that went away is looked for again
POLL_MS = 500
MIN_INTERVAL_S = 1.0  # between two events that are handed on: each makes a worker ask the registry
MOVED = ("promoted", "rolled-back")  # what gives the word to another version


async def listen_for_promotions(
    settings: Settings, count: Callable[[str], None] = lambda topic: None
) -> AsyncGenerator[ModelEvent]:
    """Moves of the champion of our model from now on, for every worker alike: no consumer group.

    Of several at once only the last is handed on, at most one in `MIN_INTERVAL_S`. What is not a model event is passed
    over, counted and logged: a poisoned record must not stop a worker, and neither must a broker that is away; what is
    missed meanwhile the registry tells. count: called with the topic of each record that is passed over.
    """
    intake = RecordIntake(settings, log, count)
    while True:
        try:
            # Closed here: a generator that is left to the collector would be closed in the middle of the loop's end.
            async with contextlib.aclosing(_events(settings, intake)) as events:
                async for event in events:
                    yield event
                    await asyncio.sleep(MIN_INTERVAL_S)
        except Exception as error:  # whatever the client raises, the registry is asked on time all the same
            log.warning("%s cannot be heard (%s); trying again", settings.model_events_topic, error or repr(error))
            await asyncio.sleep(RECONNECT_DELAY_S)


async def _events(settings: Settings, intake: RecordIntake) -> AsyncGenerator[ModelEvent]:
    consumer = AIOKafkaConsumer(
        settings.model_events_topic,
        **client_config(settings.bootstrap),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        isolation_level="read_committed",
    )
    try:
        await consumer.start()
        while True:
            batches = await consumer.getmany(timeout_ms=POLL_MS)
            events = [intake.read_ours(record, ModelEvent) for records in batches.values() for record in records]
            if moved := [e for e in events if e is not None and e.change in MOVED]:
                yield moved[-1]
    finally:
        await consumer.stop()
