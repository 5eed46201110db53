"""Exactly-once publishing: the output of a batch and its input offsets in one Kafka transaction per input partition.

The contract:

* For readers with `read_committed`, the decisions, dead letters, panes and the offset of an input partition become
  visible together or not at all. A crash leaves an open Kafka transaction; the next owner aborts it.
* Each input partition has its own transactional id (`GROUP.TOPIC.PARTITION`). `acquire_partitions` initialises it,
  which aborts the previous owner's open transaction and fences that owner: a zombie (a worker that resumes after its
  partition was reassigned) cannot commit any more. Its next write raises `FencedError`, and the worker ends.
* Committed offsets are read only after that, since the previous owner may have committed after this worker began to
  fetch. `acquire_partitions` returns them; records below are not decided again.
* After any failure inside a transaction, nothing more may be committed for that partition, or the failed batch would
  be lost. So every error is raised, and the worker ends (`stream_app.worker.worker_loop`). A restart aborts and
  repeats.

Why one id per partition: aiokafka 0.14 sends offsets to a transaction without the group's generation (TxnOffsetCommit
v0), so the group coordinator cannot detect a zombie. Faust's own `exactly_once` is not used, because it sends to
output-only topics outside its transactions.
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

TRANSACTION_TIMEOUT_MS = 60_000  # the broker then aborts the transaction of an owner that hangs


class FencedError(Exception):
    """Another worker owns the partition now. Nothing of this batch is visible to `read_committed` readers."""


class ExactlyOncePublisher:
    """A `Publisher` that writes each input partition of a batch in its own Kafka transaction."""

    def __init__(
        self, group: str, connection: Mapping[str, Any], batching: Mapping[str, Any], on_step: StepHook = no_hook
    ) -> None:
        """connection: keyword arguments of every aiokafka client. batching: further ones for producers."""
        self._group = group
        self._connection = dict(connection)
        self._batching = dict(batching)
        self._on_step = on_step
        self._epoch: Epoch | None = None
        self._producers: dict[TP, AIOKafkaProducer] = {}

    async def acquire_partitions(self, partitions: set[TP], epoch: Epoch, topic_id: str = "") -> Mapping[TP, int]:
        """As `Publisher.acquire_partitions`. Partitions already acquired in this epoch are not in the result."""
        if epoch != self._epoch:
            await self.close()
            self._epoch = epoch
        new = sorted(partitions - self._producers.keys())
        if not new:
            return {}
        producers = await asyncio.gather(*(self._fencing_producer(partition) for partition in new))
        self._producers.update(zip(new, producers, strict=True))
        return await self._committed(new, topic_id)

    async def write(self, batches: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str = "") -> bool:
        """As `Publisher.write`. Raises FencedError when another worker owns one of the partitions."""
        outcomes = await asyncio.gather(
            *(self._transact(partition, batches, offset, topic_id) for partition, offset in offsets.items()),
            return_exceptions=True,  # wait for all of them; none may continue in the background
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return True

    async def close(self) -> None:
        """Close every producer. The next owner of a partition aborts its open transaction."""
        producers, self._producers = self._producers, {}
        for producer in producers.values():
            with contextlib.suppress(KafkaError):  # raised by a fenced producer
                await _stop(producer)

    async def _transact(self, partition: TP, batches: Sequence[TopicBatch], offset: int, topic_id: str) -> None:
        producer = self._producers[partition]
        try:
            await producer.begin_transaction()
            pending = []
            for topic, records in batches:
                own = [record for record in records if record.partition == partition.partition]
                if own:
                    pending += await send(producer, topic, own)
                self._on_step("part sent")
            # Both belong to one transaction, so they can run concurrently.
            next_offset = OffsetAndMetadata(offset, offset_validation.commit_metadata(topic_id))
            offsets = producer.send_offsets_to_transaction({TopicPartition(*partition): next_offset}, self._group)
            await asyncio.gather(offsets, *pending)
            self._on_step("produced")
            await producer.commit_transaction()
        except (ProducerFenced, InvalidProducerEpoch):
            raise FencedError(f"another worker owns {partition.topic}-{partition.partition} now") from None

    async def _fencing_producer(self, partition: TP) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            transactional_id=f"{self._group}.{partition.topic}.{partition.partition}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **self._connection,
            **self._batching,
        )
        try:
            await (
                producer.start()
            )  # initialises the transactional id: fences the previous owner and aborts its transaction
        except BaseException:
            await _stop(producer)
            raise
        return producer

    async def _committed(self, partitions: Sequence[TP], topic_id: str) -> dict[TP, int]:
        consumer = AIOKafkaConsumer(group_id=self._group, enable_auto_commit=False, **self._connection)
        try:
            await consumer.start()
            # The public `committed` does not return the metadata.
            found = await consumer._coordinator.fetch_committed_offsets([TopicPartition(*p) for p in partitions])
        finally:
            await consumer.stop()
        return {
            TP(*partition): at.offset
            for partition, at in found.items()
            if at.offset >= 0
            and offset_validation.is_same_topic(offset_validation.read_metadata(at.metadata) or "", topic_id)
        }


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer and close its connections.

    `AIOKafkaProducer.stop` leaves them open if its sender failed, which is the case for a fenced producer.
    """
    try:
        await producer.stop()
    finally:
        await producer.client.close()
