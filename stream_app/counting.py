"""Counting what was scored, minute by minute, and going on where another worker left off.

A partition's counting is a fold over its transactions (`monitoring.panes`). Its state travels on `drift-panes`, on the
partition of the same number, and is acknowledged before the offsets it covers are committed: the last cursor there is
never behind the committed offset. Whoever is given a partition reads that cursor first.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from monitoring.model import ScoringModel
from monitoring.pane_codec import cursor_of, panes_of, to_records
from monitoring.panes import PartitionPanes
from schemas.events import PaneSnapshot
from schemas.wire import decode
from stream_app.clients import arguments
from stream_app.handling import Coded, Outgoing

LOOKED_BACK = 200  # records from the end of a partition: its last cursor is the last of each batch


class Placed(Protocol):
    """A consumed record, as far as counting looks at it."""

    partition: int
    offset: int


class Counting:
    """The folds of the partitions that this worker reads, for the model that decides now."""

    def __init__(self, last_cursor: Callable[[int, ScoringModel], Awaitable[PaneSnapshot | None]], grace_ms: int):
        """last_cursor: of a partition, as that model counted it; None where it never did."""
        self._last_cursor = last_cursor
        self._grace_ms = grace_ms
        self._folds: dict[int, PartitionPanes] = {}
        self._known: tuple[int, int] | None = None  # group generation and model version the folds are of

    async def take_over(self, partitions: set[int], generation: int, model: ScoringModel) -> None:
        """Make sure that every partition is counted from where it was left."""
        if self._known != (generation, model.version):
            self._folds = {}
            self._known = generation, model.version
        for partition in sorted(partitions - self._folds.keys()):
            found = await self._last_cursor(partition, model)
            if found is None:
                self._folds[partition] = PartitionPanes(model.bins, partition, self._grace_ms)
            else:
                panes = panes_of(found, model.bins)
                self._folds[partition] = PartitionPanes.restore(model.bins, cursor_of(found), panes, self._grace_ms)

    def count(self, records: Sequence[Placed], coded: Coded, model: ScoringModel) -> list[Outgoing]:
        """Count a batch that is about to be committed; what must be published before.

        records: in the order of `coded`, each partition's in offset order; `take_over` was told of their partitions.
        """
        partitions = np.array([r.partition for r in records])
        offsets = np.array([r.offset for r in records])
        encode = msgspec.json.Encoder().encode
        outgoing = []
        for partition in np.unique(partitions).tolist():
            mine = np.flatnonzero(partitions == partition)
            fold = self._folds[partition]
            fold.observe(coded.codes[mine], coded.event_times_ms[mine], offsets[mine])
            outgoing += [
                Outgoing(partition, key, encode(record), [])
                for key, record in to_records(
                    fold.snapshot(), model=model.manifest.model, model_version=model.version, layout=model.bins.digest
                )
            ]
        return outgoing


class CursorReader:
    """Reads the ends of `drift-panes`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic

    async def last_cursor(self, partition: int, model: ScoringModel) -> PaneSnapshot | None:
        """The newest cursor of an input partition, as that model version counted it."""
        where = TopicPartition(self._topic, partition)
        consumer = AIOKafkaConsumer(
            **arguments(self._bootstrap),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )
        await consumer.start()
        try:
            consumer.assign([where])
            end = (await consumer.end_offsets([where]))[where]
            begin = (await consumer.beginning_offsets([where]))[where]
            consumer.seek(where, max(begin, end - LOOKED_BACK))
            found = None
            while await consumer.position(where) < end:
                for records in (await consumer.getmany(where, timeout_ms=1000)).values():
                    for record in records:
                        found = _cursor(record.value, model) or found
            return found
        finally:
            await consumer.stop()


def _cursor(value: bytes | None, model: ScoringModel) -> PaneSnapshot | None:
    try:
        record = decode(value, PaneSnapshot)
    except msgspec.MsgspecError:
        return None  # not ours
    ours = record.open and record.layout == model.bins.digest and record.model_version == model.version
    return record if ours else None
