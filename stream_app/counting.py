"""Counting what was scored, minute by minute, and going on where another worker left off.

A partition's counting is a fold over its transactions (`monitoring.panes`). Its state travels on `drift-panes`, on the
partition of the same number, and is acknowledged before the offsets it covers are committed: the last cursor there is
never behind the committed offset. Whoever is given a partition reads that cursor first.
"""

import logging
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

log = logging.getLogger("tamiz.drift")
LOOKED_BACK = 200  # records from the end of a partition: its last cursor is the last of each batch


class Placed(Protocol):
    """A consumed record, as far as counting looks at it."""

    partition: int
    offset: int


Cursors = dict[int, dict[int, PaneSnapshot]]  # by input partition, by model version


class Counting:
    """The folds of the partitions that this worker reads, for the model that decides now."""

    def __init__(self, last_cursors: Callable[[set[int]], Awaitable[Cursors]], grace_ms: int):
        """last_cursors: of some partitions, of every model version that lately counted them."""
        self._last_cursors = last_cursors
        self._grace_ms = grace_ms
        self._epoch: tuple[int, int] | None = None  # `stream_app.output.Epoch`; all below is of it
        self._left: Cursors = {}  # where others left off
        self._versions: tuple[int, ...] = ()  # that counted here, the last two
        self._folds: dict[tuple[int, int], PartitionPanes] = {}  # by model version and partition

    async def take_over(self, partitions: set[int], epoch: tuple[int, int], model: ScoringModel) -> None:
        """Make sure that every partition is counted from where it was left.

        Topics are read for partitions that are new here, and not when another model takes over: nothing may wait then.
        What the one before counted is kept, for it may be called back within the minute.
        """
        if self._epoch != epoch:
            self._epoch, self._left, self._versions, self._folds = epoch, {}, (), {}
        if unknown := partitions - self._left.keys():
            self._left |= {p: {} for p in unknown} | await self._last_cursors(unknown)
        version = model.version
        if self._versions[-1:] != (version,):
            self._versions = (*self._versions[-1:], version)
            self._folds = {key: fold for key, fold in self._folds.items() if key[0] in self._versions}
        for partition in partitions:
            if (version, partition) not in self._folds:
                self._folds[version, partition] = self._taken_up(partition, model)

    def _taken_up(self, partition: int, model: ScoringModel) -> PartitionPanes:
        left = self._left[partition].get(model.version)
        if left is not None and (left.model, left.layout) == (model.manifest.model, model.bins.digest):
            try:
                return PartitionPanes.restore(model.bins, cursor_of(left), panes_of(left, model.bins), self._grace_ms)
            except ValueError as error:  # not of our making
                log.warning("partition %d is counted anew: %s", partition, error)
        return PartitionPanes(model.bins, partition, self._grace_ms)

    def count(self, records: Sequence[Placed], coded: Coded, model: ScoringModel, topic_id: str = "") -> list[Outgoing]:
        """Count a batch that is about to be committed; what must be published before.

        records: in the order of `coded`, each partition's in offset order; `take_over` was told of their partitions.
        """
        partitions = np.array([r.partition for r in records])
        offsets = np.array([r.offset for r in records])
        encode = msgspec.json.Encoder().encode
        outgoing = []
        for partition in np.unique(partitions).tolist():
            mine = np.flatnonzero(partitions == partition)
            fold = self._folds[model.version, partition]
            fold.observe(coded.codes[mine], coded.event_times_ms[mine], offsets[mine])
            outgoing += [
                Outgoing(partition, key, encode(record), [])
                for key, record in to_records(
                    fold.snapshot(),
                    model=model.manifest.model,
                    model_version=model.version,
                    layout=model.bins.digest,
                    topic_id=topic_id,
                )
            ]
        return outgoing


class CursorReader:
    """Reads the ends of `drift-panes`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic

    async def last_cursors(self, partitions: set[int]) -> Cursors:
        """The newest cursor of each of these input partitions, of every model version that lately counted it."""
        consumer = AIOKafkaConsumer(
            **arguments(self._bootstrap),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,  # all is there already
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )
        await consumer.start()
        try:
            places = [TopicPartition(self._topic, p) for p in sorted(partitions)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            begins = await consumer.beginning_offsets(places)
            for place in places:
                consumer.seek(place, max(begins[place], ends[place] - LOOKED_BACK))
            found: Cursors = {p: {} for p in partitions}
            while behind := [place for place in places if await consumer.position(place) < ends[place]]:
                for place, records in (await consumer.getmany(*behind, timeout_ms=1000)).items():
                    for record in records:
                        if (cursor := _cursor(record.value)) is not None:
                            found[place.partition][cursor.model_version] = cursor
            return found
        finally:
            await consumer.stop()


def _cursor(value: bytes | None) -> PaneSnapshot | None:
    try:
        record = decode(value, PaneSnapshot)
    except msgspec.MsgspecError:
        return None  # not ours
    return record if record.open else None
