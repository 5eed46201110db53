"""Features from tiles and labels against a scan of all transactions and labels in plain Python.

offset of a partition    1      2      3      4
event time               09:01  09:04  09:06  09:03     tile (09:00, 09:05] closes at offset 3; offset 4 is late
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dataset.profiles import Profile, ProfileFeature, ProfileForm, resolve_profile
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from scoring.arrays import Matrix
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.label_store import MAX_LABELS, LabelInputs
from scoring.profiles.shared.open_tiles import ClosedTiles, OpenTiles
from scoring.profiles.shared.shared_profiles import SharedProfiles
from scoring.profiles.windows import tile_ms

NUMBERS = ("amount", "age")
WINDOWS = ("30m", "2h", "1d", "3d", "20d")
AGGREGATES = ("count", "sum(amount)", "mean(age)", "max(amount)", "std(amount)", "ratio(age)", "ratio_max(amount)")
LABEL_AGGREGATES = ("labelled_count", "fraud_count", "fraud_rate", "frauds_in_row", "last_label", "seconds_since_fraud")


class ShopPayment(NamedTuple):
    shop: int
    time_ms: int
    amount: float
    age: float
    is_new: bool = True


class ShopLabel(NamedTuple):
    shop: int
    time_ms: int
    reported_ms: int
    fraud: bool
    id: int


def plan_of(*profiles: Profile) -> ProfilePlan:
    return ProfilePlan(
        key="card",
        profiles=profiles,
        number_fields=NUMBERS,
        category_fields=(),
        entities=("card", "shop"),
        missing={"card": (), "shop": ()},
        features=tuple(f for p in profiles for f in p.features),
        digest="",
        has_ids=True,
    )


def tiles_profile(windows: Sequence[str], features: Sequence[str] = AGGREGATES, lag: str = "10m") -> Profile:
    return resolve_profile(
        ProfileForm(entity="shop", windows=tuple(windows), features=tuple(features), lag=lag), "card"
    )


def labels_profile(windows: Sequence[str], delay: str) -> Profile:
    form = ProfileForm(
        entity="shop", windows=tuple(windows), features=LABEL_AGGREGATES, label_delay=delay, base_rate=0.25
    )
    return resolve_profile(form, "card")


def inputs_of(events: Sequence[ShopPayment]) -> ProfileInputs:
    n = len(events)
    return ProfileInputs(
        event_time_ms=np.array([e.time_ms for e in events], np.int64),
        entities={"card": np.ones(n, np.uint64), "shop": np.array([e.shop for e in events], np.uint64)},
        values=np.array([[e.amount, e.age] for e in events], np.float32).reshape(n, 2),
        levels=np.empty((n, 0), np.uint32),
        ids=np.zeros(n, np.uint64),
    )


def label_inputs(labels: Sequence[ShopLabel]) -> LabelInputs:
    return LabelInputs(
        entities={"shop": np.array([x.shop for x in labels], np.uint64)},
        event_time_ms=np.array([x.time_ms for x in labels], np.int64),
        reported_at_ms=np.array([x.reported_ms for x in labels], np.int64),
        fraud=np.array([x.fraud for x in labels], np.bool_),
        ids=np.array([x.id for x in labels], np.uint64),
    )


def flags_of(events: Sequence[ShopPayment]) -> np.ndarray:
    return np.array([e.is_new for e in events], np.bool_)


def kept(events: Sequence[ShopPayment], grain_ms: int) -> tuple[list[ShopPayment], int, int]:
    """Transactions that tiles count, number of late ones, and the time up to which tiles closed."""
    found, late, until = [], 0, None
    for event in events:
        if until is None or event.time_ms > until + grain_ms:
            until = (event.time_ms - 1) // grain_ms * grain_ms
        if event.is_new and event.shop:
            if event.time_ms > until:
                found.append(event)
            else:
                late += 1
    return found, late, -(1 << 62) if until is None else until


def of_tiles(profile: Profile, feature: ProfileFeature, events: Sequence[ShopPayment], event: ShopPayment) -> float:
    """A feature by its definition. events: of all partitions, without late ones."""
    assert feature.window_ms is not None
    if not event.shop:
        return math.nan
    grain = tile_ms(profile.windows_ms[0])
    limit = (event.time_ms - profile.lag_ms) // grain * grain
    tail = (event.time_ms - feature.window_ms) // tile_ms(feature.window_ms) * tile_ms(feature.window_ms)
    seen = [e for e in events if e.shop == event.shop and tail < e.time_ms <= limit]
    if feature.field is None:
        return float(len(seen))
    values = [round(getattr(e, feature.field) * 2**20) for e in seen if not math.isnan(getattr(e, feature.field))]
    own, n, total = getattr(event, feature.field), len(values), sum(values)
    if feature.aggregate == "sum":
        return total / 2**20
    if not values:
        return math.nan
    mean, largest = total / n / 2**20, max(v for e in seen if not math.isnan(v := getattr(e, feature.field)))
    if feature.aggregate == "std":
        return math.sqrt((n * sum(v * v for v in values) - total * total) / (n * n)) / 2**20
    divisor = {"ratio": mean, "ratio_max": largest}.get(feature.aggregate)
    if divisor is None:
        return mean if feature.aggregate == "mean" else float(largest)
    return own / divisor if divisor else math.nan


def of_labels(profile: Profile, feature: ProfileFeature, labels: Sequence[ShopLabel], event: ShopPayment) -> float:
    if not event.shop:
        return math.nan
    window = feature.window_ms or profile.horizon_ms
    head = event.time_ms - profile.label_delay_ms
    tail = (head - window) // tile_ms(window) * tile_ms(window)
    holding: dict[int, ShopLabel] = {}
    for label in sorted(labels, key=lambda x: x.reported_ms):
        if label.reported_ms <= event.time_ms and label.shop == event.shop:
            holding[label.id] = label
    seen = sorted((x for x in holding.values() if tail < x.time_ms <= head), key=lambda x: (x.time_ms, x.id))
    frauds = [x for x in seen if x.fraud]
    if feature.aggregate == "fraud_rate":
        return (len(frauds) + 10 * profile.base_rate) / (len(seen) + 10)
    if feature.aggregate == "frauds_in_row":
        return float(next((i for i, x in enumerate(reversed(seen)) if not x.fraud), len(seen)))
    if feature.aggregate == "last_label":
        return float(seen[-1].fraud) if seen else math.nan
    if feature.aggregate == "seconds_since_fraud":
        return (event.time_ms - frauds[-1].time_ms) / 1000 if frauds else math.nan
    return float(len(seen) if feature.aggregate == "labelled_count" else len(frauds))


def assert_equal(
    found: Matrix,
    events: Sequence[ShopPayment],
    plan: ProfilePlan,
    expected: Callable[[Profile, ProfileFeature, ShopPayment], float],
) -> None:
    for row, event in zip(found, events, strict=True):
        column = count()
        for profile in plan.profiles:
            for feature in profile.features:
                wanted = expected(profile, feature, event)
                got = float(row[next(column)])
                assert got == pytest.approx(wanted, rel=1e-6, abs=1e-6, nan_ok=True), (feature, event)


def events_of(chance: random.Random, n: int) -> list[ShopPayment]:
    """Transactions in offset order: about in order of event time, with ties, gaps and late ones."""
    spread = chance.choice([HOUR_MS, DAY_MS, 10 * DAY_MS, 60 * DAY_MS])
    step = chance.choice([1, MINUTE_MS, 5 * MINUTE_MS, HOUR_MS])
    jitter = chance.choice([0, 0, MINUTE_MS, HOUR_MS])
    amounts = [0.0, 7.25, -1.5, math.nan, *(float(np.float32(chance.uniform(0, 900))) for _ in range(5))]
    times = sorted(chance.randrange(spread) // step * step for _ in range(n))
    return [
        ShopPayment(
            shop=chance.randrange(4),
            time_ms=DAY_MS + max(0, t - (chance.randrange(jitter) if jitter else 0)),
            amount=chance.choice(amounts),
            age=chance.choice(amounts),
            is_new=chance.random() < 0.95,
        )
        for t in times
    ]


def batches(chance: random.Random, events: Sequence[ShopPayment]) -> Iterator[list[ShopPayment]]:
    at = 0
    while at < len(events):
        size = chance.choice([1, 3, 10, len(events)])
        yield list(events[at : at + size])
        at += size


def sorted_rows(closed: Sequence[ClosedTiles]) -> list[tuple[int, ...]]:
    return sorted(
        (int(e), *row) for tiles in closed for e, row in zip(tiles.entities, tiles.rows.tolist(), strict=True)
    )


chances = st.integers(0, 2**40).map(random.Random)
windows_of_tiles = st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3, unique=True)


@settings(max_examples=40)
@given(chances, windows_of_tiles, st.sampled_from(["1m", "10m", "2h"]))
def test_complete_rows_have_the_values_of_a_scan(chance: random.Random, windows: list[str], lag: str) -> None:
    profile = tiles_profile(windows, lag=lag)
    plan, grain = plan_of(profile), tile_ms(profile.windows_ms[0])
    streams = [events_of(chance, chance.randrange(1, 60)) for _ in range(chance.randrange(1, 4))]
    folds, shared = [OpenTiles(plan) for _ in streams], SharedProfiles(plan)
    everything = [e for stream in streams for e in kept(stream, grain)[0]]
    steps = []
    for partition, stream in enumerate(streams):
        watermark = 0
        for batch in batches(chance, stream):
            watermark = max(watermark, batch[0].time_ms)
            steps.append((watermark, partition, batch))
    for _, partition, batch in sorted(steps, key=lambda step: step[0]):
        for tiles in folds[partition].update(inputs_of(batch), flags_of(batch)):
            shared.add_tiles(partition, tiles)
            shared.add_tiles(partition, tiles)  # as it comes back from the topic
        found, complete = shared.values(inputs_of(batch), range(len(streams)))
        rows = np.flatnonzero(complete)
        done = [batch[i] for i in rows]
        assert_equal(found[rows], done, plan, lambda p, f, e: of_tiles(p, f, everything, e))
        if len(streams) == 1 and shared.counts.old == 0:
            assert complete.all()
    for fold, stream in zip(folds, streams, strict=True):
        assert fold.late == kept(stream, grain)[1]


@settings(max_examples=25)
@given(chances, windows_of_tiles)
def test_any_batches_and_a_snapshot_close_tiles_to_the_same_bits(chance: random.Random, windows: list[str]) -> None:
    plan = plan_of(tiles_profile(windows), tiles_profile(["1d"], ["count"]))
    events = events_of(chance, 60)
    whole, parts = OpenTiles(plan), OpenTiles(plan)
    at_once = whole.update(inputs_of(events), flags_of(events))
    one_by_one = []
    for batch in batches(chance, events):
        one_by_one += parts.update(inputs_of(batch), flags_of(batch))
        parts = OpenTiles.from_arrays(plan, parts.to_arrays())
    for profile in (0, 1):
        mine = [t for t in at_once if t.profile == profile], [t for t in one_by_one if t.profile == profile]
        assert sorted_rows(mine[0]) == sorted_rows(mine[1])
        assert mine[0][-1].until_ms == mine[1][-1].until_ms
    for name, array in whole.to_arrays().items():
        assert np.array_equal(array, parts.to_arrays()[name]), name


def test_tiles_that_come_again_in_other_batches_count_once() -> None:
    plan = plan_of(tiles_profile(["1d"], ["count", "sum(amount)"]))
    events = [ShopPayment(1, DAY_MS + k * HOUR_MS, 1.0, 1.0) for k in range(1, 30)]
    fine, coarse, shared = OpenTiles(plan), OpenTiles(plan), SharedProfiles(plan)
    for event in events[:10]:
        for tiles in fine.update(inputs_of([event]), np.array([True])):
            shared.add_tiles(0, tiles)
    for tiles in coarse.update(inputs_of(events), np.ones(29, np.bool_)):
        shared.add_tiles(0, tiles)
    found, _ = shared.values(inputs_of([ShopPayment(1, 2 * DAY_MS + 6 * HOUR_MS, 1.0, 1.0)]), (0,))
    assert found.tolist() == [[22.0, 22.0]]  # hours 7 to 28: tiles after hour 6, until the newest that is closed


def test_transactions_of_the_hour_at_the_watermark_are_in_its_tile() -> None:
    plan = plan_of(tiles_profile(["1h"], ["count"]))
    fold = OpenTiles(plan)
    events = [ShopPayment(1, 10 * HOUR_MS, 1.0, 1.0)] * 5 + [ShopPayment(2, 11 * HOUR_MS, 1.0, 1.0)]
    closed = fold.update(inputs_of(events), np.ones(6, np.bool_))
    assert [row[:2].tolist() for tiles in closed for row in tiles.rows] == [[10 * HOUR_MS, 5]]
    assert fold.late == 0


def test_a_partition_without_traffic_makes_rows_incomplete() -> None:
    plan = plan_of(tiles_profile(["1h"], ["count"]))
    fold, shared = OpenTiles(plan), SharedProfiles(plan)
    events = [ShopPayment(1, DAY_MS, 1.0, 1.0), ShopPayment(1, DAY_MS + HOUR_MS, 1.0, 1.0)]
    for tiles in fold.update(inputs_of(events), np.ones(2, np.bool_)):
        shared.add_tiles(0, tiles)
    assert shared.values(inputs_of(events), (0,))[1].all()
    assert not shared.values(inputs_of(events), (0, 1))[1].any()
    assert shared.counts.incomplete == 2


def test_hourly_transactions_agree_with_pandas_rolling() -> None:
    chance = random.Random(3)
    times = sorted(DAY_MS + chance.randrange(20 * 24) * HOUR_MS for _ in range(400))
    events = [ShopPayment(chance.randrange(1, 3), t, float(chance.randrange(100)), 1.0) for t in times]
    plan = plan_of(tiles_profile(["1d", "7d"], ["count", "sum(amount)", "max(amount)", "std(amount)"]))
    fold, shared = OpenTiles(plan), SharedProfiles(plan)
    for tiles in fold.update(inputs_of(events), np.ones(400, np.bool_)):
        shared.add_tiles(0, tiles)
    found, complete = shared.values(inputs_of(events), (0,))
    assert complete.all()
    frame = pd.DataFrame({"shop": [e.shop for e in events], "amount": [e.amount for e in events]})
    frame.index = pd.to_datetime(times, unit="ms")
    for shop in (1, 2):
        rows = np.flatnonzero(frame["shop"] == shop)
        amounts = frame["amount"].iloc[rows]
        for w, window in enumerate(("1D", "7D")):
            # Times are whole hours: (t - w, t) of pandas is (t - w, t - 1 h], the tiles that closed at least `lag` ago.
            rolling = amounts.rolling(window, closed="neither")
            wanted = [rolling.count().fillna(0), rolling.sum().fillna(0), rolling.max(), rolling.std(ddof=0)]
            for a, series in enumerate(wanted):
                np.testing.assert_allclose(found[rows, 2 * a + w], series.to_numpy(), rtol=1e-5, atol=1e-4)


@settings(max_examples=60)
@given(chances, windows_of_tiles, st.sampled_from(["1h", "2d", "7d"]))
def test_labels_count_as_they_were_known(chance: random.Random, windows: list[str], delay: str) -> None:
    plan = plan_of(labels_profile(windows, delay))
    spread = chance.choice([DAY_MS, 20 * DAY_MS])
    step = chance.choice([1, HOUR_MS])
    transactions = [
        (chance.randrange(1, 3), DAY_MS + chance.randrange(spread) // step * step, i)
        for i in range(1, chance.randrange(2, 60))
    ]
    labels: dict[tuple[int, int], ShopLabel] = {}
    for shop, time_ms, i in transactions * 2:  # some are labelled twice, and some labels come twice
        reported = time_ms + chance.randrange(spread) // step * step
        labels[i, reported] = ShopLabel(shop, time_ms, reported, chance.random() < 0.4, i)
    order = [*labels.values(), *chance.sample(list(labels.values()), len(labels) // 3)]
    chance.shuffle(order)
    shared = SharedProfiles(plan)
    for at in range(0, len(order), step := chance.randrange(1, 50)):
        shared.add_labels(label_inputs(order[at : at + step]))
    asked = [ShopPayment(chance.randrange(3), DAY_MS + chance.randrange(3 * spread), 1.0, 1.0) for _ in range(20)]
    found, complete = shared.values(inputs_of(asked), ())
    assert complete.all()
    assert_equal(found, asked, plan, lambda p, f, e: of_labels(p, f, list(labels.values()), e))


def test_labels_of_a_busy_entity_stay_bounded_and_right() -> None:
    profile = labels_profile(["1d", "7d", "30d"], "1d")
    plan, shared = plan_of(profile), SharedProfiles(plan_of(profile))
    chance = random.Random(5)
    labels = []
    for i in range(1, 20_001):  # about one every 4 minutes, for 60 days
        time_ms = i * 4 * MINUTE_MS + chance.randrange(MINUTE_MS)
        labels.append(ShopLabel(1, time_ms, time_ms + DAY_MS, chance.random() < 0.02, i))
    for at in range(0, len(labels), 1000):
        chunk = labels[at : at + 1000]
        shared.add_labels(label_inputs(chunk))
        # Merged rows are old enough to count, so windows are exact; the order in a row of a tile is kept.
        asked = [ShopPayment(1, chunk[-1].reported_ms + k, 1.0, 1.0) for k in (0, 1, MINUTE_MS)]
        found, _ = shared.values(inputs_of(asked), ())
        assert_equal(found, asked, plan, lambda p, f, e, n=at + 1000: of_labels(p, f, labels[:n], e))  # type: ignore[misc]
    assert shared.counts.rows <= MAX_LABELS
    assert shared.counts.merged_labels > 10_000
    assert shared.counts.approximate_labels == 0
    shared.add_labels(label_inputs([labels[15_000]._replace(reported_ms=61 * DAY_MS, fraud=True), labels[0]]))
    assert shared.counts.approximate_labels == 1
    assert shared.counts.expired_labels == 1


def test_memory_of_entities_that_left_is_given_back() -> None:
    plan = plan_of(tiles_profile(["1d"], ["count"]), labels_profile(["1d"], "1d"))
    fold, shared = OpenTiles(plan), SharedProfiles(plan)
    n = 40_000
    for day in range(1, 9):
        times = np.linspace(day * DAY_MS, (day + 1) * DAY_MS - 1, n).astype(np.int64)
        shops = np.arange(1 + day * n, 1 + (day + 1) * n).astype(np.uint64)
        empty = np.empty((n, 0), np.uint32)
        inputs = ProfileInputs(times, {"shop": shops}, np.zeros((n, 2), np.float32), empty, np.zeros(n, np.uint64))
        for tiles in fold.update(inputs, np.ones(n, np.bool_)):
            shared.add_tiles(0, tiles)
        shared.add_labels(LabelInputs({"shop": shops}, times, times + DAY_MS, np.zeros(n, np.bool_), shops))
        shared.values(inputs, (0,))
    assert shared.counts.rows < 8 * n
