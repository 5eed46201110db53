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

* The transactions of one input partition follow each other in the order of its batches. Partitions do not wait for
  each other: what is decided of a partition while its transaction is in flight becomes its next one.

Why one id per partition: the next owner of a partition aborts the open transaction of a dead worker at once. With one
transaction per worker it would have to wait until that one times out, and only the group's generation would fence a
zombie. Faust's own `exactly_once` is not used, because it sends to output-only topics outside its transactions.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from stream_app.kafka.transactional_producer import TransactionalProducer
from stream_app.offsets import offset_validation
from stream_app.output.batch_writer import record_batches
from stream_app.output.outgoing_records import OutgoingRecords
from stream_app.worker.publisher import Epoch, StepHook, TopicBatch, no_hook

TRANSACTION_TIMEOUT_MS = 60_000  # the broker then aborts the transaction of an owner that hangs
# A transaction costs worker and broker some milliseconds of CPU time together, however few records it has. With 400 a
# second, a broker on one core is overloaded. Under steady traffic, fewer and larger ones lower the latency, too.
MIN_TRANSACTION_INTERVAL_S = 0.01  # between the starts of two transactions of a worker


class FencedError(Exception):
    """Another worker owns the partition now. Nothing of this batch is visible to `read_committed` readers."""


class ExactlyOncePublisher:
    """A `Publisher` that writes each input partition of a batch in its own Kafka transaction."""

    overlaps = True
    commit_interval_s = 0.0  # a Kafka transaction contains the offsets of its input

    def __init__(
        self, group: str, connection: Mapping[str, Any], batching: Mapping[str, Any], on_step: StepHook = no_hook
    ) -> None:
        """connection: keyword arguments of every aiokafka client. batching: further ones of `TransactionalProducer`."""
        self._group = group
        self._connection = dict(connection)
        self._batching = dict(batching)
        self._on_step = on_step
        self._epoch: Epoch | None = None
        self._writers: dict[TP, _PartitionWriter] = {}
        self._pace = _Pace()

    async def acquire_partitions(self, partitions: set[TP], epoch: Epoch, topic_id: str = "") -> Mapping[TP, int]:
        """As `Publisher.acquire_partitions`. Partitions already acquired in this epoch are not in the result."""
        if epoch != self._epoch:
            await self.close()
            self._epoch = epoch
        new = sorted(partitions - self._writers.keys())
        if not new:
            return {}
        producers = await asyncio.gather(*(self._fencing_producer(partition) for partition in new))
        for partition, producer in zip(new, producers, strict=True):
            self._writers[partition] = _PartitionWriter(partition, producer, self._pace, self._on_step)
        return await self._committed(new, topic_id)

    async def write(self, batches: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str = "") -> bool:
        """As `Publisher.write`. Raises FencedError when another worker owns one of the partitions."""
        metadata = offset_validation.commit_metadata(topic_id)
        pending = []
        for partition, offset in offsets.items():
            own = [
                (topic, records.by_partition[partition.partition])
                for topic, records, _ in batches
                if partition.partition in records.by_partition
            ]
            pending.append(self._writers[partition].write(own, OffsetAndMetadata(offset, metadata)))
        # Wait for all of them; none may continue in the background.
        for outcome in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return True

    async def close(self) -> None:
        """Close every producer. The next owner of a partition aborts its open transaction."""
        writers, self._writers = self._writers, {}
        await asyncio.gather(*(writer.close() for writer in writers.values()))

    async def _fencing_producer(self, partition: TP) -> TransactionalProducer:
        producer = TransactionalProducer(
            f"{self._group}.{partition.topic}.{partition.partition}",
            self._group,
            self._connection,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **self._batching,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.close()
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


class _Pace:
    """Starts of transactions of a worker, at least `MIN_TRANSACTION_INTERVAL_S` apart, in the order of their calls."""

    _next_s = 0.0  # clock of the event loop

    async def wait(self) -> None:
        """Wait until a transaction may start."""
        now_s = asyncio.get_running_loop().time()
        start_s = max(now_s, self._next_s)
        self._next_s = start_s + MIN_TRANSACTION_INTERVAL_S
        if start_s > now_s:
            await asyncio.sleep(start_s - now_s)


class _PartitionWriter:
    """Writes one input partition, one transaction after the other. What arrives during one belongs to the next."""

    def __init__(self, partition: TP, producer: TransactionalProducer, pace: _Pace, on_step: StepHook) -> None:
        self._partition = partition
        self._producer = producer
        self._pace = pace
        self._on_step = on_step
        self._waiting: list[tuple[str, OutgoingRecords]] = []
        self._offset = OffsetAndMetadata(0, "")
        self._next: asyncio.Future[None] | None = None  # of the transaction that will write what is waiting
        self._writing: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None

    def write(self, records: Sequence[tuple[str, OutgoingRecords]], offset: OffsetAndMetadata) -> asyncio.Future[None]:
        """Write records by topic, and commit an offset with them. Returns a future of the commit."""
        self._waiting += records
        self._offset = offset
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write_all())
        return self._next

    async def close(self) -> None:
        """Close the connections."""
        if self._writing is not None:
            self._writing.cancel()
        if self._next is not None:
            self._next.cancel()
        await self._producer.close()

    async def _write_all(self) -> None:
        while self._next is not None:
            await self._pace.wait()  # what arrives meanwhile belongs to this one
            done, self._next = self._next, None
            records, self._waiting = self._waiting, []
            try:
                if self._failed is not None:  # nothing more may be committed
                    raise self._failed
                await self._transact(records, self._offset)
            except (ProducerFenced, InvalidProducerEpoch):
                tp = self._partition
                self._failed = FencedError(f"another worker owns {tp.topic}-{tp.partition} now")
            except BaseException as error:
                self._failed = error
            if not done.done():
                done.set_exception(self._failed) if self._failed is not None else done.set_result(None)

    async def _transact(self, records: Sequence[tuple[str, OutgoingRecords]], offset: OffsetAndMetadata) -> None:
        producer, number = self._producer, self._partition.partition
        by_topic: dict[str, list[OutgoingRecords]] = {}
        for topic, part in records:
            by_topic.setdefault(topic, []).append(part)
        beginning = asyncio.create_task(producer.begin(TopicPartition(topic, number) for topic in by_topic))
        await asyncio.sleep(0)  # the requests are on their way while the batches are encoded
        batches = {
            TopicPartition(topic, number): list(record_batches(OutgoingRecords.concatenate(parts), transactional=True))
            for topic, parts in by_topic.items()
        }
        await beginning
        await producer.send(batches)
        self._on_step("part sent")
        await producer.send_offsets({TopicPartition(*self._partition): offset})
        self._on_step("produced")
        await producer.commit()
