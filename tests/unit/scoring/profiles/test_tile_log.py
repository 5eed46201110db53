"""Closed tiles as records, and labels of the topic as inputs."""

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from schemas.records import Label
from schemas.tile_records import TileRecord
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.profiles.aggregate_rows import add_transaction, empty_rows
from scoring.profiles.profile_inputs import hashes
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared import tile_log
from scoring.profiles.shared.label_inputs import label_inputs
from scoring.profiles.shared.open_tiles import ClosedTiles
from scoring.profiles.shared.tile_log import TileAssembly, encode_tiles
from tests.helpers.traffic.profiled_dataset import profiled_dataset

PROFILES = """
[[profiles]]
entity = "establecimiento"
windows = ["1d"]
features = ["count", "mean(monto)"]

[[profiles]]
entity = "establecimiento"
windows = ["7d"]
label_delay = "7d"
features = ["fraud_rate"]

[[profiles]]
entity = "ID_USER"
windows = ["7d"]
label_delay = "7d"
features = ["fraud_rate"]
"""


@pytest.fixture
def plan(tmp_path: Path) -> ProfilePlan:
    return ProfilePlan.of(profiled_dataset(tmp_path, PROFILES))


def closed(n: int) -> ClosedTiles:
    chance = random.Random(n)
    rows = empty_rows(n, 1)
    for row in rows:
        add_transaction(row, DAY_MS - chance.randrange(HOUR_MS), np.array([chance.random()], np.float32))
    return ClosedTiles(0, DAY_MS, np.arange(1, n + 1, dtype=np.uint64), rows)


def records_of(plan: ProfilePlan, tiles: ClosedTiles) -> list[TileRecord]:
    return [msgspec.json.decode(value, type=TileRecord) for value in encode_tiles(plan, tiles)]


@pytest.mark.parametrize("n", [0, 1, 10])
def test_tiles_come_back_from_their_records(plan: ProfilePlan, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_log, "MAX_PART_BYTES", 300)
    tiles, assembly = closed(n), TileAssembly(plan)
    records = records_of(plan, tiles)
    assert len(records) == {0: 1, 1: 1, 10: 3}[n]
    *begun, found = [assembly.add(3, record) for record in records]
    assert begun == [None] * (len(records) - 1)
    assert isinstance(found, ClosedTiles)
    assert (found.profile, found.until_ms) == (0, DAY_MS)
    assert np.array_equal(found.entities, tiles.entities)
    assert np.array_equal(found.rows, tiles.rows)


def test_parts_of_a_writer_that_died_are_replaced_by_those_of_the_next(
    plan: ProfilePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_log, "MAX_PART_BYTES", 300)
    tiles, assembly = closed(10), TileAssembly(plan)
    records = records_of(plan, tiles)
    found = [assembly.add(0, record) for record in [*records[:2], *records]][-1]
    assert isinstance(found, ClosedTiles)
    assert len(found.entities) == 10
    assert "missing" in str(assembly.add(0, records[1]))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"profile": 1}, "no profile of tiles"),
        ({"until_ms": DAY_MS + 1}, "no end of a tile"),
        ({"until_ms": DAY_MS - HOUR_MS}, "lies before a tile's time"),
        ({"rows": b""}, "are not 10 rows"),
        ({"rows": b"\0" * 640}, "no transaction"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(plan: ProfilePlan, change: dict[str, object], why: str) -> None:
    (record,) = records_of(plan, closed(10))
    assert why in str(TileAssembly(plan).add(0, msgspec.structs.replace(record, **change)))


def test_records_of_another_declaration_are_ignored(plan: ProfilePlan) -> None:
    (record,) = records_of(plan, closed(10))
    assert TileAssembly(plan).add(0, msgspec.structs.replace(record, profiles="other")) is None


def test_labels_without_time_or_entity_or_verdict_are_left_out(tmp_path: Path) -> None:
    dataset = profiled_dataset(tmp_path, PROFILES)
    label = Label(transaction_id="a", fraud=True, reported_at_ms=9 * DAY_MS)
    complete = {"event_time_ms": DAY_MS, "entities": {"establecimiento": " Tienda ", "ID_USER": "7", "other": "x"}}
    labels = [
        label,
        msgspec.structs.replace(label, event_time_ms=DAY_MS),
        msgspec.structs.replace(label, event_time_ms=DAY_MS, entities={"other": "x", "establecimiento": " "}),
        msgspec.structs.replace(label, **complete),
        msgspec.structs.replace(label, event_time_ms=DAY_MS, entities={"ID_USER": "7"}, fraud=False),
        msgspec.structs.replace(label, **complete, fraud=None),
    ]
    inputs = label_inputs(ProfilePlan.of(dataset), labels)
    assert len(labels) - len(inputs.ids) == 4
    assert inputs.entities["establecimiento"].tolist() == hashes(["Tienda", None]).tolist()
    assert inputs.entities["ID_USER"].tolist() == hashes(["7", "7"]).tolist()
    assert inputs.fraud.tolist() == [True, False]
    assert inputs.ids.tolist() == hashes(["a", "a"]).tolist()
