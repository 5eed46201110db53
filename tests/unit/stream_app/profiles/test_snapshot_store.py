"""Snapshots of profiles: whole or refused, the newest that fits, a bounded number."""

import logging
from pathlib import Path

import numpy as np
import pytest

from schemas.configuration.settings import load
from stream_app.profiles.snapshot_file import (
    Snapshot,
    SnapshotError,
    SnapshotPosition,
    read_snapshot,
    write_snapshot,
)
from stream_app.profiles.snapshot_store import FOLDER, LocalFolder, SnapshotStore
from stream_app.registry.artifact_folder import ArtifactFolder

TOPIC = "transactions"
TOPIC_ID = "hT2xNq8vR1iQz5aYb0cDeg"


def snapshot(next_offset: int = 100, *, digest: str = "58a3", topic_id: str = TOPIC_ID) -> Snapshot:
    rng = np.random.default_rng(next_offset)
    position = SnapshotPosition(topic=TOPIC, topic_id=topic_id, partition=3, next_offset=next_offset, digest=digest)
    arrays = {
        "keys": rng.integers(0, 1 << 63, 5_000).astype(np.uint64),
        "events": rng.random((5_000, 3)).astype(np.float32),
        "empty": np.zeros((0, 4), dtype=np.int16),
        "watermark": np.array([1_577_836_800_000]),
    }
    return Snapshot(position, arrays)


def shared(folder: Path) -> ArtifactFolder:
    return ArtifactFolder(load({}), str(folder / "shared"), setting="profile_snapshot_root")


def newest(store: SnapshotStore, max_offset: int = 1_000) -> tuple[int | None, str]:
    found, why = store.newest(TOPIC, 3, topic_id=TOPIC_ID, digest="58a3", max_offset=max_offset)
    return found and found.position.next_offset, why


def test_a_snapshot_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = snapshot()
    write_snapshot(tmp_path / "file", written)
    read = read_snapshot(tmp_path / "file")
    assert read.position == written.position
    assert read.arrays.keys() == written.arrays.keys()
    for name, array in written.arrays.items():
        assert read.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(read.arrays[name], array)


def test_every_kind_of_damage_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_snapshot(path, snapshot())
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    damaged = [whole[:n] for n in (0, 5, 12, 20, len(whole) // 2, len(whole) - 1)]
    damaged += [b"x" + whole[1:], whole[:8] + b"\x02" + whole[9:]]
    for at in [*range(12, 40), *rng.integers(12, len(whole), 200).tolist()]:
        damaged.append(whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :])
    accepted = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            accepted += any(
                not np.array_equal(array, snapshot().arrays[name]) for name, array in read_snapshot(path).arrays.items()
            )
        except SnapshotError:
            continue
    assert accepted == 0


def test_the_newest_snapshot_that_fits_is_found(tmp_path: Path) -> None:
    store = SnapshotStore(LocalFolder(tmp_path))
    for offset in (100, 300):
        assert store.save(snapshot(offset))
    assert newest(store) == (300, "snapshot at offset 300")
    assert newest(store, max_offset=299) == (100, "snapshot at offset 100")
    assert newest(store, max_offset=99) == (None, "2 are ahead of the committed offset")


def test_a_reason_is_given_when_none_fits(tmp_path: Path) -> None:
    store = SnapshotStore(LocalFolder(tmp_path))
    assert newest(store) == (None, "there is none")
    store.save(snapshot(100, digest="0b5e"))
    store.save(snapshot(200, topic_id="made-anew"))
    assert newest(store) == (
        None,
        "1 belong to another declaration of the profiles; 1 belong to an earlier topic of this name",
    )


def test_a_damaged_snapshot_gives_way_to_an_older_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SnapshotStore(LocalFolder(tmp_path))
    for offset in (100, 300):
        store.save(snapshot(offset))
    (path,) = (tmp_path / FOLDER).glob("*/*300.*")
    path.write_bytes(path.read_bytes()[:-10])
    with caplog.at_level(logging.ERROR):
        assert newest(store) == (100, "snapshot at offset 100")
    assert "is not used: it is damaged" in caplog.text


def test_a_renamed_snapshot_is_refused(tmp_path: Path) -> None:
    store = SnapshotStore(LocalFolder(tmp_path))
    store.save(snapshot(900))
    (path,) = (tmp_path / FOLDER).glob("*/*")
    path.rename(path.with_name(path.name.replace("900", "500")))
    found, why = newest(store)
    assert found is None
    assert "another position than its name" in why


def test_two_snapshots_are_kept_and_two_of_another_declaration(tmp_path: Path) -> None:
    store = SnapshotStore(LocalFolder(tmp_path))
    for offset in range(100, 600, 100):
        store.save(snapshot(offset, digest="0b5e"))
        store.save(snapshot(offset))
    names = sorted(path.name for path in (tmp_path / FOLDER).glob("*/*"))
    assert [name[17:26] for name in names] == ["400.0b5e.", "400.58a3.", "500.0b5e.", "500.58a3."]


def test_another_worker_finds_the_snapshot_in_the_shared_place(tmp_path: Path) -> None:
    for offset in (100, 200, 300):
        SnapshotStore(LocalFolder(tmp_path / "a"), shared(tmp_path)).save(snapshot(offset))
    other = SnapshotStore(LocalFolder(tmp_path / "b"), shared(tmp_path))
    assert newest(other) == (300, "snapshot at offset 300")
    assert len(list((tmp_path / "shared").glob("*/*.snapshot"))) == 2


def test_a_shared_place_that_fails_does_not_hide_the_local_snapshot(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("a file, not a folder")
    store = SnapshotStore(LocalFolder(tmp_path), shared(tmp_path))
    store.save(snapshot(100))
    assert newest(store) == (100, "snapshot at offset 100")
