"""Exactly once: fencing of producers per input partition, and what readers with read_committed see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from faust.types import TP

from schemas.configuration.settings import Settings
from stream_app.output.outgoing_records import OutgoingRecord, OutgoingRecords
from stream_app.worker.exactly_once import ExactlyOncePublisher, FencedError
from stream_app.worker.publisher import TopicBatch
from tests.conftest import Kafka
from tests.helpers.services.worker_process import committed_records, isolated_settings

pytestmark = pytest.mark.kafka


class Crash(Exception):
    """Takes the place of a SIGKILL."""


@pytest.fixture
def settings(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, tmp_path_factory.mktemp("state"))


@asynccontextmanager
async def owner(settings: Settings, dies_at: str | None = None) -> AsyncIterator[ExactlyOncePublisher]:
    def at(step: str) -> None:
        if step == dies_at:
            raise Crash

    output = ExactlyOncePublisher(settings.consumer_group, {"bootstrap_servers": settings.bootstrap}, {}, at)
    try:
        yield output
    finally:
        await output.close()


def decided(settings: Settings, partition: int, *texts: str) -> list[TopicBatch]:
    records = [OutgoingRecord(partition, b"key", text.encode(), []) for text in texts]
    sent = {settings.decisions_topic: records, settings.dead_letters_topic: records[:1]}
    return [TopicBatch(topic, OutgoingRecords.of(own)) for topic, own in sent.items()]


def committed_texts(settings: Settings, topic: str) -> list[str]:
    return sorted((r.value or b"").decode() for r in committed_records(settings.bootstrap, topic))


def test_the_next_owner_starts_after_the_committed_offsets_of_all_partitions(
    settings: Settings,
) -> None:
    inputs = [TP(settings.transactions_topic, p) for p in (0, 1)]

    async def story() -> tuple[object, object, object]:
        async with owner(settings) as first, owner(settings) as second:
            nothing = await first.acquire_partitions(set(inputs), (1, 0))
            records = OutgoingRecords.of(OutgoingRecord(p, b"", b"%d" % p, []) for p in (0, 1))
            written = [TopicBatch(settings.decisions_topic, records)]
            assert await first.write(written, {inputs[0]: 7, inputs[1]: 9})
            assert await first.write([], {inputs[0]: 8})
            return (
                nothing,
                await first.acquire_partitions(set(inputs), (1, 0)),
                await second.acquire_partitions(set(inputs), (1, 0)),
            )

    assert asyncio.run(story()) == ({}, {}, {inputs[0]: 8, inputs[1]: 9})
    assert committed_texts(settings, settings.decisions_topic) == ["0", "1"]


def test_a_zombie_is_fenced_and_nothing_of_its_batch_is_seen(settings: Settings) -> None:
    partition = TP(settings.transactions_topic, 0)

    async def story() -> None:
        async with owner(settings) as zombie, owner(settings) as heir:
            await zombie.acquire_partitions({partition}, (1, 0))
            await zombie.write(decided(settings, 0, "before"), {partition: 1})
            assert await heir.acquire_partitions({partition}, (2, 0)) == {partition: 1}
            zombie_writes = [zombie.write(decided(settings, 0, f"by a zombie {n}"), {partition: n}) for n in (2, 3)]
            for outcome in await asyncio.gather(*zombie_writes, return_exceptions=True):
                assert isinstance(outcome, FencedError)
            with pytest.raises(FencedError, match=f"{settings.transactions_topic}-0"):
                await zombie.write(decided(settings, 0, "by a zombie again"), {partition: 4})
            await heir.write(decided(settings, 0, "by the heir"), {partition: 2})

    asyncio.run(story())
    assert committed_texts(settings, settings.decisions_topic) == ["before", "by the heir"]
    assert committed_texts(settings, settings.dead_letters_topic) == ["before", "by the heir"]


@pytest.mark.parametrize("step", ["part sent", "produced"])
def test_the_next_owner_aborts_the_open_transaction_of_a_crash_and_repeats_it(settings: Settings, step: str) -> None:
    partition = TP(settings.transactions_topic, 0)

    async def story() -> None:
        async with owner(settings, dies_at=step) as crashed, owner(settings) as heir:
            await crashed.acquire_partitions({partition}, (1, 0))
            with pytest.raises(Crash):
                await crashed.write(decided(settings, 0, "half", "done"), {partition: 2})
            assert await heir.acquire_partitions({partition}, (2, 0)) == {}
            await heir.write(decided(settings, 0, "whole", "done"), {partition: 2})

    asyncio.run(story())
    assert committed_texts(settings, settings.decisions_topic) == ["done", "whole"]
    assert committed_texts(settings, settings.dead_letters_topic) == ["whole"]


def test_batches_that_are_written_at_the_same_time_keep_their_order_in_each_partition(settings: Settings) -> None:
    inputs = [TP(settings.transactions_topic, p) for p in (0, 1)]

    async def story() -> object:
        async with owner(settings) as output, owner(settings) as heir:
            await output.acquire_partitions(set(inputs), (1, 0))
            written = [decided(settings, n % 2, f"{n:02}", f"{n:02}b") for n in range(20)]
            await asyncio.gather(*(output.write(w, {inputs[n % 2]: n + 1}) for n, w in enumerate(written)))
            return await heir.acquire_partitions(set(inputs), (2, 0))

    assert asyncio.run(story()) == {inputs[0]: 19, inputs[1]: 20}
    for partition in (0, 1):
        records = committed_records(settings.bootstrap, settings.decisions_topic)
        texts = [(r.value or b"").decode() for r in records if r.partition == partition]
        assert texts == [f"{n:02}{part}" for n in range(partition, 20, 2) for part in ("", "b")]


def test_a_fenced_owner_closes_its_connections(settings: Settings) -> None:
    partition = TP(settings.transactions_topic, 0)

    async def story() -> tuple[list[bool], list[bool]]:
        async with owner(settings) as zombie, owner(settings) as heir:
            await zombie.acquire_partitions({partition}, (1, 0))
            connections = list(zombie._writers[partition]._producer._client._conns.values())
            before = [connection.connected() for connection in connections]
            await heir.acquire_partitions({partition}, (2, 0))
            with pytest.raises(FencedError):
                await zombie.write(decided(settings, 0, "by a zombie"), {partition: 1})
            await zombie.close()
            return before, [connection.connected() for connection in connections]

    before, after = asyncio.run(story())
    assert any(before)
    assert not any(after)
