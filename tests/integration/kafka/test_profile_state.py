"""The state of profiles: the same values whether a worker has read a partition from its start or was given it."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.records import FeatureRecord
from schemas.tile_records import TileRecord
from scoring.arrays import Matrix
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_fold import ProfileFold
from scoring.profiles.shared.open_tiles import ClosedTiles
from scoring.profiles.shared.tile_log import TileAssembly
from stream_app.decisions.handler import HandlerPolicy, clean_records
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import read_to_end
from stream_app.profiles.profile_state import ProfileState
from stream_app.profiles.snapshot_store import FOLDER, LocalFolder, SnapshotStore
from stream_app.worker.worker_metrics import WorkerMetrics
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, running_worker, wait_for

pytestmark = pytest.mark.kafka
N = 3_000
PROFILES = """
[[profiles]]
entity = "ID_USER"
windows = ["1h", "1d", "7d"]
features = ["count", "sum(monto)", "std(monto)", "ratio(monto)", "distinct(ciudad)", "seconds_since_last"]
"""


def declaration(folder: Path, profiles: str = PROFILES) -> str:
    """The path of a declaration with profiles."""
    shipped = Path("schemas/dataset/card_transactions.toml").read_text(encoding="utf-8")
    path = folder / "with_profiles.toml"
    path.write_text(shipped + profiles, encoding="utf-8")
    return str(path)


def payloads(n: int, seed: int = 1) -> Sequence[tuple[bytes, bytes]]:
    """Keys and payloads of few cards, so that each has a past; some cannot be scored."""
    traffic = Traffic(rows=n, seed=seed, days=10, payload_format="mixed", invalid_share=0.01, users=60)
    return [(key or b"", value) for key, value in keyed_payloads(traffic)]


def send(settings: Settings, messages: Sequence[tuple[bytes, bytes]]) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap, linger_ms=5)
    try:
        for future in [producer.send(settings.transactions_topic, key=k, value=v) for k, v in messages]:
            future.get(60)
    finally:
        producer.close()


def read(settings: Settings, partition: int) -> list[Any]:
    found = [r for records in read_to_end(settings.bootstrap, settings.transactions_topic) for r in records]
    return sorted((r for r in found if r.partition == partition), key=lambda r: r.offset)


class NothingShared:
    """A follower without topics."""

    is_ready = True
    progress = ""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def catch_up(self, timeout_s: float | None = None) -> bool:
        return True


class World:
    """A topic with transactions, and states of profiles that begin without any memory."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = msgspec.structs.replace(settings, dataset=declaration(folder))
        self.dataset = load_dataset(self.settings.dataset)
        self.policy = HandlerPolicy.from_settings(self.settings, self.dataset, counting=False)
        self.topic_id = topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic]
        self.store = SnapshotStore(LocalFolder(settings.state_dir))
        self.records = read(settings, 0)
        self.metrics = WorkerMetrics()

    def state(self) -> ProfileState:
        fold = ProfileFold(self.dataset, range(self.settings.partitions), threading.Lock())
        follower = NothingShared()
        return ProfileState(
            self.settings, fold, self.policy, self.store, follower, metrics=self.metrics, exit_=self.fail
        )

    def fail(self, error: BaseException) -> None:
        raise error

    def restored(self, offset: int) -> ProfileState:
        """The state of a worker that is given partition 0 at an offset."""
        state = self.state()
        assert state.assign({0: offset}, self.topic_id) == {0}
        wait_for(lambda: state.has_restored, 120)
        assert state.take_restored() == {0}
        return state

    def values(self, state: ProfileState, records: Sequence[Any]) -> Matrix:
        """Features of records that are decided."""
        cleaned, _ = clean_records(records, self.policy)
        partitions = np.array([r.partition for r in records])
        return state.fold.features(cleaned, partitions, np.array([r.offset for r in records])).values

    def from_the_start(self) -> Matrix:
        """Features of all records, in one fold."""
        state = self.state()
        state.fold.assign(0, PartitionProfiles(state.fold.plan))
        return self.values(state, self.records)

    def accepted(self, records: Sequence[Any]) -> int:
        return len(clean_records(records, self.policy)[0].rows)


