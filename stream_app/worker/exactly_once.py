"""Exactly once: what a record batch brings forth and its input offsets, in one Kafka transaction a partition.

The contract:

* Decisions, dead letters, panes and the offset of an input partition become visible together to whoever reads
  `read_committed`, or not at all. A crash at any step leaves an open transaction behind; the next owner aborts it.
* An input partition has a transactional id of its own (`GROUP.TOPIC.PARTITION`). `take_over` initialises it, which
  ends what the owner before had open and fences that owner off: a zombie, woken after its partition went to another,
  cannot commit anything any more. Its next write raises `Fenced`, and the worker ends.
* Only then are committed offsets asked for: the owner before may have committed after this worker began to fetch.
  `take_over` returns them, and what lies below is not decided again.
* After any failure inside a transaction nothing further may be committed for that partition, or the failed batch
  would be lost: every error is raised, and the worker ends (`stream_app.worker.worker_loop`). Its restart aborts and
  repeats.

Why an id a partition: aiokafka 0.14 sends offsets to a transaction without the group's generation (TxnOffsetCommit
v0), so that a group coordinator cannot tell a zombie. Faust's own `exactly_once` is not used: sends to topics that it
only writes to go outside of its transactions.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from stream_app.offsets import offset_validation
from stream_app.worker.publisher import Epoch, StepHook, TopicBatch, no_hook, send

TRANSACTION_TIMEOUT_MS = 60_000  # an owner that hangs for longer is aborted by the broker


class FencedError(Exception):
    """Another worker has taken over the partition; nothing of this batch is visible."""


class ExactlyOncePublisher:
    """An `Output` whose every write is a transaction for each input partition in it."""

    def __init__(
        self, group: str, connection: Mapping[str, Any], batching: Mapping[str, Any], at: StepHook = no_hook
    ) -> None:
        """connection: aiokafka's keyword arguments, of any client. batching: more of them, of producers."""
        self._group = group
        self._connection = dict(connection)
        self._batching = dict(batching)
        self._at = at
        self._epoch: Epoch | None = None
        self._producers: dict[TP, AIOKafkaProducer] = {}

    async def acquire_partitions(self, partitions: set[TP], epoch: Epoch, topic_id: str = "") -> Mapping[TP, int]:
        """As `Output.take_over`. Partitions that were taken over in this epoch already are not in the answer."""
        if epoch != self._epoch:
            await self.close()
            self._epoch = epoch
        new = sorted(partitions - self._producers.keys())
        if not new:
            return {}
        made = await asyncio.gather(*(self._sole_producer(partition) for partition in new))
        self._producers.update(zip(new, made, strict=True))
        return await self._committed(new, topic_id)

    async def write(self, written: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str = "") -> bool:
        """As `Output.write`. Raises Fenced when another has taken over one of the partitions."""
        outcomes = await asyncio.gather(
            *(self._transact(partition, written, offset, topic_id) for partition, offset in offsets.items()),
            return_exceptions=True,  # none may be left half-done behind our back
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return True

    async def close(self) -> None:
        """Let go of every producer; what one has open is aborted by whoever takes over."""
        producers, self._producers = self._producers, {}
        for producer in producers.values():
            with contextlib.suppress(KafkaError):  # it was fenced: that is why it goes
                await _stop(producer)

    async def _transact(self, partition: TP, written: Sequence[TopicBatch], offset: int, topic_id: str) -> None:
        producer = self._producers[partition]
        try:
            await producer.begin_transaction()
            pending = []
            for topic, records in written:
                mine = [record for record in records if record.partition == partition.partition]
                if mine:
                    pending += await send(producer, topic, mine)
                self._at("part sent")
            # Both belong to one transaction: neither needs to wait for the other.
            next_offset = OffsetAndMetadata(offset, offset_validation.metadata(topic_id))
            offsets = producer.send_offsets_to_transaction({TopicPartition(*partition): next_offset}, self._group)
            await asyncio.gather(offsets, *pending)
            self._at("produced")
            await producer.commit_transaction()
        except (ProducerFenced, InvalidProducerEpoch):
            raise FencedError(f"another worker has taken over {partition.topic}-{partition.partition}") from None

    async def _sole_producer(self, partition: TP) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            transactional_id=f"{self._group}.{partition.topic}.{partition.partition}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **self._connection,
            **self._batching,
        )
        try:
            await producer.start()  # initialises the transactional id: fences, and ends what was open
        except BaseException:
            await _stop(producer)
            raise
        return producer

    async def _committed(self, partitions: Sequence[TP], topic_id: str) -> dict[TP, int]:
        consumer = AIOKafkaConsumer(group_id=self._group, enable_auto_commit=False, **self._connection)
        try:
            await consumer.start()
            # `committed` keeps the metadata to itself.
            found = await consumer._coordinator.fetch_committed_offsets([TopicPartition(*p) for p in partitions])
        finally:
            await consumer.stop()
        return {
            TP(*partition): at.offset
            for partition, at in found.items()
            if at.offset >= 0
            and offset_validation.same_topic(offset_validation.read_metadata(at.metadata) or "", topic_id)
        }


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer and close its connections.

    `AIOKafkaProducer.stop` leaves them open where its sender ends with an error, as that of a fenced producer does.
    """
    try:
        await producer.stop()
    finally:
        await producer.client.close()
