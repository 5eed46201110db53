"""Reads the events of the demo's services from their topics, from the beginning on."""

import logging
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

from kafka import TopicPartition

from schemas.configuration.settings import Settings
from schemas.errors import TamizError
from stream_app.kafka.kafka_clients import RecordConsumer, client_config
from stream_app.kafka.record_validation import RecordIntake

log = logging.getLogger("tamiz.demo")


def follow_events(
    settings: Settings, topics: Mapping[str, type[Any]], timeout_s: float, check: Callable[[], None]
) -> Generator[Any, None, None]:
    """Yield the records of topics of one partition, as they arrive, until the caller stops.

    check: called often; raises if a service has failed. Raises TamizError after a time.
    """
    consumer = RecordConsumer(**client_config(settings.bootstrap), enable_auto_commit=False, fetch_max_wait_ms=50)
    intake = RecordIntake(settings, log)
    try:
        consumer.assign([TopicPartition(topic, 0) for topic in topics])
        consumer.seek_to_beginning()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            check()
            for partition, records in consumer.poll(timeout_ms=200).items():
                for record in records:
                    if (event := intake.read_ours(record, topics[partition.topic])) is not None:
                        yield event
        raise TamizError(f"the demo did not continue within {timeout_s:.0f} s; see the logs in the demo's folder")
    finally:
        consumer.close()
