"""The Faust app: its settings, its consumer group, and a stop that has a deadline."""

import signal
from collections.abc import Mapping

import faust
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from schemas.configuration.kafka_config import Access
from schemas.configuration.settings import Settings
from schemas.topics import MAX_RECORD_BYTES, max_value_bytes
from stream_app.kafka import faust_transport
from stream_app.kafka.kafka_clients import METADATA_MAX_AGE_MS, tls
from stream_app.lifecycle.stop_deadline import StopDeadline
from stream_app.lifecycle.watchdog import ConsumedPartition

NO_TIMEOUT_S = 10 * 365 * 86_400.0


class ConsumerGroup:
    """The consumer group of the Faust app, for the publisher."""

    def __init__(self, app: faust.App, topic: str) -> None:
        """topic: of the transactions."""
        self._app = app
        self._topic = topic

    def generation(self) -> int:
        """The current group generation."""
        return int(self._app.consumer_generation_id)

    def assigned(self) -> set[TP]:
        """The input partitions that are assigned to this worker."""
        return {TP(self._topic, partition) for partition in assigned_partitions(self._app, frozenset({self._topic}))}

    async def commit(self, offsets: Mapping[TP, int], topic_id: str) -> bool:
        """Commit the next offset of each partition. False if the group has rebalanced."""
        return bool(await self._app.consumer.commit_offsets(offsets, topic_id))


def make_app(settings: Settings) -> faust.App:
    """Create a Faust app on the record-batch transport, without topics or a batch sink."""
    faust_transport.install(max_value_bytes(settings))
    return faust.App(
        settings.consumer_group,
        broker=";".join(f"{faust_transport.SCHEME}://{server.strip()}" for server in settings.bootstrap.split(",")),
        broker_credentials=_credentials(settings.bootstrap.access),
        datadir=settings.state_dir / "faust",
        autodiscover=False,
        web_enabled=False,  # Faust's server binds every address; stream_app/web/health_server.py replaces it
        topic_disable_leader=True,
        topic_allow_declare=False,  # `tamiz topics create` creates them, with equal partition counts
        consumer_auto_offset_reset="none",  # stream_app/offsets/partition_positions.py sets the start offsets
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        producer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        broker_session_timeout=30.0,
        broker_heartbeat_interval=3.0,
        broker_max_poll_records=settings.batch_max_records,
        # A consumer that leaves the group because it is idle would not rejoin.
        broker_max_poll_interval=NO_TIMEOUT_S,
        producer_request_timeout=30.0,
        producer_max_request_size=MAX_RECORD_BYTES,
        stream_wait_empty=True,
        stream_recovery_delay=0.0,  # no tables to recover
        consumer_connections_max_idle_ms=540_000,
    )


def _credentials(access: Access) -> faust.SASLCredentials | faust.SSLCredentials | None:
    context = tls(access)
    if access.mechanism is not None and access.password is not None:
        return faust.SASLCredentials(
            mechanism=access.mechanism,
            username=access.username,
            password=access.password.reveal(),
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None


def assigned_partitions(app: faust.App, topics: frozenset[str]) -> list[int]:
    """Partitions of the topics that are assigned to this worker, sorted. Thread-safe."""
    # Not `app.consumer`, which creates a consumer if there is none: two threads could create two.
    consumer = app._consumer
    try:
        assigned = consumer.assignment() if consumer is not None else ()
    except ConsumerNotStarted:
        return []
    return sorted(tp.partition for tp in assigned if tp.topic in topics)


def consumed_partitions(app: faust.App, topics: frozenset[str]) -> dict[int, ConsumedPartition]:
    """What the app's consumer knows of its partitions, if it has had an answer from the broker. Thread-safe."""
    thread = getattr(app._consumer, "_thread", None)
    client = getattr(thread, "_consumer", None)
    subscription = client._subscription.subscription if client is not None else None
    assignment = subscription.assignment if subscription is not None else None
    found: dict[int, ConsumedPartition] = {}
    if assignment is None:
        return found
    for tp in assignment.tps:
        state = assignment.state_value(tp)
        if tp.topic in topics and state is not None and state.has_valid_position and state.lso is not None:
            found[tp.partition] = ConsumedPartition(state.position, state.lso, state.timestamp / 1000)
    return found


class StoppingWorker(faust.Worker):  # type: ignore[misc]  # Faust has no types
    """Faust's worker with a deadline for its stop."""

    deadline: StopDeadline

    def _schedule_shutdown(self, number: signal.Signals) -> None:
        self.deadline.begin()
        super()._schedule_shutdown(number)
