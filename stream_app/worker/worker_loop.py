"""The worker's loop: fetches records, decides them, publishes decisions and dead letters, and commits offsets.

A pipeline of two steps, in order: a batch is decided while earlier ones are written. A batch is committed only after
all in-sync replicas have acknowledged its output. With at least once, it is produced only after the previous batch is
committed, so a crash at any step repeats at most one batch and loses none. With exactly once, several batches are
written at a time, each input partition's in order. An unexpected error ends the process at once: a restart from the
last commit is safe, continuing is not.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, NoReturn

from faust.types import TP

from monitoring.counting.monitored_model import MonitoredModel
from schemas.record_parts import last_offset
from stream_app.decisions.batch_records import OutgoingRecord
from stream_app.decisions.handler import HandlerPolicy, HandlerResult, HandlerState, handle_with_isolation
from stream_app.decisions.id_conflicts import RecentIds
from stream_app.kafka.faust_transport import Fetch
from stream_app.profiles.profile_state import ProfileState
from stream_app.worker.batch_metrics import observe_batch
from stream_app.worker.drift_counter import DriftCounter
from stream_app.worker.publisher import Group, Publisher, StepHook, TopicBatch, no_hook
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.worker")
# Handing a batch to another thread costs as much as scoring some dozens of transactions. A larger batch would delay
# heartbeats and health checks, which share the event loop.
MAX_INLINE_RECORDS = 200
MAX_UNWRITTEN_BATCHES = 3  # full batches whose output may be in memory, where several are written at a time


class HandledBatch(NamedTuple):
    """A batch that is decided and not yet written."""

    generation: int  # consumer group generation at the fetch
    topic_id: str  # Kafka's id of the input topic
    fetches: int  # number of fetches in the batch
    records: Sequence[Any]
    offsets: dict[TP, int]  # to commit
    handled: HandlerResult
    tiles: list[OutgoingRecord]  # closed tiles of profiles
    panes: list[OutgoingRecord]
    seconds: float  # time to clean, score and decide


def exit_at_once(error: BaseException) -> NoReturn:
    """End the process without another commit. A supervisor restarts it from the last commit."""
    log.critical("worker exits: %r; uncommitted transactions are decided again after a restart", error, exc_info=error)
    logging.shutdown()
    os._exit(70)  # EX_SOFTWARE


class ScoringThread(ThreadPoolExecutor):
    """One thread, so that calls run in order. While it is idle, a call may run in the event loop's thread instead."""

    _last: Future[Any] | None = None

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="tamiz-scoring")

    def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """As `ThreadPoolExecutor.submit`. Must be called in the event loop's thread."""
        self._last = super().submit(call, *args, **options)
        return self._last

    @property
    def is_idle(self) -> bool:
        """Whether every call has ended."""
        return self._last is None or self._last.done()


