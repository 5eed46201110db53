"""The worker's drift counter across assignments of partitions and changes of the model."""

import asyncio
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from monitoring.counting.monitored_model import MonitoredModel
from schemas.records import PaneSnapshot
from schemas.time_units import MINUTE_MS
from stream_app.decisions.handler import CountedCodes
from stream_app.worker.drift_counter import DriftCounter
from stream_app.worker.pane_cursors import Cursors
from tests.helpers.bundles.small_bundle import small_bundle

START = 30_000_000 * MINUTE_MS


class PlacedRecord(NamedTuple):
    partition: int
    offset: int


class PanesTopic:
    """The newest cursors of `drift-panes`, and how often they were read."""

    def __init__(self) -> None:
        self.cursors: Cursors = {}
        self.read: list[set[int]] = []

    async def last_cursors(self, partitions: set[int]) -> Cursors:
        self.read.append(partitions)
        return {p: dict(self.cursors.get(p, {})) for p in partitions}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> MonitoredModel:
    return small_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def second(first: MonitoredModel, tmp_path_factory: pytest.TempPathFactory) -> MonitoredModel:
    folder: Path = tmp_path_factory.mktemp("bundle")
    small_bundle(folder)
    return MonitoredModel.load(folder, version=first.version + 1)


def count(
    counting: DriftCounter, topic: PanesTopic, model: MonitoredModel, offsets: range, generation: int = 1
) -> PaneSnapshot:
    """Count rows of partition 0, all of one minute, publish, and return the cursor."""
    n = len(offsets)
    codes = np.tile(model.bins.missing_bins, (n, 1))
    asyncio.run(counting.acquire_partitions({0}, generation, model))
    coded = CountedCodes(codes=codes, event_times_ms=np.full(n, START))
    counting.count([PlacedRecord(0, offset) for offset in offsets], coded, model)
    *_, last = counting.take_records()
    cursor = msgspec.json.decode(last.value or b"", type=PaneSnapshot)
    topic.cursors.setdefault(0, {})[model.version] = cursor
    return cursor


def rows(cursor: PaneSnapshot) -> int:
    return sum(pane.rows for pane in cursor.panes)


def test_a_model_swap_reads_nothing_and_does_not_wait(first: MonitoredModel, second: MonitoredModel) -> None:
    topic = PanesTopic()
    counting = DriftCounter(topic.last_cursors, MINUTE_MS)
    assert rows(count(counting, topic, first, range(10))) == 10
    assert rows(count(counting, topic, second, range(10, 15))) == 5
    assert topic.read == [{0}]


def test_a_rollback_within_the_minute_continues_the_previous_fold(
    first: MonitoredModel, second: MonitoredModel
) -> None:
    topic = PanesTopic()
    counting = DriftCounter(topic.last_cursors, MINUTE_MS)
    count(counting, topic, first, range(10))
    count(counting, topic, second, range(10, 15))
    assert rows(count(counting, topic, first, range(15, 18))) == 13


def test_another_worker_resumes_either_model_from_the_published_cursors(
    first: MonitoredModel, second: MonitoredModel
) -> None:
    topic = PanesTopic()
    one = DriftCounter(topic.last_cursors, MINUTE_MS)
    count(one, topic, first, range(10))
    count(one, topic, second, range(10, 15))
    other = DriftCounter(topic.last_cursors, MINUTE_MS)
    assert rows(count(other, topic, second, range(13, 20), generation=2)) == 10  # two of these came again
    assert rows(count(other, topic, first, range(20, 21), generation=2)) == 11


def test_after_a_rebalance_the_topic_is_asked_again(first: MonitoredModel) -> None:
    topic = PanesTopic()
    counting = DriftCounter(topic.last_cursors, MINUTE_MS)
    count(counting, topic, first, range(10))
    assert rows(count(counting, topic, first, range(10, 12), generation=2)) == 12
    assert topic.read == [{0}, {0}]


