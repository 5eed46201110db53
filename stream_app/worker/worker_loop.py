"""The worker's loop: gathers fetched records into batches, decides them, and determines when offsets are committed.

It is the first step of a pipeline; the second one is `stream_app.worker.write_queue`. A batch is decided while earlier
ones are written.

With at least once, all batches of `Publisher.commit_interval_s` are committed together, with one cursor of drift
counting for each partition. So a crash at any step repeats what was decided in that time, and loses nothing. With
exactly once, each batch has its own commit.

Revocation, stop and a reset of positions first wait for a commit (`drain`), and a timer commits what no further batch
follows. An unexpected error ends the process at once: a restart from the last commit is safe, continuing is not.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from faust.types import TP

from monitoring.counting.monitored_model import MonitoredModel
from stream_app.decisions.handler import HandlerPolicy, HandlerResult, HandlerState
from stream_app.decisions.id_conflicts import RecentIds
from stream_app.kafka.batch_sink import Fetch
from stream_app.kafka.batches.record_columns import join_records, next_offset, split_records
from stream_app.lifecycle.scoring_thread import ScoringThread
from stream_app.output.outgoing_records import NO_RECORDS, OutgoingRecords
from stream_app.profiles.profile_state import ProfileState
from stream_app.rules.partition_rules import PartitionRules
from stream_app.rules.rule_plan import RulePlan, handle_plan
from stream_app.worker.drift_counter import DriftCounter
from stream_app.worker.publisher import Group, Publisher, StepHook, no_hook
from stream_app.worker.write_queue import HandledBatch, WriteQueue

log = logging.getLogger("tamiz.worker")
# Handing a batch to another thread costs as much as scoring some dozens of transactions. A larger batch would delay
# heartbeats and health checks, which share the event loop.
MAX_INLINE_RECORDS = 200


def exit_at_once(error: BaseException) -> NoReturn:
    """End the process without another commit. A supervisor restarts it from the last commit."""
    log.critical("worker exits: %r; uncommitted transactions are decided again after a restart", error, exc_info=error)
    logging.shutdown()
    os._exit(70)  # EX_SOFTWARE


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
        writes: WriteQueue,
        transactions_topic: str,
        batch_max_records: int,
        drain_timeout_s: float,
        profiles: ProfileState | None = None,
        rules: PartitionRules | None = None,
        on_step: StepHook = no_hook,
        exit_: Callable[[BaseException], None] = exit_at_once,
    ) -> None:
        """writes: writes the decided batches, with this publisher. profiles: for a data set with profiles.

        rules: None in an installation without their topics. on_step: called at every step of a batch; crash tests stop
        the worker there. exit_: ends the process.
        """
        self.topics = frozenset({transactions_topic})
        self._policy = policy
        self._counter = counter
        self._model = model
        self._group = group
        self._publisher = publisher
        self.writes = writes
        self._batch_max_records = batch_max_records
        self._drain_timeout_s = drain_timeout_s
        self._profiles = profiles
        self.rules = rules
        self._on_step = on_step
        self._exit = exit_
        self._decided_until: dict[TP, int] = {}  # offsets below were committed by the previous owner
        self._epoch: tuple[int, int] | None = None  # group generation and resets of the last decided batch
        self._topic_id = ""  # of the last decided batch
        self._open = 0  # fetches that are taken and in no commit yet
        self._uncommitted: dict[TP, int] = {}  # next offset of the partitions that are decided and in no commit yet
        self._commit_timer: asyncio.TimerHandle | None = None  # runs while there are any
        self._is_commit_due = False
        self._acquired: set[TP] = set()  # partitions that this worker owns in this epoch
        self._begun: set[TP] = set()  # partitions with a commit, or one that is due, in this epoch
        self._draining = 0  # number of calls of `drain`
        self._queue: asyncio.Queue[Fetch | None] = asyncio.Queue(maxsize=2)  # None: look whether a commit is due
        self._state = HandlerState(RecentIds(), None if profiles is None else profiles.fold)
        self._executor = ScoringThread()
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
        self._draining += 1
        self._wake()
        try:
            await asyncio.wait_for(self._queue.join(), self._drain_timeout_s)
        except TimeoutError:
            log.warning(
                "drain_timeout_seconds (%s) is over; the remaining transactions are decided again",
                self._drain_timeout_s,
            )
            return False
        finally:
            self._draining -= 1
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

    async def start_rules(self) -> None:
        """Follow rules and lists, and wait until the current ones are read."""
        if self.rules is not None:
            await self.rules.start()

    @property
    def restoring(self) -> set[int]:
        """Partitions that are not read yet because their profiles are being restored."""
        return set() if self._profiles is None else self._profiles.restoring

    def problems(self) -> list[str]:
        """What the worker waits for, one line for each partition, for readiness."""
        parts = [part for part in (self.rules, self._profiles) if part is not None]
        return [line for part in parts for line in part.problems()]

    def is_idle(self) -> bool:
        """Whether every queued fetch is committed. Thread-safe."""
        # Fetches of a lost generation are dropped.
        return self._taken == 0 and self._group.generation() != self.writes.lost_generation

    def progress(self) -> int | None:
        """Number of finished fetches while others are in progress; None when idle. Thread-safe."""
        return self._finished if self._taken else None

    async def run(self) -> None:
        """Decide and write batches until cancelled. Any error ends the process."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._decide_all())
                both.create_task(self.writes.run(both, self._done))
        except BaseExceptionGroup as group:
            self.failed = group.exceptions[0]
            self._exit(self.failed)

    async def close(self) -> None:
        """Close the publisher's connections, and end following rules."""
        await self._publisher.close()
        if self.rules is not None:
            await self.rules.stop()

    async def _decide_all(self) -> None:
        while True:
            taken = await self._take()
            self._open += len(taken)
            decided = await self._decide(taken) if taken else None
            if self._uncommitted:
                decided = await self._end_commit(decided)
            else:
                self._done(self._open)
                self._open = 0
            if decided is not None:
                await self.writes.put(decided)

    async def _take(self) -> list[Fetch]:
        """All queued fetches, up to the size of a batch. None of them if only a commit may be due."""
        taken: list[Fetch] = []
        fetch, size = await self._queue.get(), 0
        while True:
            if fetch is None:
                self._queue.task_done()
            else:
                taken.append(fetch)
                size += _size(fetch)
            if size >= self._batch_max_records or self._queue.empty():
                return taken
            fetch = self._queue.get_nowait()

    async def _decide(self, taken: Sequence[Fetch]) -> HandledBatch | None:
        # Fetches of an earlier generation are dropped: the consumer seeks back and fetches them again.
        current = self._group.generation()
        epoch, topic_id = (current, taken[-1].resets), taken[-1].topic_id
        if epoch != self._epoch:
            # Start positions are read from the output topics, so pending writes must finish first.
            await self.writes.join()
            # A commit of the previous epoch would be refused. The fetches are done with the next one.
            self._forget_uncommitted()
            self._epoch = epoch
            self._begun, self._acquired = set(), set()
            self._decided_until = {}
        self._topic_id = topic_id
        if current == self.writes.lost_generation:
            return None
        parts = [part for f in taken if f.generation == current for part in f.records.items() if part[1]]
        if not parts:
            return None
        self._on_step("fetched")
        # Per partition, not per record: this runs for every batch, in the thread that also fetches.
        offsets = {tp: next_offset(rows) for tp, rows in parts}
        # All at once: one by one, the first fetch of each partition would wait for the clients that this opens.
        if not offsets.keys() <= self._acquired:
            self._acquired = self._group.assigned() | offsets.keys()
        acquired = self._acquired
        self._decided_until |= await self._publisher.acquire_partitions(acquired, epoch, topic_id)
        if self._decided_until:
            split = [(tp, *split_records(rows, self._decided_until.get(tp, 0))) for tp, rows in parts]
            if self._profiles is not None and (below := [rows for _, rows, _ in split if rows]):
                await self._in_scoring_thread(self._profiles.fold_decided, join_records(below))
            parts = [(tp, rows) for tp, _, rows in split if rows]
            offsets = {tp: offset for tp, offset in offsets.items() if offset > self._decided_until.get(tp, 0)}
            if not parts:
                return None
        if self.rules is None:
            plan = RulePlan.without_rules(join_records([rows for _, rows in parts]))
        else:
            plan = await self.rules.plan(parts, acquired, epoch, topic_id)
        records = plan.records
        model = self._model()  # one model per batch: a swap takes effect between batches
        if self._policy.counting:
            await self._counter.acquire_partitions({tp.partition for tp in acquired}, epoch, model)
        self._on_step("partitions acquired")
        started = time.monotonic()
        handled, tiles = await self._call(len(records), self._handle, plan, model, topic_id)
        if handled.coded is not None:
            self._counter.count(records, handled.coded, model)
        self._uncommitted |= offsets
        if offsets.keys() - self._begun:
            # A group without an offset resumes after its last decision, so counts would miss what is in no commit.
            self._begun |= offsets.keys()
            self._is_commit_due = True
        self._on_step("scored")
        return HandledBatch(current, topic_id, records, handled, tiles, plan.stamps, time.monotonic() - started)

    def _handle(self, plan: RulePlan, model: MonitoredModel, topic_id: str) -> tuple[HandlerResult, OutgoingRecords]:
        policy = self._policy._replace(topic_id=topic_id)
        tiles = NO_RECORDS
        if self._profiles is not None:
            self._profiles.forget_committed()
            self._profiles.require({r.partition for r in plan.records})
        handled = handle_plan(plan, model, policy, self._state)
        if self._profiles is not None:
            tiles = self._profiles.tile_records(handled.closed)
        return handled, tiles

    async def _end_commit(self, decided: HandledBatch | None) -> HandledBatch | None:
        """Add a commit of all that is decided, if it is due. decided: the last batch."""
        interval_s = self._publisher.commit_interval_s
        if not (self._is_commit_due or self._draining or interval_s == 0):
            if self._commit_timer is None:
                self._commit_timer = asyncio.get_running_loop().call_later(interval_s, self._set_commit_due)
            return decided
        assert self._epoch is not None
        panes = await self._call(self._counter.pending_rows, self._counter.take_records, self._topic_id)
        decided = decided or HandledBatch(self._epoch[0], self._topic_id)
        decided = decided._replace(fetches=self._open, offsets=self._uncommitted, panes=panes)
        self._open = 0
        self._forget_uncommitted()
        return decided

    def _set_commit_due(self) -> None:
        self._is_commit_due = True
        self._wake()

    def _wake(self) -> None:
        """Have `_decide_all` look whether a commit is due."""
        if self._queue.empty():
            self._queue.put_nowait(None)

    def _forget_uncommitted(self) -> None:
        self._uncommitted = {}
        self._is_commit_due = False
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None

    def _done(self, fetches: int) -> None:
        self._taken -= fetches
        self._finished += fetches
        for _ in range(fetches):
            self._queue.task_done()

    async def _call(self, n_records: int, call: Callable[..., Any], *args: Any) -> Any:
        """Call what takes long only for many records: at once for a few, else in the scoring thread."""
        if n_records <= MAX_INLINE_RECORDS and self._executor.is_idle:
            return call(*args)
        return await self._in_scoring_thread(call, *args)

    async def _in_scoring_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *args)


def _size(fetch: Fetch) -> int:
    return sum(len(rows) for rows in fetch.records.values())