class WorkerLoop:
    """Takes fetches (as a `BatchSink`), decides them, publishes the output and commits."""

    _taken = 0  # fetches in progress
    _finished = 0  # fetches done

    def __init__(
        self,
        *,
        policy: HandlerPolicy,
        counter: DriftCounter,
        model: Callable[[], MonitoredModel],
        group: Group,
        publisher: Publisher,
        transactions_topic: str,
        decisions_topic: str,
        dead_letters_topic: str,
        panes_topic: str,
        batch_max_records: int,
        drain_timeout_s: float,
        metrics: WorkerMetrics,
        profiles: ProfileState | None = None,
        feature_log_topic: str = "",
        profile_tiles_topic: str = "",
        on_step: StepHook = no_hook,
        exit_: Callable[[BaseException], None] = exit_at_once,
    ) -> None:
        """profiles, feature_log_topic, profile_tiles_topic: for a data set with profiles.

        on_step: called at every step of a batch; crash tests stop the worker there. exit_: ends the process.
        """
        self.topics = frozenset({transactions_topic})
        self._policy = policy
        self._counter = counter
        self._model = model
        self._group = group
        self._publisher = publisher
        self._decisions_topic = decisions_topic
        self._dead_letters_topic = dead_letters_topic
        self._panes_topic = panes_topic
        self._batch_max_records = batch_max_records
        self._drain_timeout_s = drain_timeout_s
        self._metrics = metrics
        self._profiles = profiles
        self._feature_log_topic = feature_log_topic
        self._profile_tiles_topic = profile_tiles_topic
        self._on_step = on_step
        self._exit = exit_
        self._lost_generation: int | None = None  # generation whose commit was rejected
        self._decided_until: dict[TP, int] = {}  # offsets below were committed by the previous owner
        self._epoch: tuple[int, int] | None = None  # group generation and resets of the last decided batch
        self._queue: asyncio.Queue[Fetch] = asyncio.Queue(maxsize=2)
        self._decided: asyncio.Queue[HandledBatch] = asyncio.Queue(maxsize=1)
        self._state = HandlerState(RecentIds(), None if profiles is None else profiles.fold)
        self._executor = ScoringThread()
        self.written: dict[int, int] = {}  # partition -> offset after the last record whose output is written
        self.failed: BaseException | None = None

    def offer(self, fetch: Fetch) -> bool:
        """Queue a fetch, unless two others are queued."""
        if self._queue.full():
            return False
        self._queue.put_nowait(fetch)
        self._taken += 1
        return True

    async def put(self, fetch: Fetch) -> None:
        """Queue a fetch. Waits while two others are queued."""
        await self._queue.put(fetch)
        self._taken += 1

    async def drain(self) -> bool:
        """Wait until all queued fetches are decided and committed. False after `drain_timeout_s`."""
        try:
            await asyncio.wait_for(self._queue.join(), self._drain_timeout_s)
        except TimeoutError:
            log.warning(
                "drain_timeout_seconds (%s) is over; the remaining transactions are decided again",
                self._drain_timeout_s,
            )
            return False
        return True

    async def prepare(self, starts: Mapping[TP, int], topic_id: str) -> set[TP]:
        """As `BatchSink.prepare`: the partitions whose profiles must be restored first."""
        if self._profiles is None:
            return set()
        offsets = {tp.partition: offset for tp, offset in starts.items()}
        restoring = await self._in_scoring_thread(self._profiles.assign, offsets, topic_id)
        return {tp for tp in starts if tp.partition in restoring}

    async def prepared(self) -> set[int]:
        """As `BatchSink.prepared`."""
        if self._profiles is None or not self._profiles.has_restored:
            return set()
        taken: set[int] = await self._in_scoring_thread(self._profiles.take_restored)
        return taken

    async def retain(self, partitions: set[TP]) -> None:
        """As `BatchSink.retain`."""
        if self._profiles is not None:
            await self._in_scoring_thread(self._profiles.retain, {tp.partition for tp in partitions})

    async def save(self) -> None:
        """As `BatchSink.save`."""
        if self._profiles is not None:
            await self._profiles.save(self._executor)

    async def run_profiles(self) -> None:
        """Follow what profiles share, and save them every few minutes, until cancelled."""
        if self._profiles is not None:
            await self._profiles.run(self._executor)

    async def _in_scoring_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *args)

    @property
    def restoring(self) -> set[int]:
        """Partitions that are not read yet because their profiles are being restored."""
        return set() if self._profiles is None else self._profiles.restoring

    def problems(self) -> list[str]:
        """What the worker waits for, one line for each partition, for readiness."""
        return [] if self._profiles is None else self._profiles.problems()

    def is_idle(self) -> bool:
        """Whether every queued fetch is committed."""
        return self._taken == 0

    def progress(self) -> int | None:
        """Number of finished fetches while others are in progress; None when idle. Thread-safe."""
        return self._finished if self._taken else None

    async def run(self) -> None:
        """Decide and write batches until cancelled. Any error ends the process."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._decide_all())
                both.create_task(self._write_all(both))
        except BaseExceptionGroup as group:
            self.failed = group.exceptions[0]
            self._exit(self.failed)

    async def close(self) -> None:
        """Close the publisher's connections."""
        await self._publisher.close()

    async def _take(self) -> list[Fetch]:
        taken = [await self._queue.get()]
        size = _size(taken[0])
        while size < self._batch_max_records and not self._queue.empty():
            taken.append(self._queue.get_nowait())
            size += _size(taken[-1])
        return taken

    async def _decide_all(self) -> None:
        while True:
            taken = await self._take()
            decided = None
            try:
                decided = await self._decide(taken)
                if decided is not None:
                    await self._decided.put(decided)
            finally:
                if decided is None:
                    self._done(len(taken))

    async def _write_all(self, tasks: asyncio.TaskGroup) -> None:
        """Write decided batches in order. tasks: for those that are written at the same time."""
        writing: dict[asyncio.Task[None], int] = {}  # number of records of each batch
        while True:
            decided = await self._decided.get()
            size = len(decided.records)
            writing = {task: n for task, n in writing.items() if not task.done()}
            while writing and sum(writing.values()) + size > MAX_UNWRITTEN_BATCHES * self._batch_max_records:
                await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
                writing = {task: n for task, n in writing.items() if not task.done()}
            if self._publisher.overlaps:
                # They start in this order, and the publisher keeps it for each partition.
                writing[tasks.create_task(self._write_current(decided))] = size
            else:
                await self._write_current(decided)

    async def _write_current(self, decided: HandledBatch) -> None:
        """Write a batch, unless the group has rebalanced since its fetch."""
        try:
            if decided.generation == self._lost_generation or decided.generation != self._group.generation():
                log.info("rebalance before a batch was written; its %d records are decided again", len(decided.records))
            else:
                await self._write(decided)
        finally:
            self._decided.task_done()
            self._done(decided.fetches)

    def _done(self, fetches: int) -> None:
        self._taken -= fetches
        self._finished += fetches
        for _ in range(fetches):
            self._queue.task_done()

    async def _decide(self, taken: Sequence[Fetch]) -> HandledBatch | None:
        # Fetches of an earlier generation are dropped: the consumer seeks back and fetches them again.
        current = self._group.generation()
        epoch, topic_id = (current, taken[-1].resets), taken[-1].topic_id
        if epoch != self._epoch:
            # Start positions are read from the output topics, so pending writes must finish first.
            await self._decided.join()
            self._epoch = epoch
            self._decided_until = {}
        if current == self._lost_generation:
            return None
        parts = [part for f in taken if f.generation == current for part in f.records.items() if part[1]]
        records = [r for _, rows in parts for r in rows]
        if not records:
            return None
        self._on_step("fetched")
        # Per partition, not per record: this runs for every batch, in the thread that also fetches.
        offsets = {tp: last_offset(rows[-1]) + 1 for tp, rows in parts}
        # All at once: one by one, the first fetch of each partition would wait for the clients that this opens.
        acquired = self._group.assigned() | offsets.keys()
        self._decided_until |= await self._publisher.acquire_partitions(acquired, epoch, topic_id)
        if self._decided_until:
            if self._profiles is not None:
                decided = [r for r in records if r.offset < self._decided_until.get(TP(r.topic, r.partition), 0)]
                await self._in_scoring_thread(self._profiles.fold_decided, decided)
            records = [r for r in records if r.offset >= self._decided_until.get(TP(r.topic, r.partition), 0)]
            offsets = {tp: offset for tp, offset in offsets.items() if offset > self._decided_until.get(tp, 0)}
            if not records:
                return None
        model = self._model()  # one model per batch: a swap takes effect between batches
        if self._policy.counting:
            await self._counter.acquire_partitions({tp.partition for tp in acquired}, epoch, model)
        self._on_step("partitions acquired")
        started = time.monotonic()
        if len(records) <= MAX_INLINE_RECORDS and self._executor.is_idle:
            handled, tiles, panes = self._handle(records, model, topic_id)
        else:
            handled, tiles, panes = await self._in_scoring_thread(self._handle, records, model, topic_id)
        self._on_step("scored")
        return HandledBatch(
            current, topic_id, len(taken), records, offsets, handled, tiles, panes, time.monotonic() - started
        )

    async def _write(self, decided: HandledBatch) -> None:
        started = time.monotonic()
        batches = [
            TopicBatch(self._decisions_topic, decided.handled.decisions),
            TopicBatch(self._dead_letters_topic, decided.handled.dead_letters),
        ]
        if self._profiles is not None:
            batches.append(TopicBatch(self._feature_log_topic, decided.handled.features))
            if decided.tiles:
                batches.append(TopicBatch(self._profile_tiles_topic, decided.tiles))
        # Panes last, so that their cursor is the last record of the batch.
        batches.append(TopicBatch(self._panes_topic, decided.panes))
        if not await self._publisher.write(batches, decided.offsets, decided.topic_id):
            # A worker whose process was paused detects here that it has lost its partitions.
            self._lost_generation = decided.generation
            log.info(
                "rebalance before a commit; %d records may be decided again by another worker", len(decided.records)
            )
        else:
            offsets = {tp.partition: offset for tp, offset in decided.offsets.items()}
            self.written = self.written | offsets  # not in place: the watchdog reads it in its thread
            if self._profiles is not None:
                self._profiles.committed(offsets)
        self._on_step("committed")
        observe_batch(self._metrics, decided.records, decided.handled, decided.seconds, time.monotonic() - started)

    def _handle(
        self, records: Sequence[Any], model: MonitoredModel, topic_id: str
    ) -> tuple[HandlerResult, list[OutgoingRecord], list[OutgoingRecord]]:
        policy = self._policy._replace(topic_id=topic_id)
        tiles: list[OutgoingRecord] = []
        if self._profiles is not None:
            self._profiles.forget_committed()
            self._profiles.require({r.partition for r in records})
        handled = handle_with_isolation(records, model, policy, self._state)
        if self._profiles is not None:
            tiles = self._profiles.tile_records(handled.closed)
        panes = self._counter.count(records, handled.coded, model, topic_id) if handled.coded else []
        return handled, tiles, panes


def _size(fetch: Fetch) -> int:
    return sum(len(rows) for rows in fetch.records.values())
