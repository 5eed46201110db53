"""Writes decided batches: publishes their output, and commits their offsets where a batch ends a commit.

The second step of the pipeline that begins in `stream_app.worker.worker_loop`. An offset is committed only after all
in-sync replicas have acknowledged the output up to it.

With at least once, a batch is produced after the previous one is acknowledged. With exactly once, several batches are
written at a time, each input partition's in order.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from faust.types import TP

from stream_app.decisions.handler import HandlerResult
from stream_app.output.outgoing_records import NO_RECORDS, OutgoingRecords
from stream_app.profiles.profile_state import ProfileState
from stream_app.worker.batch_metrics import observe_batch
from stream_app.worker.publisher import Group, Publisher, StepHook, TopicBatch, no_hook
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.worker")
NO_RESULT = HandlerResult(NO_RECORDS, NO_RECORDS, {}, [], {}, (), None)
MAX_UNWRITTEN_BATCHES = 3  # full batches whose output may be in memory, where several are written at a time


class HandledBatch(NamedTuple):
    """A batch that is decided and not yet written, with the commit that it ends; or a commit alone, without records."""

    generation: int  # consumer group generation at the fetch
    topic_id: str  # Kafka's id of the input topic
    records: Sequence[Any] = ()
    handled: HandlerResult = NO_RESULT
    tiles: OutgoingRecords = NO_RECORDS  # closed tiles of profiles
    stamps: OutgoingRecords = NO_RECORDS  # which rules the records meet
    seconds: float = 0.0  # time to clean, score and decide
    fetches: int = 0  # number of fetches that are done with the commit
    offsets: Mapping[TP, int] = MappingProxyType({})  # to commit; empty if the commit follows later
    panes: OutgoingRecords = NO_RECORDS  # count all that is committed


class WriteQueue:
    """Decided batches, in the order in which they are written."""

    def __init__(
        self,
        *,
        group: Group,
        publisher: Publisher,
        decisions_topic: str,
        dead_letters_topic: str,
        panes_topic: str,
        batch_max_records: int,
        metrics: WorkerMetrics,
        profiles: ProfileState | None = None,
        feature_log_topic: str = "",
        profile_tiles_topic: str = "",
        rule_activations_topic: str = "",
        on_step: StepHook = no_hook,
    ) -> None:
        """profiles, feature_log_topic, profile_tiles_topic: for a data set with profiles.

        rule_activations_topic: for batches with stamps.

        on_step: called at every step of a batch.
        """
        self._group = group
        self._publisher = publisher
        self._decisions_topic = decisions_topic
        self._dead_letters_topic = dead_letters_topic
        self._panes_topic = panes_topic
        self._max_unwritten = MAX_UNWRITTEN_BATCHES * batch_max_records
        self._metrics = metrics
        self._profiles = profiles
        self._feature_log_topic = feature_log_topic
        self._profile_tiles_topic = profile_tiles_topic
        self._rule_activations_topic = rule_activations_topic
        self._on_step = on_step
        self._queue: asyncio.Queue[HandledBatch] = asyncio.Queue(maxsize=1)
        self.lost_generation: int | None = None  # generation whose commit was rejected
        self.written: dict[int, int] = {}  # partition -> offset after the last record whose output is written

    async def put(self, batch: HandledBatch) -> None:
        """Queue a batch. Waits while another one is queued."""
        await self._queue.put(batch)

    async def join(self) -> None:
        """Wait until no batch is queued or being written."""
        await self._queue.join()

    async def run(self, tasks: asyncio.TaskGroup, done: Callable[[int], None]) -> None:
        """Write batches in order until cancelled.

        tasks: for those that are written at the same time. done: called with `HandledBatch.fetches` of each.
        """
        writing: dict[asyncio.Task[None], int] = {}  # number of records of each batch
        while True:
            batch = await self._queue.get()
            size = len(batch.records)
            writing = {task: n for task, n in writing.items() if not task.done()}
            while writing and sum(writing.values()) + size > self._max_unwritten:
                await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
                writing = {task: n for task, n in writing.items() if not task.done()}
            if self._publisher.overlaps:
                # They start in this order, and the publisher keeps it for each partition.
                writing[tasks.create_task(self._write_current(batch, done))] = size
            else:
                await self._write_current(batch, done)

    async def _write_current(self, batch: HandledBatch, done: Callable[[int], None]) -> None:
        """Write a batch, unless the group has rebalanced since its fetch."""
        if batch.generation == self.lost_generation or batch.generation != self._group.generation():
            log.info("rebalance before a batch was written; its %d records are decided again", len(batch.records))
        else:
            await self._write(batch)
        # Not after an error: the worker would seem to have nothing left to write, and offsets after the batch could be
        # committed before the process ends.
        self._queue.task_done()
        done(batch.fetches)

    async def _write(self, batch: HandledBatch) -> None:
        started = time.monotonic()
        batches = [
            TopicBatch(self._decisions_topic, batch.handled.decisions),
            TopicBatch(self._dead_letters_topic, batch.handled.dead_letters),
        ]
        if batch.stamps:
            batches.insert(0, TopicBatch(self._rule_activations_topic, batch.stamps, is_first=True))
        if self._profiles is not None:
            batches.append(TopicBatch(self._feature_log_topic, batch.handled.features))
            if batch.tiles:
                batches.append(TopicBatch(self._profile_tiles_topic, batch.tiles))
        # Panes last, so that their cursor is the last record of the batch.
        batches.append(TopicBatch(self._panes_topic, batch.panes))
        if not await self._publisher.write(batches, batch.offsets, batch.topic_id):
            # A worker whose process was paused detects here that it has lost its partitions.
            self.lost_generation = batch.generation
            log.info("rebalance before a commit; %d records may be decided again by another worker", len(batch.records))
        else:
            offsets = {tp.partition: offset for tp, offset in batch.offsets.items()}
            self.written = self.written | offsets  # not in place: the watchdog reads it in its thread
            if self._profiles is not None:
                self._profiles.published(batch.handled.closed)
                self._profiles.committed(offsets)
        if batch.offsets:
            self._on_step("committed")
        if batch.records:
            observe_batch(self._metrics, batch.records, batch.handled, batch.seconds, time.monotonic() - started)
