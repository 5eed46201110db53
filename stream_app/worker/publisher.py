"""Where what was decided goes, and the input's offsets with it: what a batch costs when a worker dies in its middle.

`AtLeastOnce` stands here, `ExactlyOnce` in `stream_app.worker.exactly_once`; the setting `processing_guarantee`
chooses.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
from faust.types import TP

from stream_app.decisions.handler import OutgoingRecord

StepHook = Callable[[str], None]
Epoch = tuple[int, int]  # group generation, and how often positions were changed under the reader before


def no_hook(step: str) -> None:
    """Nobody stands at the steps; a crash test does (chaos/worker.py)."""


class Group(Protocol):
    """The consumer group's side of things, as the app's consumer shows it."""

    def generation(self) -> int:
        """The group generation now."""

    async def commit(self, offsets: Mapping[TP, int], topic_id: str) -> bool:
        """Commit the next offset of each partition, of this incarnation; False when the group has moved on."""


class TopicBatch(NamedTuple):
    """What goes to one topic, each record to the partition of its transaction."""

    topic: str
    records: Sequence[OutgoingRecord]


class Publisher(Protocol):
    """Publishes a batch and commits its offsets."""

    async def acquire_partitions(self, partitions: set[TP], epoch: Epoch, topic_id: str) -> Mapping[TP, int]:
        """Be the only one who writes for these input partitions, from this epoch on.

        topic_id: incarnation of the input topic; what was committed for another says nothing.
        Returns, of each partition that has one, the offset below which everything is decided already.
        """

    async def write(self, written: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str) -> bool:
        """Publish, wait until all in-sync replicas have it, then commit the next offset of each input partition.

        False when the group has moved on before the commit: the next owner decides these again.
        """

    async def close(self) -> None:
        """Let go of connections."""


class AtLeastOncePublisher:
    """Publish, then commit: a crash between the two repeats a batch, under the same decision ids."""

    def __init__(self, group: Group, producer: Callable[[], AIOKafkaProducer], at: StepHook = no_hook) -> None:
        self._group = group
        self._producer = producer
        self._at = at
        self._epoch: Epoch | None = None

    async def acquire_partitions(self, partitions: set[TP], epoch: Epoch, topic_id: str) -> Mapping[TP, int]:
        """Another may still write, too. A partition may be newer than what the producer knows of its topics."""
        if epoch != self._epoch:
            await self._producer().client.force_metadata_update()
            self._epoch = epoch
        return {}

    async def write(self, written: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str) -> bool:
        """As `Output.write`."""
        producer = self._producer()
        pending = []
        for topic, records in written:
            pending += await send(producer, topic, records)
            self._at("part sent")
        await asyncio.gather(*pending)
        self._at("produced")
        return await self._group.commit(offsets, topic_id)

    async def close(self) -> None:
        """The producer is Faust's to close."""


async def send(producer: AIOKafkaProducer, topic: str, records: Sequence[OutgoingRecord]) -> list[Any]:
    """Hand records to a producer in whole batches, a partition's in order; the futures of their acknowledgements."""
    by_partition: dict[int, list[OutgoingRecord]] = {}
    for record in records:
        by_partition.setdefault(record.partition, []).append(record)
    futures = []
    for partition, rows in by_partition.items():
        builder = producer.create_batch()
        for row in rows:
            if builder.append(key=row.key, value=row.value, timestamp=None, headers=row.headers) is None:
                futures.append(await producer.send_batch(builder, topic, partition=partition))
                builder = producer.create_batch()
                if builder.append(key=row.key, value=row.value, timestamp=None, headers=row.headers) is None:
                    raise RuntimeError(f"a record of {topic}-{partition} does not fit into an empty batch")
        futures.append(await producer.send_batch(builder, topic, partition=partition))
    return futures