@pytest.fixture(scope="module")
def topic(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = isolated_settings(kafka.bootstrap_servers, tmp_path_factory.mktemp("state"), partitions=1)
    send(settings, payloads(N))
    return settings


@pytest.fixture
def world(topic: Settings, tmp_path: Path) -> World:
    return World(msgspec.structs.replace(topic, state_dir=tmp_path), tmp_path)


def save(world: World, state: ProfileState) -> None:
    """What a worker does at its end, after its last commit."""
    state.committed({0: state.fold.partitions[0].next_offset})
    state.retain(set())
    wait_for(lambda: state._writer._work_queue.empty() and list(snapshots(world)), 10)
    with ThreadPoolExecutor(1) as waiting:
        waiting.submit(state._writer.submit(lambda: None).result).result()


def snapshots(world: World) -> list[Path]:
    return sorted((world.settings.state_dir / FOLDER).glob("*/*.snapshot"))


def test_a_partition_is_restored_from_the_start_of_the_topic(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        state = world.restored(2_000)
    assert "no snapshot is used (there is none); reading the partition from its start" in caplog.text
    values = world.values(state, world.records[2_000:])
    np.testing.assert_array_equal(values, world.from_the_start()[-len(values) :])
    assert np.nanmax(values[:, 0:3]) > 3  # a past is remembered


def test_a_snapshot_and_a_replay_of_the_rest_give_the_same_bits(world: World, caplog: pytest.LogCaptureFixture) -> None:
    first = world.restored(0)
    world.values(first, world.records[:1_500])
    save(world, first)
    with caplog.at_level(logging.INFO):
        state = world.restored(2_000)
    assert "restored up to offset 2000" in caplog.text
    assert "500 records read" in caplog.text
    values = world.values(state, world.records[2_000:])
    np.testing.assert_array_equal(values, world.from_the_start()[-len(values) :])


def damage(world: World) -> None:
    (path,) = snapshots(world)
    path.write_bytes(path.read_bytes()[:-100])


def redeclare(world: World) -> None:
    world.settings = msgspec.structs.replace(
        world.settings, dataset=declaration(world.settings.state_dir, PROFILES.replace('"1d", ', ""))
    )
    world.dataset = load_dataset(world.settings.dataset)
    world.policy = world.policy._replace(dataset=world.dataset)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(damage, "is not used: it is damaged"), (redeclare, "1 belong to another declaration of the profiles")],
)
def test_without_a_usable_snapshot_the_partition_is_read_from_its_start(
    world: World, caplog: pytest.LogCaptureFixture, fault: Callable[[World], None], reason: str
) -> None:
    first = world.restored(0)
    world.values(first, world.records[:1_500])
    save(world, first)
    fault(world)
    with caplog.at_level(logging.INFO):
        state = world.restored(2_000)
    assert reason in caplog.text
    values = world.values(state, world.records[2_000:])
    np.testing.assert_array_equal(values, world.from_the_start()[-len(values) :])


def test_a_snapshot_ahead_of_the_committed_offset_is_not_used(world: World, caplog: pytest.LogCaptureFixture) -> None:
    first = world.restored(0)
    world.values(first, world.records[:2_500])
    save(world, first)
    with caplog.at_level(logging.INFO):
        state = world.restored(2_000)
    assert "1 are ahead of the committed offset" in caplog.text
    values = world.values(state, world.records[2_000:])
    np.testing.assert_array_equal(values, world.from_the_start()[-len(values) :])


def test_nothing_that_is_not_committed_is_saved(world: World) -> None:
    state = world.restored(0)
    world.values(state, world.records[:1_500])
    state.committed({0: 1_000})
    state.retain(set())
    state._writer.submit(lambda: None).result()
    assert snapshots(world) == []


def test_a_partition_that_stays_keeps_its_state_over_a_rebalance(world: World) -> None:
    state = world.restored(0)
    before = world.values(state, world.records[:1_500])
    state.committed({0: 1_000})
    state.forget_committed()
    assert state.assign({0: 1_000}, world.topic_id) == set()  # its last batch was not committed
    again = world.values(state, world.records[1_000:2_000])
    n = world.accepted(world.records[1_000:1_500])
    np.testing.assert_array_equal(again[:n], before[-n:])
    np.testing.assert_array_equal(again, world.from_the_start()[len(before) - n :][: len(again)])


def test_offsets_that_go_back_behind_what_is_kept_restore_the_partition(world: World) -> None:
    state = world.restored(0)
    world.values(state, world.records[:1_500])
    state.committed({0: 1_500})
    state.forget_committed()
    assert state.assign({0: 700}, world.topic_id) == {0}
    wait_for(lambda: state.has_restored, 120)
    state.take_restored()
    values = world.values(state, world.records[700:1_000])
    start = world.accepted(world.records[:700])
    np.testing.assert_array_equal(values, world.from_the_start()[start : start + len(values)])


def test_a_recreated_topic_begins_without_memory(world: World) -> None:
    state = world.restored(0)
    world.values(state, world.records[:1_500])
    state.committed({0: 1_500})
    assert state.assign({0: 0}, "another-topic-of-thisA") == {0}
    wait_for(lambda: state.has_restored, 120)
    state.take_restored()
    assert state.fold.partitions[0].counts.keys == 0


