"""An asynchronous consumer without a group, for reading a part of a partition that exists already."""

import contextlib
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer

from schemas.topics import MAX_RECORD_BYTES
from stream_app.kafka.kafka_clients import client_config


@contextlib.asynccontextmanager
async def log_reader(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer. It commits nothing and reads committed records only."""
    consumer = AIOKafkaConsumer(
        **client_config(bootstrap),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,  # all records exist already
        max_partition_fetch_bytes=2 * MAX_RECORD_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()