def test_a_version_rolled_back_after_two_others_continues_from_its_cursor(
    first: MonitoredModel, second: MonitoredModel, tmp_path: Path
) -> None:
    small_bundle(tmp_path)
    third = MonitoredModel.load(tmp_path, version=first.version + 2)
    topic = PanesTopic()
    counting = DriftCounter(topic.last_cursors, MINUTE_MS)
    for turn in range(3):  # 1, 2, 3, and again, in one generation
        for i, model in enumerate((first, second, third)):
            start = 30 * turn + 10 * i
            assert rows(count(counting, topic, model, range(start, start + 10))) == 10 * (turn + 1)
    assert topic.read == [{0}]
    last = topic.cursors[0][third.version]
    assert [other.model_version for other in last.others or ()] == [second.version, first.version]


def test_versions_do_not_overwrite_each_others_panes_under_compaction(
    first: MonitoredModel, second: MonitoredModel
) -> None:
    counting, keys = DriftCounter(PanesTopic().last_cursors, MINUTE_MS), []
    for model in (first, second):
        assert model.bins.digest == first.bins.digest
        asyncio.run(counting.acquire_partitions({0}, 1, model))
        times = START + MINUTE_MS * np.arange(12)
        coded = CountedCodes(codes=np.tile(model.bins.missing_bins, (12, 1)), event_times_ms=times)
        counting.count([PlacedRecord(0, i) for i in range(12)], coded, model)
        keys += [out.key for out in counting.take_records()]
    assert len(set(keys)) == len(keys) == 4


@pytest.mark.parametrize("poison", [{"layout": "another"}, {"model": "another"}])
def test_a_cursor_of_another_model_or_layout_is_not_restored(first: MonitoredModel, poison: dict[str, str]) -> None:
    topic = PanesTopic()
    cursor = count(DriftCounter(topic.last_cursors, MINUTE_MS), topic, first, range(10))
    topic.cursors[0][first.version] = msgspec.structs.replace(cursor, **poison)
    assert rows(count(DriftCounter(topic.last_cursors, MINUTE_MS), topic, first, range(10, 12))) == 2


def test_a_damaged_cursor_restarts_counting_and_does_not_stop_the_worker(first: MonitoredModel) -> None:
    topic = PanesTopic()
    cursor = count(DriftCounter(topic.last_cursors, MINUTE_MS), topic, first, range(10))
    panes = tuple(msgspec.structs.replace(pane, codes=b"\xff\xff\xff\x7f", counts=b"\0" * 4) for pane in cursor.panes)
    topic.cursors[0][first.version] = msgspec.structs.replace(cursor, panes=panes)
    assert rows(count(DriftCounter(topic.last_cursors, MINUTE_MS), topic, first, range(10, 12))) == 2


def test_batches_that_are_counted_together_give_the_same_panes_and_cursors_as_one_by_one(
    first: MonitoredModel, second: MonitoredModel
) -> None:
    def published(batches_per_commit: int) -> tuple[dict[bytes | None, bytes | None], list[object]]:
        rng, cursors, closed = np.random.default_rng(5), {}, []
        counting = DriftCounter(PanesTopic().last_cursors, MINUTE_MS)
        for i in range(12):
            model = second if 3 <= i < 8 else first  # swapped, and rolled back
            asyncio.run(counting.acquire_partitions({0, 1}, (1, 0), model))
            codes = np.tile(model.bins.missing_bins, (4, 1))
            times = START + MINUTE_MS * i + rng.integers(0, MINUTE_MS, 4)
            records = [PlacedRecord(row % 2, 4 * i + row) for row in range(4)]
            counting.count(records, CountedCodes(codes=codes, event_times_ms=times), model)
            if (i + 1) % batches_per_commit == 0:
                for out in counting.take_records():
                    snapshot = msgspec.json.decode(out.value or b"", type=PaneSnapshot)
                    if snapshot.open:
                        cursors[out.key] = out.value
                    else:
                        closed += [(snapshot.model_version, snapshot.partition, pane) for pane in snapshot.panes]
        assert counting.pending_rows == 0
        return cursors, sorted(closed, key=repr)

    cursors, closed = published(1)
    assert (len(cursors), len(closed) > 4) == (4, True)
    assert published(4) == (cursors, closed)
    assert published(12) == (cursors, closed)