def test_records_that_the_previous_owner_decided_meanwhile_are_folded(world: World) -> None:
    state = world.restored(1_000)
    state.fold_decided(world.records[1_000:1_400])
    values = world.values(state, world.records[1_400:])
    np.testing.assert_array_equal(values, world.from_the_start()[-len(values) :])


def test_tiles_that_nobody_published_are_published_with_the_next_batch(world: World) -> None:
    tiles = """
[[profiles]]
entity = "establecimiento"
windows = ["1d"]
features = ["count"]
"""
    world.settings = msgspec.structs.replace(world.settings, dataset=declaration(world.settings.state_dir, tiles))
    world.dataset = load_dataset(world.settings.dataset)
    world.policy = world.policy._replace(dataset=world.dataset)
    state = world.restored(2_000)  # the declaration is new, so that no worker has closed them before
    restored = published(state)
    assert sum(len(tiles.rows) for tiles in restored) > 100
    assert state.fold.shared.closed_until(0, 0) == restored[-1].until_ms
    state.published({0})
    assert published(state) == []
    again = world.state()
    for each in restored:  # as a follower of the topic adds them
        again.fold.shared.add_tiles(0, each)
    again.assign({0: 2_000}, world.topic_id)
    wait_for(lambda: again.has_restored, 120)
    assert published(again) == []


def published(state: ProfileState) -> list[ClosedTiles]:
    """The tiles in the records of the next batch."""
    assembly = TileAssembly(state.fold.plan)
    records = [msgspec.json.decode(r.value or b"", type=TileRecord) for r in state.tile_records({0: []})]
    return [tiles for record in records if isinstance(tiles := assembly.add(0, record), ClosedTiles)]


def logged(settings: Settings) -> dict[tuple[int, int], bytes]:
    """The values in the feature log, by partition and input offset; of a repeated decision, those must agree."""
    found: dict[tuple[int, int], bytes] = {}
    for records in read_to_end(settings.bootstrap, settings.feature_log_topic):
        for record in records:
            feature = msgspec.json.decode(record.value, type=FeatureRecord)
            place = record.partition, feature.input_offset
            assert found.setdefault(place, feature.values) == feature.values, place
    return found


def offline(settings: Settings) -> dict[tuple[int, int], bytes]:
    """The same from one fold of each partition, from its start."""
    dataset = load_dataset(settings.dataset)
    policy = HandlerPolicy.from_settings(settings, dataset, counting=False)
    fold = ProfileFold(dataset, range(settings.partitions))
    found = {}
    for partition in range(settings.partitions):
        fold.assign(partition, PartitionProfiles(fold.plan))
        records = read(settings, partition)
        cleaned, _ = clean_records(records, policy)
        values = fold.features(cleaned, np.full(len(records), partition), np.array([r.offset for r in records])).values
        places = [(partition, records[row].offset) for row in cleaned.rows.tolist()]
        found |= {place: row.astype("<f4").tobytes() for place, row in zip(places, values, strict=True)}
    return found


def test_workers_log_the_values_of_one_fold_over_a_rebalance_and_a_takeover(
    kafka: Kafka, simulated_registry: Settings, tmp_path: Path
) -> None:
    settings = isolated_settings(
        kafka.bootstrap_servers,
        tmp_path / "a",
        processing_guarantee="exactly-once",
        mlflow_tracking_uri=simulated_registry.tracking_uri,
        dataset=declaration(tmp_path),
        profile_snapshot_seconds=1,
        profile_snapshot_root=str(tmp_path / "shared"),
    )
    other = msgspec.structs.replace(settings, state_dir=tmp_path / "b")
    messages = payloads(4 * N, seed=2)

    def all_decided() -> None:
        expected = len(offline(settings))
        wait_for(lambda: len(logged(settings)) == expected, 60, lambda: f"{len(logged(settings))} of {expected}")

    send(settings, messages[:N])
    with running_worker(settings, tmp_path) as worker:
        all_decided()
        send(settings, messages[N : 2 * N])
        with running_worker(other, tmp_path) as second:  # takes one of the partitions over
            send(settings, messages[2 * N : 3 * N])
            all_decided()
            assert worker.stop() == 0
            send(settings, messages[3 * N :])
            second.wait_until_ready()
            all_decided()
            assert "restored up to offset" in second.log.read_text()
            assert second.stop() == 0
    assert list((tmp_path / "shared").glob("*/*.snapshot"))
    assert logged(settings) == offline(settings)
