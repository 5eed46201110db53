"""Profiles of the key equal a scan over all earlier transactions, whatever their order and however they are batched."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from scoring.profiles.keys import key_state
from scoring.profiles.keys.key_profiles import KeyProfiles
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.windows import tile_ms

TOML = """
name = "cards"
key = "card"
transaction_id = "id"
features = ["amount"]
[event_time]
date = "time"
formats = ["epoch_ms"]
[[fields]]
name = "amount"
kind = "number"
[[fields]]
name = "city"
kind = "category"
[[profiles]]
entity = "card"
windows = ["1h", "12h", "7d", "30d"]
features = ["count", "sum(amount)", "mean(amount)", "max(amount)", "std(amount)", "ratio(amount)", "ratio_max(amount)",
  "zscore(amount)", "distinct(city)", "seconds_since_last", "is_new(city)"]
"""


class CardRow(NamedTuple):
    card: int
    time_ms: int
    amount: float | None
    city: int  # 0: missing
    id: int  # 0: none


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ProfilePlan:
    return ProfilePlan.of(cards(str(tmp_path_factory.mktemp("declaration"))))


@cache
def cards(folder: str) -> Dataset:
    path = Path(folder) / "cards.toml"
    path.write_text(TOML)
    return load_dataset(str(path))


def inputs(rows: Sequence[CardRow]) -> ProfileInputs:
    return ProfileInputs(
        event_time_ms=np.array([r.time_ms for r in rows], np.int64),
        entities={"card": np.array([r.card for r in rows], np.uint64)},
        values=np.array([[math.nan if r.amount is None else r.amount] for r in rows], np.float32).reshape(-1, 1),
        levels=np.array([[r.city] for r in rows], np.uint32).reshape(-1, 1),
        ids=np.array([r.id for r in rows], np.uint64),
    )


def folded(plan: ProfilePlan, rows: Sequence[CardRow], batch: int, *, restoring: bool = False) -> np.ndarray:
    profiles, parts = KeyProfiles(plan), []
    for i in range(0, len(rows), batch):
        part = inputs(rows[i : i + batch])
        parts.append(profiles.update(part, part.entities["card"])[0])
        if restoring:
            profiles = KeyProfiles.from_arrays(plan, profiles.to_arrays())
    return np.concatenate(parts)


def scanned(plan: ProfilePlan, rows: Sequence[CardRow]) -> np.ndarray:
    """The features by a scan over all earlier transactions, in exact integers."""
    out, kept = np.full((len(rows), len(plan.features)), np.nan), list[CardRow]()
    reach_ms = 30 * DAY_MS + 2 * tile_ms(30 * DAY_MS)
    watermark_ms = -(2**62)
    for i, row in enumerate(rows):
        watermark_ms = max(watermark_ms, row.time_ms)
        purged_ms = watermark_ms // DAY_MS * DAY_MS - reach_ms - DAY_MS
        mine = [r for r in kept if r.card == row.card]
        newest = max((r.time_ms for r in mine), default=-(2**62))
        known = [r for r in mine if max(purged_ms, newest - reach_ms) < r.time_ms <= row.time_ms]
        for k, f in enumerate(plan.features):
            window_ms = f.window_ms or 30 * DAY_MS
            grain = tile_ms(window_ms)
            tail = (row.time_ms - window_ms) // grain * grain
            out[i, k] = aggregated(f.aggregate, [r for r in known if r.time_ms > tail], row)
        least_ms = max(purged_ms, max(row.time_ms, newest) - reach_ms)
        repeated = row.id and any(r.id == row.id and r.time_ms > least_ms for r in mine)
        if not repeated and row.time_ms > max(purged_ms, newest - reach_ms):
            kept.append(row)
    return out.astype(np.float32)


def aggregated(aggregate: str, inside: list[CardRow], row: CardRow) -> float:
    amounts = [float(np.float32(r.amount)) for r in inside if r.amount is not None]
    units = [round(a * 2**20) for a in amounts]
    own = math.nan if row.amount is None else float(np.float32(row.amount))
    if aggregate == "count":
        return len(inside)
    if aggregate == "seconds_since_last":
        return (row.time_ms - max(r.time_ms for r in inside)) / 1000 if inside else math.nan
    if aggregate == "distinct":
        return len({r.city for r in inside} - {0})
    if aggregate == "is_new":
        return math.nan if not row.city else float(row.city not in {r.city for r in inside})
    if aggregate == "sum":
        return sum(units) / 2**20
    if not amounts:
        return math.nan
    mean, top = sum(units) / 2**20 / len(units), max(amounts)
    variance = (len(units) * sum(u * u for u in units) - sum(units) ** 2) / len(units) ** 2 / 2**40
    std = math.sqrt(variance)
    if aggregate == "zscore":
        return (own - mean) / std if std else math.nan
    if aggregate in ("ratio", "ratio_max"):
        divisor = mean if aggregate == "ratio" else top
        return own / divisor if divisor else math.nan
    return {"mean": mean, "max": top, "std": std}[aggregate]


steps = st.one_of(
    st.just(0),  # ties
    st.integers(-2 * MINUTE_MS, 10 * MINUTE_MS),
    st.integers(-DAY_MS, HOUR_MS * 30),
    st.integers(0, 45 * DAY_MS),  # gaps
    st.sampled_from([5 * MINUTE_MS, HOUR_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS, -HOUR_MS]),
)
rows_of = st.lists(
    st.tuples(
        st.integers(1, 3),
        steps,
        st.one_of(st.none(), st.integers(-10_000, 500_000).map(lambda cents: cents / 100), st.just(12.34)),
        st.integers(0, 4),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=60,
)


@given(rows_of, st.integers(1, 70))
def test_features_equal_a_scan_over_all_earlier_transactions(
    plan: ProfilePlan, steps_of: list[tuple[int, int, float | None, int, int]], batch: int
) -> None:
    rows, time_ms = [], 1_600_000_000_000
    for card, step, amount, city, id_ in steps_of:
        time_ms += step
        rows.append(CardRow(card, time_ms, amount, city, id_))
    expected = scanned(plan, rows)
    np.testing.assert_allclose(folded(plan, rows, batch), expected, rtol=1e-6)
    assert np.array_equal(folded(plan, rows, batch), folded(plan, rows, 1, restoring=True), equal_nan=True)


def test_a_busy_key_keeps_exact_sums_in_bounded_memory(plan: ProfilePlan) -> None:
    draw, time_ms, rows = np.random.default_rng(5), 1_600_000_000_000, []
    for i in range(6_000):
        time_ms += int(draw.integers(0, 15 * MINUTE_MS)) - 3 * MINUTE_MS
        rows.append(CardRow(1, time_ms, float(draw.integers(1, 99_999)) / 100, int(draw.integers(1, 5)), i + 1))
    profiles, parts = KeyProfiles(plan), []
    for i in range(0, len(rows), 700):
        part = inputs(rows[i : i + 700])
        parts.append(profiles.update(part, part.entities["card"])[0])
        profiles = KeyProfiles.from_arrays(plan, profiles.to_arrays())
    values, times = np.concatenate(parts), np.array([r.time_ms for r in rows])
    amounts = np.array([np.float32(r.amount) for r in rows], np.float64)
    assert int(profiles.totals[key_state.MERGED]) > 4_000
    assert profiles.n_bytes < 200_000
    for name, window_ms in (("1h", HOUR_MS), ("7d", 7 * DAY_MS), ("30d", 30 * DAY_MS)):
        count, mean = (plan.names.index(f"card_{a}_{name}") for a in ("count", "mean_amount"))
        for i in range(500, len(rows), 97):
            tail = (times[i] - window_ms) // tile_ms(window_ms) * tile_ms(window_ms)
            inside = np.flatnonzero((times[:i] > tail) & (times[:i] <= times[i]))
            assert values[i, count] == len(inside)
            if len(inside):
                assert values[i, mean] == pytest.approx(amounts[inside].mean(), rel=1e-5)
