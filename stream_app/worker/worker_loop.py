"""The worker's loop: fetched records -> decisions and dead letters -> acknowledged -> committed.

Strictly in order, in two steps: one batch is decided while the one before it is written. Nothing is committed before
everything it produced is acknowledged by all in-sync replicas, and nothing is produced before the batch ahead of it is
committed, so a crash at any step repeats one batch at most and loses none. An error nobody foresaw ends the process at
once: a supervisor's restart from the last commit is safe, going on is not.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, NoReturn

from faust.types import TP

from monitoring.counting.monitored_model import MonitoredModel
from schemas.record_parts import last_offset
from stream_app.decisions.handler import OFFSET_HEADER, HandlerPolicy, HandlerResult, OutgoingRecord, handle_carefully
from stream_app.decisions.id_conflicts import RecentIds
from stream_app.kafka.faust_transport import Fetched
from stream_app.worker.drift_counter import DriftCounter
from stream_app.worker.publisher import Group, Publisher, StepHook, TopicBatch, no_hook
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.scorer")
# A batch costs some milliseconds however few are in it. Under steady traffic small ones that follow on each other's
# heels keep a core busy and everybody waiting; a little apart they are fewer, cost less, and answer sooner.
MIN_BATCH_INTERVAL_S = 0.005  # between the beginnings of two batches
FULL_BATCH_SIZE = 100  # transactions in a batch that need not wait for more
IDLE_BATCH_SIZE = 2  # where batches hold no more than so many, none waits: a lone transaction is decided at once


class HandledBatch(NamedTuple):
    """A batch on its way from the model to the topics."""

    generation: int  # of the group, under which it was fetched
    topic_id: str  # incarnation of the input topic
    fetches: int  # that it was made of
    records: Sequence[Any]
    offsets: dict[TP, int]  # to commit
    handled: HandlerResult
    panes: list[OutgoingRecord]
    seconds: float  # that it took


def exit_at_once(error: BaseException) -> NoReturn:
    """End the process without another commit; the supervisor starts it again from the last one."""
    log.critical("the worker stops: %r; what it has not committed will be decided again", error, exc_info=error)
    logging.shutdown()
    os._exit(70)  # EX_SOFTWARE


class WorkerLoop:
    """Takes fetches (a `BatchSink`), decides them, produces, commits."""

    _taken = 0  # fetches that are not done
    _finished = 0  # fetches that are

    def __init__(
        self,
        *,
        policy: HandlerPolicy,
        counting: DriftCounter,
        model: Callable[[], MonitoredModel],
        group: Group,
        output: Publisher,
        transactions_topic: str,
        decisions_topic: str,
        dead_letters_topic: str,
        panes_topic: str,
        batch_max_records: int,
        drain_timeout_s: float,
        metrics: WorkerMetrics,
        at: StepHook = no_hook,
        die: Callable[[BaseException], None] = exit_at_once,
    ) -> None:
        """at: told of every step that a batch takes, where a crash test stops the worker."""
        self.topics = frozenset({transactions_topic})
        self._policy = policy
        self._counting = counting
        self._model = model
        self._group = group
        self._output = output
        self._decisions_topic = decisions_topic
        self._dead_letters_topic = dead_letters_topic
        self._panes_topic = panes_topic
        self._batch_max_records = batch_max_records
        self._drain_timeout_s = drain_timeout_s
        self._metrics = metrics
        self._at = at
        self._die = die
        self._lost_generation: int | None = None  # one whose commit was refused
        self._decided_until: dict[TP, int] = {}  # offsets below were committed by the owner before
        self._epoch: tuple[int, int] | None = None  # group generation and resets of what was decided last
        self._began = 0.0  # when the last batch did, on the monotonic clock
        self._last_size = 0
        self._queue: asyncio.Queue[Fetched] = asyncio.Queue(maxsize=2)
        self._decided: asyncio.Queue[HandledBatch] = asyncio.Queue(maxsize=1)
        self._recent = RecentIds()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tamiz-scoring")
        self.failed: BaseException | None = None

    async def put(self, fetched: Fetched) -> None:
        """Take a fetch; wait while two others wait already."""
        await self._queue.put(fetched)
        self._taken += 1

    async def drain(self) -> bool:
        """Return when everything taken is decided and committed, or when the time for it is over: then False."""
        try:
            await asyncio.wait_for(self._queue.join(), self._drain_timeout_s)
        except TimeoutError:
            log.warning("not everything was decided within %s s; the rest is decided again", self._drain_timeout_s)
            return False
        return True

    def is_idle(self) -> bool:
        """Whether nothing is taken and not yet committed."""
        return self._taken == 0

    def progress(self) -> int | None:
        """How many fetches are done, where others wait; None when nothing waits. Any thread may ask."""
        return self._finished if self._taken else None

    async def run(self) -> None:
        """Decide what comes, for ever: one batch is decided while the one before it is written."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._decide_all())
                both.create_task(self._write_all())
        except BaseExceptionGroup as group:
            self.failed = group.exceptions[0]
            self._die(self.failed)

    async def close(self) -> None:
        """Let go of connections, after everything is decided."""
        await self._output.close()

    async def _take(self) -> list[Fetched]:
        taken = [await self._queue.get()]
        size = self._take_more(taken)
        if size < FULL_BATCH_SIZE and self._last_size > IDLE_BATCH_SIZE:
            await asyncio.sleep(self._began + MIN_BATCH_INTERVAL_S - time.monotonic())  # not at all when that is over
            size = self._take_more(taken)
        self._began, self._last_size = time.monotonic(), size
        return taken

    def _take_more(self, taken: list[Fetched]) -> int:
        size = sum(map(_size, taken))
        while size < self._batch_max_records and not self._queue.empty():
            taken.append(self._queue.get_nowait())
            size += _size(taken[-1])
        return size

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

    async def _write_all(self) -> None:
        while True:
            decided = await self._decided.get()
            try:
                if decided.generation == self._lost_generation or decided.generation != self._group.generation():
                    log.info("the group moved on; %d decisions are made again", len(decided.records))
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

    async def _decide(self, taken: Sequence[Fetched]) -> HandledBatch | None:
        # What an earlier generation fetched was sought back to, and comes again.
        current = self._group.generation()
        epoch, topic_id = (current, taken[-1].resets), taken[-1].topic_id
        if epoch != self._epoch:
            # Where to begin is read from topics: what we are still writing must stand there first.
            await self._decided.join()
            self._epoch = epoch
            self._decided_until = {}
        if current == self._lost_generation:
            return None
        parts = [part for f in taken if f.generation == current for part in f.records.items() if part[1]]
        records = [r for _, rows in parts for r in rows]
        if not records:
            return None
        self._at("fetched")
        # Of each partition, not of each record: this is done for every batch, in the thread that also fetches.
        offsets = {tp: last_offset(rows[-1]) + 1 for tp, rows in parts}
        self._decided_until |= await self._output.acquire_partitions(set(offsets), epoch, topic_id)
        if self._decided_until:
            records = [r for r in records if r.offset >= self._decided_until.get(TP(r.topic, r.partition), 0)]
            offsets = {tp: offset for tp, offset in offsets.items() if offset > self._decided_until.get(tp, 0)}
            if not records:
                return None
        model = self._model()  # one batch, one model: a swap takes effect between two
        if self._policy.counting:
            await self._counting.acquire_partitions({tp.partition for tp in offsets}, epoch, model)
        self._at("taken over")
        started = time.monotonic()
        # Off the loop, so that heartbeats go on; one thread, so that batches stay in order.
        handled, panes = await asyncio.get_running_loop().run_in_executor(
            self._executor, self._handle, records, model, topic_id
        )
        self._at("scored")
        return HandledBatch(current, topic_id, len(taken), records, offsets, handled, panes, time.monotonic() - started)

    async def _write(self, decided: HandledBatch) -> None:
        started = time.monotonic()
        written = (
            # Panes last: their cursor is then the last thing of its batch.
            TopicBatch(self._decisions_topic, decided.handled.decisions),
            TopicBatch(self._dead_letters_topic, decided.handled.dead_letters),
            TopicBatch(self._panes_topic, decided.panes),
        )
        if not await self._output.write(written, decided.offsets, decided.topic_id):
            # Woken from a pause, a worker learns here that its partitions went to others: the rest is theirs.
            self._lost_generation = decided.generation
            log.info(
                "the group moved on before %d decisions were committed; they may be made again", len(decided.records)
            )
        self._at("committed")
        self._observe(decided.records, decided.handled, decided.seconds, time.monotonic() - started)
        if log.isEnabledFor(logging.DEBUG):
            trace(decided.handled)

    def _handle(
        self, records: Sequence[Any], model: MonitoredModel, topic_id: str
    ) -> tuple[HandlerResult, list[OutgoingRecord]]:
        handled = handle_carefully(records, model, self._policy._replace(topic_id=topic_id), self._recent)
        return handled, self._counting.count(records, handled.coded, model, topic_id) if handled.coded else []

    def _observe(self, records: Sequence[Any], handled: HandlerResult, handling_s: float, producing_s: float) -> None:
        metrics = self._metrics
        metrics.batch_records.observe(len(records))
        metrics.batch_scoring.observe(handling_s)
        metrics.batch_publishing.observe(producing_s)
        sent_ms = [r.timestamp for r in records if r.timestamp > 0]  # a producer may send none, or nonsense
        if sent_ms:
            metrics.latency.observe(max(0.0, time.time() - min(sent_ms) / 1000))
        for outcome, count in handled.outcomes.items():
            metrics.decisions.labels(outcome).inc(count)
        for rejection in handled.rejections:
            metrics.dead_letters.labels(rejection.code).inc()
        if any(rejection.code == "unreadable" for rejection in handled.rejections):
            metrics.records_without_dead_letter.inc(sum(last_offset(r) - r.offset for r in records))
        for part, count in handled.cuts.items():
            metrics.truncated_parts.labels(part).inc(count)
        if handled.conflicts:
            first = handled.conflicts[0]
            metrics.id_conflicts.inc(len(handled.conflicts))
            log.warning(
                "%d decisions have the transaction id of an earlier one and another payload; the earlier one counts; "
                "the first is decision %s in partition %d; producers must not use an id twice",
                len(handled.conflicts),
                (dict(first.headers)["ce_id"] or b"").decode(),
                first.partition,
            )


def trace(handled: HandlerResult) -> None:
    """Tell which input became which decision, for whoever follows one transaction; nothing of what it says."""
    for decision in handled.decisions:
        headers = {name: value or b"" for name, value in decision.headers}
        place = {"partition": decision.partition, "offset": int(headers[OFFSET_HEADER])}
        decision_id = headers["ce_id"].decode()
        log.debug("%d-%d decided: %s", *place.values(), decision_id, extra=place | {"decision_id": decision_id})


def _size(fetched: Fetched) -> int:
    return sum(len(rows) for rows in fetched.records.values())
