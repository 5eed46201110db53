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
* What a fetch brings while the group changes hands is dropped, and the partitions are sought back to their committed
  offsets, as Faust does it; to their beginning where nothing was ever committed, which Faust does not do.
* Records of aborted transactions are never seen.
* Whatever record the broker accepts is handed over (`stream_app.record_readers`).
* On revocation and on stop Faust calls `wait_empty`; it gives the sink time to finish what it holds.

Faust 0.15.3 and aiokafka 0.14.0 internals this rests on (each has a test in tests/test_faust_contract.py):
`App._consumer`, `Consumer._drain_messages`, `_wait_next_records`, `perform_seek`, `_read_offset`, `flow_active`,
`suspend_flow`, `wait_empty`, `_thread.commit`, `_thread.seek_to_beginning`, `_new_consumer_thread`,
`AIOKafkaConsumer._isolation_level`, `App.consumer_generation_id`, `Conductor.add`, `Producer._settings_extra`,
`AIOKafkaProducer.send_batch`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream_app import record_readers

SCHEME = "tamiz"


class Fetched(NamedTuple):
    """What one fetch brought: records of several partitions, each list in offset order."""

    generation: int
    records: Mapping[TP, Sequence[Any]]  # aiokafka's ConsumerRecord


class BatchSink(Protocol):
    """Who takes record batches. An app has one, as `app.batch_sink`."""

    topics: frozenset[str]

    async def put(self, fetched: Fetched) -> None:
        """Take a fetch; wait while full."""

    async def drain(self) -> None:
        """Return when nothing is held any more, or when the time for it is over."""


class CommittedReader(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, reading only what is committed.

    Producers may send in transactions (`tamiz redrive` does), and what was aborted must not be decided. Faust reads so
    only under its own `exactly_once`, which is not to be built on.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # aiokafka reads it when the consumer starts
        return consumer


class RecordBatchConsumer(driver.Consumer):  # type: ignore[misc]  # Faust has no types
    """Hands whole fetches to the app's sink."""

    def _new_consumer_thread(self) -> CommittedReader:
        return CommittedReader(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        sink: BatchSink = self.app.batch_sink
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                generation = self.app.consumer_generation_id
                records, _ = await self._wait_next_records(timeout=1.0)
                await asyncio.sleep(0)  # a fetch that answers at once must not starve the loop
                if not records:
                    continue
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    await self._seek_back(records)
                    continue
                batches = {tp: rows for tp, rows in records.items() if tp.topic in sink.topics}
                if batches:
                    await self.wait_first(sink.put(Fetched(generation, batches)), self.suspend_flow.wait())
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

    async def _seek_back(self, dropped: Mapping[TP, Sequence[Any]]) -> None:
        try:
            await self.perform_seek()
            # That passes over partitions of which nothing was ever committed: their first records would be lost.
            ours = self.assignment()
            if never := [tp for tp in dropped if tp in ours and not self._read_offset.get(tp)]:
                await self._thread.seek_to_beginning(*never)
        except Exception as error:  # the group is changing hands: the new assignment seeks for itself
            self.log.warning("seek to the committed offsets failed during a rebalance: %r", error)

    async def wait_empty(self) -> None:
        """Let the sink finish what it holds, then whatever ordinary agents hold."""
        await self.app.batch_sink.drain()
        await super().wait_empty()

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the *next* offset to read of each partition; False when the group has moved on meanwhile."""
        committed: bool = await self._thread.commit(offsets)
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


def install(max_payload_bytes: int) -> None:
    """Make Faust know the scheme `tamiz://`, and consumers get past any record; payloads up to that size stay whole."""
    TRANSPORTS.aliases[SCHEME] = "stream_app.transport:RecordBatchTransport"
    record_readers.install(max_payload_bytes)
