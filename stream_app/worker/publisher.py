"""Publishes the output of a batch and commits its input offsets, with the configured processing guarantee.

`AtLeastOncePublisher` is in this module, `ExactlyOncePublisher` in `stream_app.worker.exactly_once`. The setting
`processing_guarantee` selects one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka import TopicPartition
from faust.types import TP

from stream_app.kafka.wire.idempotent_producer import IdempotentProducer
from stream_app.output.batch_writer import record_batches
from stream_app.output.outgoing_records import OutgoingRecords

# A commit and the cursors of drift counting cost as much as deciding a small batch. What is decided in this time may be
# decided again after a crash.
COMMIT_INTERVAL_S = 0.5
StepHook = Callable[[str], None]
Epoch = tuple[int, int]  # group generation, and number of position resets so far


def no_hook(step: str) -> None:
    """Do nothing at a step. Crash tests pass a hook of their own (`chaos/worker.py`)."""


class Group(Protocol):
    """The consumer group, as far as a publisher needs it."""

    def generation(self) -> int:
        """The current group generation."""

    def assigned(self) -> set[TP]:
        """The input partitions that are assigned to this worker."""

    async def commit(self, offsets: Mapping[TP, int], topic_id: str) -> bool:
        """Commit the next offset of each partition. False if the group has rebalanced. topic_id: of the input topic."""


class TopicBatch(NamedTuple):
    """Records for one topic, each for the partition number of its transaction."""

    topic: str
    records: OutgoingRecords
    is_first: bool = False  # visible before those after it, or together with them


class Publisher(Protocol):
    """Publishes a batch and commits its offsets."""

    overlaps: bool  # whether `write` may be called while earlier batches are being written
    commit_interval_s: float  # batches of this time may be committed together; 0: each batch has its own offsets

    async def acquire_partitions(self, partitions: set[TP], epoch: Epoch, topic_id: str) -> Mapping[TP, int]:
        """Become the only writer for these input partitions, from this epoch on.

        topic_id: Kafka's id of the input topic; offsets committed for another incarnation are ignored.
        Returns partition -> offset below which all records are decided already, for partitions that have one.
        """

    async def write(self, batches: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str) -> bool:
        """Publish, wait for all in-sync replicas, then commit the next offset of each input partition, if any.

        False if the group has rebalanced before the commit; the next owner then decides these records again.
        """

    async def close(self) -> None:
        """Close connections."""


class AtLeastOncePublisher:
    """Publishes, then commits. A crash between the two repeats batches, with the same decision ids."""

    overlaps = False
    commit_interval_s = COMMIT_INTERVAL_S

    def __init__(self, group: Group, connection: Mapping[str, Any], on_step: StepHook = no_hook) -> None:
        """connection: keyword arguments of every aiokafka client."""
        self._group = group
        self._connection = connection
        self._on_step = on_step
        self._producer: IdempotentProducer | None = None
        self._epoch: Epoch | None = None

    async def acquire_partitions(self, partitions: set[TP], epoch: Epoch, topic_id: str) -> Mapping[TP, int]:
        """Update the producer's metadata, since a partition may be new. Does not exclude other writers."""
        if epoch != self._epoch:
            if self._producer is None:
                self._producer = IdempotentProducer(self._connection, on_sent=lambda: self._on_step("part sent"))
                await self._producer.start()
            else:
                await self._producer.update_metadata()
            self._epoch = epoch
        return {}

    async def write(self, batches: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str) -> bool:
        """As `Publisher.write`."""
        await self._send([batch for batch in batches if batch.is_first])
        await self._send([batch for batch in batches if not batch.is_first])
        self._on_step("produced")
        return not offsets or await self._group.commit(offsets, topic_id)

    async def _send(self, batches: Sequence[TopicBatch]) -> None:
        outgoing = {
            TopicPartition(batch.topic, partition): list(record_batches(own))
            for batch in batches
            for partition, own in batch.records.by_partition.items()
        }
        if outgoing:
            assert self._producer is not None
            await self._producer.send(outgoing)

    async def close(self) -> None:
        """Close the connections."""
        if self._producer is not None:
            await self._producer.close()
