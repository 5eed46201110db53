"""The tile store against a scan of all transactions in plain Python.

hour      0     1     2     3     4
rows      a  b     c           d        one per tile; the time of a row is its newest event time
window          (--------------]        tail exclusive, limit inclusive; both on borders of tiles
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from scoring.arrays import Ints
from scoring.profiles.aggregate_rows import TIME, accumulate, add_transaction, empty_rows, row_width
from scoring.profiles.shared import entity_rows
from scoring.profiles.shared.tile_store import TileStore, add_windows, tile_levels
from scoring.profiles.windows import NO_TIME_MS, tile_ms

WINDOWS = (30 * MINUTE_MS, 2 * HOUR_MS, 12 * HOUR_MS, DAY_MS, 3 * DAY_MS, 14 * DAY_MS)
LAG_MS = 10 * MINUTE_MS


class TileEvent(NamedTuple):
    entity: int
    time_ms: int
    amount: float


@st.composite
def streams(draw: st.DrawFn) -> tuple[tuple[int, ...], list[TileEvent], random.Random]:
    windows = draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3, unique=True).map(sorted).map(tuple))
    seed = draw(st.integers(0, 2**32))
    chance = random.Random(seed)
    spread = chance.choice([HOUR_MS, DAY_MS, 4 * DAY_MS, 40 * DAY_MS])
    step = chance.choice([1, 1000, 5 * MINUTE_MS, HOUR_MS])
    times = sorted(chance.randrange(spread) // step * step for _ in range(draw(st.integers(1, 120))))
    events = [TileEvent(chance.randrange(1, 4), t, float(np.float32(chance.uniform(-5, 500)))) for t in times]
    return windows, events, chance


def tiles_of(events: Sequence[TileEvent], grain_ms: int, chance: random.Random) -> list[tuple[int, Ints]]:
    """Rows by entity and tile, each split over one or two partitions."""
    rows: dict[tuple[int, int, int], Ints] = {}
    for event in events:
        key = (event.entity, (event.time_ms - 1) // grain_ms, chance.randrange(2))
        row = rows.setdefault(key, empty_rows(1, 1)[0])
        add_transaction(row, event.time_ms, np.array([event.amount], dtype=np.float32))
    return [(entity, row) for (entity, _, _), row in rows.items()]


def add(store: TileStore, tiles: Sequence[tuple[int, Ints]], now_ms: int = NO_TIME_MS) -> None:
    entities = np.array([entity for entity, _ in tiles], dtype=np.uint64)
    rows = np.array([row for _, row in tiles], dtype=np.int64).reshape(-1, row_width(1))
    store.add(entities, rows, now_ms)


def queried(store: TileStore, entity: int, t: int, windows: tuple[int, ...]) -> Ints:
    grain = tile_ms(windows[0])
    tails = np.array([(t - w) // tile_ms(w) * tile_ms(w) for w in windows])
    found = empty_rows(len(windows), 1)
    add_windows(store.rows, np.uint64(entity), (t - LAG_MS) // grain * grain, tails, found)
    accumulate(found)
    return found


def scanned(events: Sequence[TileEvent], entity: int, t: int, windows: tuple[int, ...]) -> Ints:
    grain = tile_ms(windows[0])
    limit = (t - LAG_MS) // grain * grain
    found = empty_rows(len(windows), 1)
    for w, window in enumerate(windows):
        tail = (t - window) // tile_ms(window) * tile_ms(window)
        for event in events:
            if event.entity == entity and tail < event.time_ms <= limit:
                add_transaction(found[w], event.time_ms, np.array([event.amount], dtype=np.float32))
    return found


def without_times(rows: Ints) -> list[list[int]]:
    return rows[:, TIME + 1 :].tolist()


@settings(max_examples=40)
@given(streams())
def test_windows_are_those_of_a_scan_however_tiles_arrive_and_merge(
    stream: tuple[tuple[int, ...], list[TileEvent], random.Random],
) -> None:
    windows, events, chance = stream
    slack = chance.choice([0, HOUR_MS, DAY_MS])
    store = TileStore(1, tile_levels(windows, LAG_MS, slack))
    tiles = tiles_of(events, tile_ms(windows[0]), chance)
    # Tiles arrive about in order of time, from two partitions that are apart by up to the slack.
    tiles.sort(key=lambda tile: int(tile[1][TIME]) + chance.randrange(slack + 1))
    now = NO_TIME_MS
    end = events[-1].time_ms
    for at in range(0, len(tiles), step := chance.randrange(1, 30)):
        add(store, tiles[at : at + step], now)
        newest = max(int(row[TIME]) for _, row in tiles[: at + step])
        now = max(now, newest - slack)
        if chance.random() < 0.3:
            store.compact(now)
    for _ in range(30):
        entity, t = chance.randrange(1, 5), chance.randrange(now - slack, end + 2 * DAY_MS)
        assert without_times(queried(store, entity, t, windows)) == without_times(scanned(events, entity, t, windows))


@settings(max_examples=15)
@given(streams())
def test_any_order_and_a_restore_give_the_same_bits(
    stream: tuple[tuple[int, ...], list[TileEvent], random.Random],
) -> None:
    windows, events, chance = stream
    levels = tile_levels(windows, LAG_MS)
    tiles = tiles_of(events, tile_ms(windows[0]), chance)
    one, other = TileStore(1, levels), TileStore(1, levels)
    add(one, tiles)
    chance.shuffle(tiles)
    for tile in tiles:
        add(other, [tile])
    restored = TileStore.from_arrays(1, levels, one.to_arrays())
    for name, array in one.to_arrays().items():
        assert np.array_equal(other.to_arrays()[name], array), name
        assert np.array_equal(restored.to_arrays()[name], array), name


def test_old_tiles_merge_into_coarser_ones_and_leave_after_the_longest_window() -> None:
    windows = (HOUR_MS, 7 * DAY_MS, 30 * DAY_MS)
    store = TileStore(0, tile_levels(windows))
    rows = empty_rows(60 * 288, 0)
    rows[:, TIME] = np.arange(1, 60 * 288 + 1) * 5 * MINUTE_MS
    rows[:, TIME + 1] = 1
    now = 60 * DAY_MS
    store.add(np.full(len(rows), 7, dtype=np.uint64), rows, now)
    store.compact(now)
    # 5 minutes for 25 hours, hours until 8 days, days until 32 days.
    assert 300 + 160 + 22 < store.n_rows < 320 + 180 + 26
    store.compact(now + 40 * DAY_MS)
    assert (store.n_entities, store.n_rows) == (0, 0)


def test_rows_of_a_busy_entity_stay_bounded_without_compaction() -> None:
    store = TileStore(0, tile_levels((HOUR_MS, 7 * DAY_MS, 30 * DAY_MS)))
    row = empty_rows(1, 0)
    for tile in range(1, 60 * 288):
        row[0, TIME : TIME + 2] = tile * 5 * MINUTE_MS, 1
        store.add(np.array([7], dtype=np.uint64), row, tile * 5 * MINUTE_MS)
    assert store.n_rows < 1024
    assert len(store.rows.rows) < 8192


def test_thousands_of_entities_are_found_after_growth_and_packing() -> None:
    n = 5000
    entities = np.random.default_rng(1).integers(1, 2**63, n).astype(np.uint64)
    store = entity_rows.empty(2)
    store_tiles = TileStore(0, tile_levels((HOUR_MS,)))
    rows = empty_rows(n, 0)
    rows[:, TIME], rows[:, TIME + 1] = HOUR_MS, np.arange(n)
    store_tiles.add(entities, rows)
    for packed in (store_tiles.rows, entity_rows.packed(store_tiles.rows)):
        slots = [entity_rows.find_slot(packed, entity) for entity in entities]
        assert [int(packed.rows[packed.starts[slot], 1]) for slot in slots] == list(range(n))
    assert entity_rows.find_slot(store, np.uint64(5)) == -1
