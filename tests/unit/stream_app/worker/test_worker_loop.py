"""The worker loop: how fetched records become batches."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from aiokafka import ConsumerRecord
from faust.types import TP

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import load
from schemas.dataset.declaration import load_dataset
from schemas.record_parts import Unreadable
from schemas.records import PaneSnapshot
from stream_app.decisions.handler import HandlerPolicy
from stream_app.decisions.probe import good_payload
from stream_app.kafka.batch_sink import Fetch
from stream_app.lifecycle.scoring_thread import ScoringThread
from stream_app.worker.drift_counter import DriftCounter
from stream_app.worker.pane_cursors import Cursors
from stream_app.worker.publisher import Epoch, TopicBatch
from stream_app.worker.worker_loop import WorkerLoop
from stream_app.worker.worker_metrics import WorkerMetrics
from stream_app.worker.write_queue import WriteQueue


def fetched(records: int) -> Fetch:
    return Fetch(1, {TP("transactions", 0): [object()] * records})


def test_a_batch_holds_all_fetches_that_are_queued() -> None:
    async def take() -> list[int]:
        scorer = WorkerLoop.__new__(WorkerLoop)
        scorer._queue = asyncio.Queue(maxsize=2)
        scorer._batch_max_records = 2_000
        assert scorer.offer(fetched(5))
        assert scorer.offer(fetched(7))
        assert not scorer.offer(fetched(1)), "two are queued"
        return [sum(map(len, f.records.values())) for f in await scorer._take()]

    assert asyncio.run(take()) == [5, 7]


def test_a_batch_ends_with_the_fetch_that_fills_it() -> None:
    async def take() -> int:
        scorer = WorkerLoop.__new__(WorkerLoop)
        scorer._queue = asyncio.Queue(maxsize=2)
        scorer._batch_max_records = 10
        await scorer.put(fetched(10))
        await scorer.put(fetched(1))
        return len(await scorer._take())

    assert asyncio.run(take()) == 1


class InMemoryOutput:
    """What a worker would send and commit: a group and an output in memory."""

    overlaps = False
    commit_interval_s = 0.1

    def __init__(self) -> None:
        self.written: list[TopicBatch] = []
        self.committed: dict[TP, int] = {}
        self.commits = 0

    def generation(self) -> int:
        return 1

    def assigned(self) -> set[TP]:
        return set()

    async def commit(self, offsets: Mapping[TP, int], topic_id: str) -> bool:
        raise NotImplementedError

    async def acquire_partitions(self, partitions: set[TP], epoch: Epoch, topic_id: str) -> Mapping[TP, int]:
        return {}

    async def write(self, written: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str) -> bool:
        self.written += written
        self.committed |= offsets
        self.commits += bool(offsets)
        return True

    async def close(self) -> None:
        """Nothing is open."""


def consumed(partition: int, offset: int, value: bytes | None) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord("transactions", partition, offset, 0, 0, b"7", value, None, 1, -1, ())  # type: ignore[arg-type]


def worker_loop(bundle: Path, sent: InMemoryOutput, metrics: WorkerMetrics) -> WorkerLoop:
    model = MonitoredModel.load(bundle, version=1)

    async def no_cursors(_: set[int]) -> Cursors:
        return {}

    writes = WriteQueue(
        group=sent,
        publisher=sent,
        decisions_topic="decisions",
        dead_letters_topic="dead-letters",
        panes_topic="drift-panes",
        batch_max_records=100,
        metrics=metrics,
    )
    return WorkerLoop(
        policy=HandlerPolicy.from_settings(load({}), load_dataset("card_transactions"), counting=True),
        counter=DriftCounter(no_cursors, 0, metrics=metrics),
        model=lambda: model,
        group=sent,
        publisher=sent,
        writes=writes,
        transactions_topic="transactions",
        batch_max_records=100,
        drain_timeout_s=60,  # the first decision may compile
        exit_=lambda _: None,
    )


def test_the_first_batch_is_committed_at_once_and_those_of_the_commit_interval_together_without_a_further_batch(
    champion_bundle: Path,
) -> None:
    sent = InMemoryOutput()
    scorer, good = worker_loop(champion_bundle, sent, WorkerMetrics()), good_payload(load_dataset("card_transactions"))
    place = TP("transactions", 0)

    def n_sent(topic: str) -> int:
        return sum(len(written.records) for written in sent.written if written.topic == topic)

    async def run() -> None:
        running = asyncio.create_task(scorer.run())
        for offset in range(5):
            assert scorer.offer(Fetch(1, {place: [consumed(0, offset, good)]}))
            while n_sent("decisions") <= offset:
                await asyncio.sleep(0.001)
        assert (sent.commits, sent.committed) == (1, {place: 1}), "the others are published long before their commit"
        assert scorer.progress() == 1
        assert not scorer.is_idle()
        async with asyncio.timeout(10):
            while not scorer.is_idle():
                await asyncio.sleep(0.01)
        assert (sent.commits, sent.committed) == (2, {place: 5})
        assert scorer.progress() is None
        assert scorer.offer(Fetch(1, {place: [consumed(0, 5, good)]}))
        started = asyncio.get_running_loop().time()
        assert await scorer.drain()
        assert asyncio.get_running_loop().time() - started < sent.commit_interval_s, "a drain does not wait for it"
        assert (sent.commits, sent.committed) == (3, {place: 6})
        running.cancel()

    sent.commit_interval_s = 1.0
    asyncio.run(run())
    assert scorer.failed is None
    cursors = [p.records[-1] for p in sent.written if p.topic == "drift-panes" and p.records]
    counted = [msgspec.json.decode(cursor.value or b"", type=PaneSnapshot) for cursor in cursors]
    assert [(c.last_offset, sum(pane.rows for pane in c.panes)) for c in counted] == [(0, 1), (4, 5), (5, 6)]


def test_a_batch_commits_and_counts_past_all_that_an_unreadable_record_covers(champion_bundle: Path) -> None:
    dataset, metrics, sent = load_dataset("card_transactions"), WorkerMetrics(), InMemoryOutput()
    scorer = worker_loop(champion_bundle, sent, metrics)
    good = good_payload(dataset)
    rows = {
        TP("transactions", 0): [consumed(0, 4, good), consumed(0, 5, Unreadable.with_reason("lz4 is damaged", 41))],
        TP("transactions", 1): [consumed(1, 7, Unreadable.with_reason("lz4 is damaged", 7)), consumed(1, 8, good)],
    }

    async def run() -> bool:
        running = asyncio.create_task(scorer.run())
        await scorer.put(Fetch(1, rows))
        drained = await scorer.drain()
        running.cancel()
        return drained

    assert asyncio.run(run()), scorer.failed
    assert sent.committed == {TP("transactions", 0): 42, TP("transactions", 1): 9}
    decisions, letters, panes = (written.records for written in sent.written)
    assert (len(decisions), len(letters)) == (2, 2)
    snapshots = [msgspec.json.decode(pane.value or b"", type=PaneSnapshot) for pane in panes]
    assert {s.partition: s.last_offset for s in snapshots if s.open} == {0: 41, 1: 8}
    # 6 to 41: lost behind the one that is a dead letter.
    assert metrics.registry.get_sample_value("tamiz_records_without_dead_letter_total") == 36


@pytest.mark.parametrize("error", [OSError("the broker is gone"), asyncio.CancelledError()])
def test_a_worker_is_not_idle_after_a_batch_that_was_not_written(champion_bundle: Path, error: BaseException) -> None:
    class Failing(InMemoryOutput):
        overlaps = True
        commit_interval_s = 0.0

        async def write(self, written: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str) -> bool:
            self.commits += 1
            raise error

    sent = Failing()
    scorer, good = worker_loop(champion_bundle, sent, WorkerMetrics()), good_payload(load_dataset("card_transactions"))

    async def run() -> None:
        running = asyncio.create_task(scorer.run())
        assert scorer.offer(Fetch(1, {TP("transactions", 0): [consumed(0, 0, good)]}))
        async with asyncio.timeout(60):
            while not sent.commits:
                await asyncio.sleep(0.001)
        for _ in range(20):
            assert not scorer.is_idle()
            await asyncio.sleep(0)
        running.cancel()

    asyncio.run(run())
    assert scorer.failed is (error if isinstance(error, OSError) else None)


def test_a_worker_is_not_idle_in_a_generation_whose_commit_was_refused(champion_bundle: Path) -> None:
    class Refusing(InMemoryOutput):
        current = 1

        def generation(self) -> int:
            return self.current

        async def write(self, written: Sequence[TopicBatch], offsets: Mapping[TP, int], topic_id: str) -> bool:
            return False

    sent = Refusing()
    scorer, good = worker_loop(champion_bundle, sent, WorkerMetrics()), good_payload(load_dataset("card_transactions"))

    async def run() -> None:
        running = asyncio.create_task(scorer.run())
        for offset in range(2):  # the second one is dropped
            assert scorer.offer(Fetch(1, {TP("transactions", 0): [consumed(0, offset, good)]}))
            assert await scorer.drain()
            assert not scorer.is_idle()
        sent.current = 2
        assert scorer.is_idle()
        running.cancel()

    asyncio.run(run())
    assert scorer.failed is None


def test_the_scoring_thread_is_idle_only_when_every_call_has_ended() -> None:
    thread, ends = ScoringThread(), threading.Event()
    assert thread.is_idle
    first, second = thread.submit(lambda: None), thread.submit(ends.wait)
    first.result(10)
    assert not thread.is_idle
    ends.set()
    second.result(10)
    assert thread.is_idle
    ends.clear()
    running, waiting = thread.submit(ends.wait), thread.submit(lambda: None)
    while not running.running():
        time.sleep(0.001)
    assert waiting.cancel()
    assert not thread.is_idle
    ends.set()
    running.result(10)
    assert thread.is_idle
    thread.shutdown()
