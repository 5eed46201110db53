"""The follower of closed tiles and labels, on a broker: what it reads, in which order, and what it skips."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.records import Label
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.profiles.aggregate_rows import COUNT, TIME, empty_rows
from scoring.profiles.profile_inputs import ProfileInputs, hashes
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.open_tiles import ClosedTiles
from scoring.profiles.shared.shared_profiles import SharedProfiles
from scoring.profiles.shared.tile_log import encode_tiles
from stream_app.profiles.profile_follower import ProfileFollower
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, wait_for
from tests.helpers.traffic.profiled_dataset import profiled_dataset

pytestmark = pytest.mark.kafka
PROFILES = """
[[profiles]]
entity = "establecimiento"
windows = ["1d"]
features = ["count"]

[[profiles]]
entity = "establecimiento"
windows = ["7d"]
label_delay = "1d"
features = ["fraud_count"]
"""
KEY_PROFILES = """
[[profiles]]
entity = "ID_USER"
windows = ["1d"]
features = ["count"]
"""
NOW_MS = int(time.time() * 1000) // HOUR_MS * HOUR_MS
SHOP = hashes(["tienda"])


class FollowedProfiles:
    """A follower, and what can be read from it."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        self.skipped: list[str] = []
        self.unmatched = 0
        self.shared = SharedProfiles(ProfilePlan.of(dataset), threading.Lock())
        self.reading = ProfileFollower(
            settings,
            dataset,
            self.shared,
            count_skipped=self.skipped.append,
            count_unmatched=self._count_unmatched,
        )

    def _count_unmatched(self, n: int) -> None:
        self.unmatched += n

    def values(self) -> list[float]:
        inputs = ProfileInputs(
            event_time_ms=np.array([NOW_MS]),
            entities={"establecimiento": SHOP},
            values=np.empty((1, 0), np.float32),
            levels=np.empty((1, 0), np.uint32),
            ids=np.zeros(1, np.uint64),
        )
        found: list[float] = self.shared.values(inputs, (0, 1))[0][0].tolist()
        return found


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return profiled_dataset(tmp_path, PROFILES)


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, tmp_path)


@pytest.fixture
def producer(settings: Settings) -> Iterator[KafkaProducer]:
    made = KafkaProducer(bootstrap_servers=settings.bootstrap)
    yield made
    made.close()


def tiles(until_ms: int, count: int) -> ClosedTiles:
    rows = empty_rows(1, 0)
    rows[0, TIME], rows[0, COUNT] = until_ms, count
    return ClosedTiles(0, until_ms, SHOP, rows)


def send(producer: KafkaProducer, settings: Settings, dataset: Dataset, partition: int, closed: ClosedTiles) -> None:
    for value in encode_tiles(ProfilePlan.of(dataset), closed):
        producer.send(settings.profile_tiles_topic, value, partition=partition)
    producer.flush()


def label(id_: str, *, complete: bool = True, fraud: bool | None = True) -> bytes:
    found = Label(transaction_id=id_, fraud=fraud, reported_at_ms=NOW_MS - HOUR_MS)
    if complete:
        found = msgspec.structs.replace(
            found, event_time_ms=NOW_MS - 2 * DAY_MS, entities={"establecimiento": "tienda"}
        )
    return msgspec.json.encode(found)


def test_tiles_and_labels_of_all_partitions_are_read_before_ready_and_then_as_they_come(
    settings: Settings, dataset: Dataset, producer: KafkaProducer
) -> None:
    for partition, count in ((0, 3), (1, 4)):
        send(producer, settings, dataset, partition, tiles(NOW_MS - 3 * HOUR_MS, count))
        send(producer, settings, dataset, partition, tiles(NOW_MS - 2 * HOUR_MS, 10 * count))
        producer.send(settings.labels_topic, label(str(partition)), partition=partition)
    for value in (b"{", b"null", None, label("x", complete=False), label("y", fraud=None)):
        producer.send(settings.labels_topic, value, b"key", partition=0)
    producer.send(settings.profile_tiles_topic, b'{"profiles": 1}', partition=1)
    producer.flush()
    follower = FollowedProfiles(settings, dataset)
    assert not follower.reading.is_ready
    follower.reading.start()
    try:
        wait_for(lambda: follower.reading.is_ready, 120)
        assert follower.values() == [77.0, 2.0]
        assert sorted(follower.skipped) == [settings.labels_topic] * 3 + [settings.profile_tiles_topic]
        assert follower.unmatched == 1
        assert follower.shared.counts.incomplete == 1, "tiles until an hour ago are missing"
        send(producer, settings, dataset, 1, tiles(NOW_MS - HOUR_MS, 100))
        producer.send(settings.labels_topic, label("later"), partition=1)
        producer.flush()
        assert follower.reading.catch_up(120)
        assert follower.values() == [177.0, 3.0]
    finally:
        follower.reading.stop()
    assert not follower.reading.catch_up(0.1), "it has stopped"


def test_a_data_set_without_shared_profiles_reads_nothing(settings: Settings, tmp_path: Path) -> None:
    follower = FollowedProfiles(settings, profiled_dataset(tmp_path, KEY_PROFILES))
    follower.reading.start()
    assert follower.reading.is_ready
    assert follower.reading.catch_up()
    follower.reading.stop()
