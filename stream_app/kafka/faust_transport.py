"""A Faust transport whose unit is the record batch: the records of one fetch.

Faust's own path costs about 140 µs per record, nearly all of it in `Consumer._drain_messages`, which starts four tasks
per message. This transport passes a whole fetch to a `BatchSink`, for the topics that the sink names. All other topics
(control topics with ordinary agents) use Faust's path, message by message.

The contract:

* A batch is passed in partition order, with the group generation of its fetch. Offsets may have gaps (compaction,
  transactions): the sink commits the last offset plus one and so acknowledges the whole range.
* Faust's acks are not used. The sink commits, through `commit_offsets`, after its outputs are acknowledged.
* All of it runs in the worker's event loop. Heartbeats, too, so that long computations belong in another thread.
* At most one fetch request is sent to a broker in `stream_app.kafka.wire.batch_fetcher.MIN_FETCH_INTERVAL_S`.
* `put` blocks while the sink is full, which is the back-pressure. When the flow is suspended (a rebalance), the batch
  is dropped; nothing of it was committed, so the next owner fetches it again.
* `app.positions` (`stream_app.offsets.partition_positions`) sets where a partition is read from, at assignment and
  when the log changes under a reader. Nothing is reset silently. A partition whose offset does not fit its log may be
  paused: it is not fetched while the others are.
* Records fetched during a rebalance are dropped, and the partitions seek to their committed offsets.
* The position of an idle partition is committed once it has passed the last record: transaction markers occupy
  offsets, too, and would look like lost records after retention has deleted them.
* Records of aborted transactions are not delivered.
* Every record that the broker accepts is delivered (`stream_app.kafka.aiokafka_patch`).
* On revocation and on stop Faust calls `wait_empty`, which gives the sink time to finish.

Internals of Faust 0.15.3 and aiokafka 0.14.0 that this relies on (tests: tests/contract/test_faust_contract.py):
`App._consumer`, `Consumer._drain_messages`, `_wait_next_records`, `perform_seek`, `_read_offset`, `flow_active`,
`suspend_flow`, `wait_empty`, `_thread.call_thread`, `pause_partitions`, `resume_partitions`, `_new_consumer_thread`,
`ConsumerThread` as a service without a thread,
`AIOKafkaConsumer._isolation_level`, `_subscription`, `App.consumer_generation_id`, `Conductor.add`.
"""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from aiokafka.errors import (
    CommitFailedError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from stream_app.kafka import aiokafka_patch
from stream_app.kafka.batch_sink import BatchSink, Fetch
from stream_app.kafka.batches.record_columns import next_offset
from stream_app.kafka.wire import batch_fetcher
from stream_app.offsets import offset_validation

SCHEME = "tamiz"


class CommittedReader(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread without the thread, and with isolation level `read_committed`.

    Faust runs aiokafka's consumer in a thread with an event loop of its own. Each fetch and each commit then wakes both
    threads, which costs more than the fetch. Here the consumer runs in the worker's event loop. So nothing may block
    that loop for long: heartbeats are sent from it.

    Producers may use Kafka transactions (`tamiz redrive` does), and aborted records must not be decided. Faust sets
    this level only with its own `exactly_once`, which is not used here.
    """

    wait_for_shutdown = False

    def __init__(self, consumer: Any, *, loop: asyncio.AbstractEventLoop, beacon: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, beacon=beacon)

    # `ServiceThread` overrides these for a service in a thread of its own.
    start = Service.start
    maybe_start = Service.maybe_start
    stop = Service.stop
    crash = Service.crash
    set_shutdown = Service.set_shutdown
    _stopped_set = Service._stopped_set
    _stop_children = Service._stop_children
    _stop_futures = Service._stop_futures
    _stop_exit_stacks = Service._stop_exit_stacks

    @Service.task  # type: ignore[untyped-decorator]
    async def _thread_keepalive(self) -> None:
        """Replaces the timer that wakes the loop of a thread."""

    async def on_stop(self) -> None:
        """Stop the consumer, which leaves the group."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def call_thread(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call at once: there is no thread."""
        result = call(*args, **options)
        return await result if inspect.isawaitable(result) else result

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # aiokafka reads it when the consumer starts
        return consumer

    async def commit_with(self, offsets: Mapping[TP, int], metadata: str) -> bool:
        """Commit as Faust's `_commit`, with metadata."""
        assigned = self.assignment()
        own = {TopicPartition(*tp): OffsetAndMetadata(at, metadata) for tp, at in offsets.items() if tp in assigned}
        try:
            if own:
                await self._ensure_consumer().commit(own)
        except (CommitFailedError, UnknownTopicOrPartitionError):
            return False  # the group has rebalanced, or the topic was deleted
        except Exception as error:
            self.log.exception("offsets cannot be committed: %r", error)
            await self.crash(error)
            return False
        return True

    def positions(self) -> dict[TP, int]:
        """Next offset to fetch, for partitions that have a position. Thread-safe."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None:
            return {}
        states = {TP(*tp): assignment.state_value(tp) for tp in assignment.tps}
        return {tp: state.position for tp, state in states.items() if state.has_valid_position}


class RecordBatchConsumer(driver.Consumer):  # type: ignore[misc]  # Faust has no types
    """Passes whole fetches to the app's sink."""

    _resets = 0  # number of position resets
    _delivered: dict[TP, int] = {}  # noqa: RUF012  # offset after the last record passed to the sink; replaced, not mutated

    def _new_consumer_thread(self) -> CommittedReader:
        return CommittedReader(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        sink: BatchSink = self.app.batch_sink
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if self.app.positions.changed.is_set():
                    await self._recheck_positions()
                if prepared := await sink.prepared():
                    await self._resume(prepared)
                generation = self.app.consumer_generation_id
                try:
                    records, _ = await self._wait_next_records(timeout=1.0)
                except (OffsetOutOfRangeError, NoOffsetForPartitionError):
                    await self._recheck_positions()
                    continue
                await asyncio.sleep(0)  # fetches that return at once must not starve the event loop
                if not records:
                    await self._commit_idle_positions()
                    continue
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    await self._seek_back(records)
                    continue
                batches = {tp: rows for tp, rows in records.items() if tp.topic in sink.topics}
                if batches:
                    fetch = Fetch(generation, batches, self.app.positions.topic_id, self._resets)
                    if not sink.offer(fetch):
                        await self.wait_first(sink.put(fetch), self.suspend_flow.wait())
                    self._delivered = self._delivered | {tp: next_offset(rows) for tp, rows in batches.items() if rows}
                if len(batches) < len(records):
                    await self._deliver_to_agents({tp: rows for tp, rows in records.items() if tp not in batches})
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def _deliver_to_agents(self, records: Mapping[TP, Sequence[Any]]) -> None:
        # Faust's own path, for topics of ordinary agents.
        for tp, record in self.scheduler.iterate(records):
            if not self.flow_active:
                return
            message = self._to_message(tp, record)
            read = self._read_offset[tp]
            if read is not None and message.offset < read:
                continue
            if read and message.offset - read > 1 and self.app.topics.acks_enabled_for(message.topic):
                await self._add_gap(tp, read + 1, message.offset)
            await self.wait_first(self.callback(message), self.suspend_flow.wait())
            self._read_offset[tp] = message.offset

    async def perform_seek(self) -> None:
        """Seek to the committed offsets, each checked against its log."""
        await super().perform_seek()
        partitions = self._sink_partitions()
        self._delivered = {}
        self.app.positions.retain(partitions)
        await self.app.batch_sink.retain(partitions)
        if partitions:
            await self._seek_to_starts(partitions, {})

    def _sink_partitions(self) -> set[TP]:
        return {tp for tp in self.assignment() if tp.topic in self.app.batch_sink.topics}

    async def _seek_to_starts(self, partitions: set[TP], at: Mapping[TP, int]) -> bool:
        """Get the start positions of partitions and seek to them. True if any position changed."""
        positions = self.app.positions
        was_paused = {tp for tp in partitions if tp.partition in positions.paused}
        starts = await positions.starts(partitions, at)
        starts = {tp: start for tp, start in starts.items() if tp in self.assignment()}
        faulty = {tp for tp, start in starts.items() if start.is_paused}
        unprepared = await self.app.batch_sink.prepare(
            {tp: start.offset for tp, start in starts.items() if tp not in faulty}, positions.topic_id
        )
        paused = faulty | unprepared
        moved = {tp: start.offset for tp, start in starts.items() if start.offset != at.get(tp)}
        client = self._thread._ensure_consumer()
        self._delivered = self._delivered | {tp: start.offset for tp, start in starts.items()}
        if paused:
            self.pause_partitions(paused)
            await self._thread.call_thread(client.pause, *(TopicPartition(*tp) for tp in paused))
        for tp, offset in moved.items():
            await self._thread.call_thread(client.seek, TopicPartition(*tp), offset)
            self._read_offset[tp] = offset or None
        if resumed := was_paused & starts.keys() - paused:
            self.resume_partitions(resumed)
            await self._thread.call_thread(client.resume, *(TopicPartition(*tp) for tp in resumed))
        if corrected := {tp: start.offset for tp, start in starts.items() if start.fault and not start.is_paused}:
            await self.commit_offsets(corrected, positions.topic_id)
        return bool(moved) or bool(faulty - was_paused)

    async def _resume(self, partitions: set[int]) -> None:
        """Read partitions that were not prepared before."""
        ready = {tp for tp in self._sink_partitions() if tp.partition in partitions}
        self.resume_partitions(ready)
        client = self._thread._ensure_consumer()
        await self._thread.call_thread(client.resume, *(TopicPartition(*tp) for tp in ready))

    async def _recheck_positions(self) -> None:
        """Check positions again, after the topic was recreated or its log changed."""
        positions, partitions = self.app.positions, self._sink_partitions()
        positions.changed.clear()
        if not partitions or not self.flow_active:
            return
        # Records fetched before belong to the previous log and must be decided first.
        if not await self.app.batch_sink.drain():
            raise RuntimeError("records fetched before the log changed were not decided within drain_timeout_seconds")
        paused = positions.paused
        at = {tp: o for tp, o in self._thread.positions().items() if tp in partitions and tp.partition not in paused}
        previous_id = positions.topic_id
        if await self._seek_to_starts(partitions, at) or positions.topic_id != previous_id:
            self._resets += 1

    async def _commit_idle_positions(self) -> None:
        partitions = self._sink_partitions()
        advanced = {
            tp: position
            for tp, position in self._thread.positions().items()
            if tp in partitions and position > self._delivered.get(tp, position)
        }
        if advanced and self.app.batch_sink.is_idle():
            self._delivered = self._delivered | advanced
            await self.commit_offsets(advanced, self.app.positions.topic_id)

    async def _seek_back(self, dropped: Mapping[TP, Sequence[Any]]) -> None:
        try:
            await self.perform_seek()
        except Exception as error:  # during a rebalance; the new assignment seeks again
            self.log.warning("seek to the committed offsets failed during a rebalance: %r", error)

    async def wait_empty(self) -> None:
        """Wait for the sink, then for ordinary agents."""
        drained = await self.app.batch_sink.drain()
        await super().wait_empty()
        if drained and self.app.should_stop:
            await self.app.batch_sink.save()

    async def commit_offsets(self, offsets: Mapping[TP, int], topic_id: str) -> bool:
        """Commit the *next* offset to read of each partition; False if the group has rebalanced.

        topic_id: Kafka's id of the topic that the offsets belong to; stored in the commit's metadata.
        """
        thread = self._thread
        metadata = offset_validation.commit_metadata(topic_id)
        committed: bool = await thread.call_thread(thread.commit_with, offsets, metadata)
        return committed

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Skip Faust's livelock detection for batch topics, because it relies on acks."""
        if tp.topic not in self.app.batch_sink.topics:
            super().verify_event_path(now, tp)


class RecordBatchTransport(driver.Transport):  # type: ignore[misc]
    """The transport for the scheme `tamiz://host:port`."""

    Consumer: ClassVar[type] = RecordBatchConsumer


def install(keep_bytes: Mapping[str, int]) -> None:
    """Register the scheme `tamiz://` with Faust, and patch aiokafka's consumers."""
    TRANSPORTS.aliases[SCHEME] = "stream_app.kafka.faust_transport:RecordBatchTransport"
    aiokafka_patch.install(keep_bytes)
    batch_fetcher.install()
