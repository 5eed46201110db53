"""A Faust transport whose unit is the record batch: what one fetch brought.

Faust's own path costs about 140 µs a record, nearly all of it in `Consumer._drain_messages`, which starts four tasks
for every message. Here one fetch is handed over whole, to a `BatchSink`, for the topics that the sink names; every
other topic (control topics, with ordinary agents) keeps Faust's path, message by message.

The contract:

* A batch is handed over in the partition's order, tagged with the group generation it was fetched under. Offsets may
  have gaps (compaction, transactions): the sink commits the last offset plus one and so acknowledges the whole range.
* Faust's acks play no part. The sink commits, through `commit_offsets`, after its outputs are acknowledged.
* A hand-over blocks while the sink is full: that is the back-pressure. It ends when the flow is suspended (a
  rebalance): the batch is dropped, and since nothing of it was committed the next owner fetches it again.
* Where a partition is read from is judged by `app.positions` (`stream_app.offsets.partition_positions`), when it is
assigned and when the
  log changes under a reader; nothing is ever reset silently. A partition whose offset does not fit its log may be held:
  it is not fetched while the others are.
* What a fetch brings while the group changes hands is dropped, and the partitions are sought back to their committed
  offsets.
* An idle partition's position is committed when it has moved past its last record: markers of transactions fill
  offsets, too, and would look like lost records once retention has deleted them.
* Records of aborted transactions are never seen.
* Whatever record the broker accepts is handed over (`stream_app.kafka.aiokafka_patch`).
* On revocation and on stop Faust calls `wait_empty`; it gives the sink time to finish what it holds.

Faust 0.15.3 and aiokafka 0.14.0 internals this rests on (each has a test in tests/contract/test_faust_contract.py):
`App._consumer`, `Consumer._drain_messages`, `_wait_next_records`, `perform_seek`, `_read_offset`, `flow_active`,
`suspend_flow`, `wait_empty`, `_thread.call_thread`, `pause_partitions`, `resume_partitions`, `_new_consumer_thread`,
`AIOKafkaConsumer._isolation_level`, `_subscription`, `App.consumer_generation_id`, `Conductor.add`,
`Producer._settings_extra`, `AIOKafkaProducer.send_batch`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
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

from stream_app.kafka import aiokafka_patch
from stream_app.offsets import offset_validation

SCHEME = "tamiz"


class Fetched(NamedTuple):
    """What one fetch brought: records of several partitions, each list in offset order."""

    generation: int
    records: Mapping[TP, Sequence[Any]]  # aiokafka's ConsumerRecord
    topic_id: str = ""  # incarnation of the topic that they were read from
    resets: int = 0  # how often positions were changed under the reader before


class BatchSink(Protocol):
    """Who takes record batches. An app has one, as `app.batch_sink`."""

    topics: frozenset[str]

    async def put(self, fetched: Fetched) -> None:
        """Take a fetch; wait while full."""

    async def drain(self) -> bool:
        """Return when nothing is held any more, or when the time for it is over: then False."""

    def is_idle(self) -> bool:
        """Whether nothing is held."""


class CommittedReader(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, reading only what is committed.

    Producers may send in transactions (`tamiz redrive` does), and what was aborted must not be decided. Faust reads so
    only under its own `exactly_once`, which is not to be built on.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # aiokafka reads it when the consumer starts
        return consumer

    async def commit_with(self, offsets: Mapping[TP, int], metadata: str) -> bool:
        """As Faust's `_commit`, with metadata; in this thread."""
        assigned = self.assignment()
        ours = {TopicPartition(*tp): OffsetAndMetadata(at, metadata) for tp, at in offsets.items() if tp in assigned}
        try:
            if ours:
                await self._ensure_consumer().commit(ours)
        except (CommitFailedError, UnknownTopicOrPartitionError):
            return False  # the group has moved on, or the topic is gone
        except Exception as error:
            self.log.exception("offsets cannot be committed: %r", error)
            await self.crash(error)
            return False
        return True

    def positions(self) -> dict[TP, int]:
        """Where the partitions that have a position are to be fetched next; any thread may ask."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None:
            return {}
        states = {TP(*tp): assignment.state_value(tp) for tp in assignment.tps}
        return {tp: state.position for tp, state in states.items() if state.has_valid_position}


class RecordBatchConsumer(driver.Consumer):  # type: ignore[misc]  # Faust has no types
    """Hands whole fetches to the app's sink."""

    _resets = 0  # how often positions were changed under the reader
    _handed_over: dict[TP, int] = {}  # noqa: RUF012  # next offset behind what the sink was given; replaced, not shared

    def _new_consumer_thread(self) -> CommittedReader:
        return CommittedReader(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        sink: BatchSink = self.app.batch_sink
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                if self.app.positions.changed.is_set():
                    await self._check_again()
                generation = self.app.consumer_generation_id
                try:
                    records, _ = await self._wait_next_records(timeout=1.0)
                except (OffsetOutOfRangeError, NoOffsetForPartitionError):
                    await self._check_again()
                    continue
                await asyncio.sleep(0)  # a fetch that answers at once must not starve the loop
                if not records:
                    await self._commit_passed()
                    continue
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    await self._seek_back(records)
                    continue
                batches = {tp: rows for tp, rows in records.items() if tp.topic in sink.topics}
                if batches:
                    fetched = Fetched(generation, batches, self.app.positions.topic_id, self._resets)
                    await self.wait_first(sink.put(fetched), self.suspend_flow.wait())
                    self._handed_over = self._handed_over | {
                        tp: rows[-1].offset + 1 for tp, rows in batches.items() if rows
                    }
                if len(batches) < len(records):
                    await self._one_by_one({tp: rows for tp, rows in records.items() if tp not in batches})
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def _one_by_one(self, records: Mapping[TP, Sequence[Any]]) -> None:
        # Faust's own path, for the topics of ordinary agents.
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
        """Go to the offsets that the group committed, each of them checked against its log."""
        await super().perform_seek()
        ours = self._of_sink()
        self._handed_over = {}
        self.app.positions.keep(ours)
        if ours:
            await self._begin(ours, {})

    def _of_sink(self) -> set[TP]:
        return {tp for tp in self.assignment() if tp.topic in self.app.batch_sink.topics}

    async def _begin(self, partitions: set[TP], at: Mapping[TP, int]) -> bool:
        """Ask where to read partitions from, and go there; whether any is read from elsewhere than it was."""
        positions = self.app.positions
        was_paused = {tp for tp in partitions if tp.partition in positions.paused}
        starts = await positions.starts(partitions, at)
        starts = {tp: start for tp, start in starts.items() if tp in self.assignment()}
        paused = {tp for tp, start in starts.items() if start.is_paused}
        moved = {tp: start.offset for tp, start in starts.items() if start.offset != at.get(tp)}
        client = self._thread._ensure_consumer()
        self._handed_over = self._handed_over | {tp: start.offset for tp, start in starts.items()}
        for tp, offset in moved.items():
            await self._thread.call_thread(client.seek, TopicPartition(*tp), offset)
            self._read_offset[tp] = offset or None
        if paused:
            self.pause_partitions(paused)
            await self._thread.call_thread(client.pause, *(TopicPartition(*tp) for tp in paused))
        if resumed := was_paused & starts.keys() - paused:
            self.resume_partitions(resumed)
            await self._thread.call_thread(client.resume, *(TopicPartition(*tp) for tp in resumed))
        if corrected := {tp: start.offset for tp, start in starts.items() if start.fault and not start.is_paused}:
            await self.commit_offsets(corrected, positions.topic_id)
        return bool(moved) or bool(paused - was_paused)

    async def _check_again(self) -> None:
        """Judge where this worker reads anew: the topic may be another one, or its log begin or end elsewhere."""
        positions, ours = self.app.positions, self._of_sink()
        positions.changed.clear()
        if not ours or not self.flow_active:
            return
        # What was fetched before belongs to the log as it was: it is decided first.
        if not await self.app.batch_sink.drain():
            raise RuntimeError("what was fetched before the log changed is not decided in time")
        paused = positions.paused
        at = {tp: o for tp, o in self._thread.positions().items() if tp in ours and tp.partition not in paused}
        before = positions.topic_id
        if await self._begin(ours, at) or positions.topic_id != before:
            self._resets += 1

    async def _commit_passed(self) -> None:
        ours = self._of_sink()
        passed = {
            tp: position
            for tp, position in self._thread.positions().items()
            if tp in ours and position > self._handed_over.get(tp, position)
        }
        if passed and self.app.batch_sink.is_idle():
            self._handed_over = self._handed_over | passed
            await self.commit_offsets(passed, self.app.positions.topic_id)

    async def _seek_back(self, dropped: Mapping[TP, Sequence[Any]]) -> None:
        try:
            await self.perform_seek()
        except Exception as error:  # the group is changing hands: the new assignment seeks for itself
            self.log.warning("seek to the committed offsets failed during a rebalance: %r", error)

    async def wait_empty(self) -> None:
        """Let the sink finish what it holds, then whatever ordinary agents hold."""
        await self.app.batch_sink.drain()
        await super().wait_empty()

    async def commit_offsets(self, offsets: Mapping[TP, int], topic_id: str) -> bool:
        """Commit the *next* offset to read of each partition; False when the group has moved on meanwhile.

        topic_id: incarnation of the topic that the offsets belong to; it goes into the commit.
        """
        thread = self._thread
        committed: bool = await thread.call_thread(thread.commit_with, offsets, offset_validation.metadata(topic_id))
        return committed

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock detector looks at acks, which batch topics do not use."""
        if tp.topic not in self.app.batch_sink.topics:
            super().verify_event_path(now, tp)


class RecordBatchProducer(driver.Producer):  # type: ignore[misc]
    """Faust's producer made idempotent, with a door to aiokafka's own batches."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    @property
    def client(self) -> AIOKafkaProducer:
        """The aiokafka producer underneath."""
        return self._ensure_producer()


class RecordBatchTransport(driver.Transport):  # type: ignore[misc]
    """The transport that `tamiz://host:port` names."""

    Consumer: ClassVar[type] = RecordBatchConsumer
    Producer: ClassVar[type] = RecordBatchProducer


def install(keep_bytes: Mapping[str, int]) -> None:
    """Make Faust know the scheme `tamiz://`, and consumers get past any record (`record_readers.install`)."""
    TRANSPORTS.aliases[SCHEME] = "stream_app.kafka.faust_transport:RecordBatchTransport"
    aiokafka_patch.install(keep_bytes)
