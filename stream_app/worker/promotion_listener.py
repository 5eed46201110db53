"""Listens for promotions on `model-events`. The registry is authoritative; the topic only makes workers poll sooner."""

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
RECONNECT_DELAY_S = 5
FETCH_WAIT_MS = 30_000  # how long a request waits at the broker for an event; less than aiokafka's request timeout
MIN_EVENT_INTERVAL_S = 1.0  # between two yielded events, since each makes a worker poll the registry
CHAMPION_CHANGES = ("promoted", "rolled-back")


async def listen_for_promotions(
    settings: Settings, count: Callable[[str], None] = lambda topic: None
) -> AsyncGenerator[ModelEvent]:
    """Yield changes of the model's champion from now on. Without a consumer group, so every worker gets each one.

    Of several at once only the last is yielded, at most one per `MIN_EVENT_INTERVAL_S`. Invalid records are skipped,
    counted and logged. Neither they nor an unreachable broker stop the worker, which polls the registry anyway.
    count: called with the topic of each skipped record.
    """
    intake = RecordIntake(settings, log, count)
    while True:
        try:
            # Closed here, because the garbage collector would close the generator while the event loop shuts down.
            async with contextlib.aclosing(_events(settings, intake)) as events:
                async for event in events:
                    yield event
                    await asyncio.sleep(MIN_EVENT_INTERVAL_S)
        except Exception as error:  # the registry is polled regardless of what the client raises
            log.warning(
                "%s cannot be read (%s); retry in %d s",
                settings.model_events_topic,
                str(error) or repr(error),
                RECONNECT_DELAY_S,
            )
            await asyncio.sleep(RECONNECT_DELAY_S)


async def _events(settings: Settings, intake: RecordIntake) -> AsyncGenerator[ModelEvent]:
    consumer = AIOKafkaConsumer(
        settings.model_events_topic,
        **client_config(settings.bootstrap),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        isolation_level="read_committed",
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    try:
        await consumer.start()
        while True:
            batches = await consumer.getmany(timeout_ms=FETCH_WAIT_MS)
            events = [intake.read_ours(record, ModelEvent) for records in batches.values() for record in records]
            if changes := [e for e in events if e is not None and e.change in CHAMPION_CHANGES]:
                yield changes[-1]
    finally:
        await consumer.stop()
