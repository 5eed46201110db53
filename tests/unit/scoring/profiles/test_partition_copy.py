"""A copy that is made while transactions are folded equals the state at its end."""

from pathlib import Path

import numpy as np
import pytest

from schemas.dataset.declaration import load_dataset
from schemas.time_units import DAY_MS
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan

DECLARATION = """
[[profiles]]
entity = "ID_USER"
windows = ["1h", "2d"]
features = ["count", "mean(monto)", "distinct(ciudad)"]
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ProfilePlan:
    path = tmp_path_factory.mktemp("declaration") / "cards.toml"
    path.write_text(Path("schemas/dataset/card_transactions.toml").read_text(encoding="utf-8") + DECLARATION)
    return ProfilePlan.of(load_dataset(str(path)))


def traffic(rng: np.random.Generator, n: int, cards: int, from_ms: int, until_ms: int) -> ProfileInputs:
    return ProfileInputs(
        event_time_ms=np.sort(rng.integers(from_ms, until_ms, n)),
        entities={"ID_USER": rng.integers(1, cards + 1, n).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)},
        values=rng.lognormal(3, 1, (n, 1)).astype(np.float32),
        levels=rng.integers(1, 9, (n, 1)).astype(np.uint32),
        ids=rng.integers(1, 1 << 62, n).astype(np.uint64),
    )


@pytest.mark.parametrize("order", ["copied first", "folded first"])
@pytest.mark.parametrize("days", [1, 6])  # after 6 days the first keys are forgotten, and their room is used again
def test_a_copy_holds_what_is_folded_until_its_end(plan: ProfilePlan, days: int, order: str) -> None:
    rng = np.random.default_rng(1)
    profiles = PartitionProfiles(plan)
    profiles.update(traffic(rng, 20_000, 2_000, 0, DAY_MS), 20_000)
    copying = profiles.begin_copy()
    if order == "copied first":
        copying.copy_events()
    # Other cards, so that the arrays grow, and some of the first ones.
    profiles.update(traffic(rng, 20_000, 9_000, DAY_MS * days, DAY_MS * (days + 1)), 40_000)
    if order == "folded first":
        copying.copy_events()
    copy = copying.finish()
    assert copy.next_offset == 40_000
    expected, found = profiles.to_arrays(), copy.to_arrays()
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_later_copy_is_right_too(plan: ProfilePlan) -> None:
    rng = np.random.default_rng(2)
    profiles = PartitionProfiles(plan)
    for day in range(4):
        copying = profiles.begin_copy()
        copying.copy_events()
        profiles.update(traffic(rng, 5_000, 500, DAY_MS * day, DAY_MS * (day + 1)), 5_000 * (day + 1))
        found = copying.finish().to_arrays()
        for name, array in profiles.to_arrays().items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)
