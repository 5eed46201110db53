"""Aggregates by entity and tile, sorted by time: what a window of any length reads in one scan.

Rows are those of `aggregate_rows`; a row's time is the newest event time in it. Rows of the same finest tile are added
up. Windows of hours move by tiles of 5 minutes, longer ones by hours and days (`windows.tile_ms`), so that a row which
no finer window can read any more is merged with its neighbours in the coarser tile. The levels say at which age:

    grain     5 min          1 h            1 d
    age       0              12 h + slack   12 d + slack      rows older than `keep_ms` are dropped

A query of a time t at least `slack_ms` behind the time of merging, or newer, reads the same sums as one over rows that
were never merged: the tails of its windows, and `limit_ms`, lie on borders of tiles that are merged at most. An older
query is approximate (`is_exact`).

From compiled code: `add_tile(rows, levels, entity, row, now_ms)`, False without room (then `entity_rows.grown`), and
`add_windows(rows, entity, limit_ms, tails_ms, windows)`.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple, Self

import numpy as np

from schemas.time_units import DAY_MS
from scoring.arrays import Array, Hashes, Ints
from scoring.compilation import compiled
from scoring.profiles.aggregate_rows import TIME, add_row, row_width
from scoring.profiles.shared import entity_rows
from scoring.profiles.shared.entity_rows import EntityRows, EntityStore, add_slot, find_slot, insert_row, is_full, widen
from scoring.profiles.windows import NO_TIME_MS, tile_ms

SLACK_MS = DAY_MS  # a query this far behind the time of merging is exact


class TileLevels(NamedTuple):
    """When rows are merged."""

    grains_ms: Ints  # ascending; each divides the next
    ages_ms: Ints  # rows whose tile ended at least this long ago are merged into tiles of the grain
    keep_ms: int  # older rows are dropped


def tile_levels(windows_ms: Sequence[int], lag_ms: int = 0, slack_ms: int = SLACK_MS) -> TileLevels:
    """The levels that some windows allow. lag_ms: the newest tiles that queries leave out.

    >>> from schemas.time_units import HOUR_MS, MINUTE_MS
    >>> levels = tile_levels([HOUR_MS, DAY_MS], slack_ms=0)
    >>> (levels.grains_ms // MINUTE_MS).tolist(), (levels.ages_ms // MINUTE_MS).tolist()
    ([5, 60], [0, 65])
    """
    grains = sorted({tile_ms(w) for w in windows_ms})
    ages = [0]
    for grain in grains[1:]:
        finer = max(w + tile_ms(w) for w in windows_ms if tile_ms(w) < grain)
        ages.append(max(finer, lag_ms + grains[0]) + slack_ms)
    longest = max(windows_ms)
    return TileLevels(np.array(grains), np.array(ages), longest + tile_ms(longest) + slack_ms)


class TileStore(EntityStore):
    """Tiles of many entities."""

    def __init__(self, n_fields: int, levels: TileLevels) -> None:
        self.levels = levels
        super().__init__(row_width(n_fields))

    def add(self, entities: Hashes, rows: Ints, now_ms: int = NO_TIME_MS) -> None:
        """Add tiles, in any order. rows: shape (n, width). now_ms: the time of merging."""
        done = 0
        while (done := add_tiles(self.rows, self.levels, entities, rows, now_ms, done)) < len(entities):
            self.rows = entity_rows.grown(self.rows)

    def compact(self, now_ms: int) -> None:
        """Merge and drop rows of all entities, and give back their room."""
        compact_tiles(self.rows, self.levels, now_ms)
        self.rows = entity_rows.packed(self.rows)

    def copy(self) -> "TileStore":
        """A copy, in the time that copying memory takes."""
        made = copy(self)
        made.rows = self.rows._replace(**{name: array.copy() for name, array in self.rows._asdict().items()})
        return made

    def to_arrays(self) -> dict[str, Array]:
        """The content, ordered by entity."""
        return self.rows.to_arrays()

    @classmethod
    def from_arrays(cls, n_fields: int, levels: TileLevels, arrays: dict[str, Array]) -> Self:
        """Restore the result of `to_arrays`. Raises ValueError or LookupError if it does not fit."""
        made = cls(n_fields, levels)
        made.rows = entity_rows.from_arrays(row_width(n_fields), arrays)
        return made


@compiled
def add_tiles(store: EntityRows, levels: TileLevels, entities: Hashes, rows: Ints, now_ms: int, done: int) -> int:
    """Add tiles from one on. Returns the number that is done: fewer than all without room."""
    while done < len(entities) and add_tile(store, levels, entities[done], rows[done], now_ms):
        done += 1
    return done


@compiled
def add_tile(store: EntityRows, levels: TileLevels, entity: Any, row: Ints, now_ms: int) -> bool:
    """Add a row to an entity. False without room; then nothing has changed.

    now_ms: the time of merging; at most this time less the slack is a query exact. With NO_TIME_MS, rows are neither
    merged nor dropped.
    """
    time = row[TIME]
    if time <= now_ms - levels.keep_ms:
        return True
    slot = find_slot(store, entity)
    if slot < 0:
        slot = add_slot(store, entity)
        if slot < 0:
            return False
    grain = levels.grains_ms[0]
    start = store.starts[slot]
    place = _place_after(store, slot, time)
    if place > 0 and _tile(store.rows[start + place - 1, TIME], grain) == _tile(time, grain):
        add_row(store.rows[start + place - 1], row)
        return True
    if place < store.lengths[slot] and _tile(store.rows[start + place, TIME], grain) == _tile(time, grain):
        add_row(store.rows[start + place], row)
        return True
    if is_full(store, slot):
        compact_slot(store, levels, slot, now_ms)
        if store.lengths[slot] > (1 << store.classes[slot]) * 3 // 4 and not widen(store, slot):
            return False
        place = _place_after(store, slot, time)
    insert_row(store, slot, place, row)
    return True


@compiled
def add_windows(store: EntityRows, entity: Any, limit_ms: int, tails_ms: Ints, windows: Ints) -> None:
    """Add an entity's rows with tail < time <= limit to the narrowest window that holds them.

    tails_ms: of the windows, narrowest first, so descending. windows: rows, shape (n_windows, width); they are whole
    windows after `aggregate_rows.accumulate`.
    """
    slot = find_slot(store, entity)
    if slot < 0:
        return
    start = store.starts[slot]
    w = 0
    for i in range(start + store.lengths[slot] - 1, start - 1, -1):
        time = store.rows[i, TIME]
        if time > limit_ms:
            continue
        while w < len(tails_ms) and time <= tails_ms[w]:
            w += 1
        if w == len(tails_ms):
            return
        add_row(windows[w], store.rows[i])


@compiled
def compact_tiles(store: EntityRows, levels: TileLevels, now_ms: int) -> None:
    """Merge and drop the rows of all entities."""
    for slot in range(store.state[entity_rows.N_SLOTS]):
        compact_slot(store, levels, slot, now_ms)


@compiled
def compact_slot(store: EntityRows, levels: TileLevels, slot: int, now_ms: int) -> None:
    """Drop an entity's rows beyond all windows, and merge neighbours that only coarser windows read."""
    start, length = store.starts[slot], store.lengths[slot]
    kept = 0
    for i in range(length):
        row = store.rows[start + i]
        if row[TIME] <= now_ms - levels.keep_ms:
            continue
        if kept > 0 and is_mergeable(levels, store.rows[start + kept - 1, TIME], row[TIME], now_ms):
            add_row(store.rows[start + kept - 1], row)
            continue
        if kept < i:
            store.rows[start + kept] = row
        kept += 1
    store.lengths[slot] = kept


@compiled
def is_mergeable(levels: TileLevels, earlier: int, later: int, now_ms: int) -> bool:
    """True if two times are in one tile that is coarser than the finest, and old enough to be merged."""
    for k in range(1, len(levels.grains_ms)):
        grain = levels.grains_ms[k]
        tile = _tile(later, grain)
        if _tile(earlier, grain) == tile and (tile + 1) * grain <= now_ms - levels.ages_ms[k]:
            return True
    return False


@compiled
def _tile(time_ms: int, grain_ms: int) -> int:
    return (time_ms - 1) // grain_ms


@compiled
def _place_after(store: EntityRows, slot: int, time_ms: int) -> Any:
    """Number of an entity's rows that are not newer than a time."""
    start = store.starts[slot]
    low, high = 0, store.lengths[slot]
    while low < high:
        middle = (low + high) // 2
        if store.rows[start + middle, TIME] <= time_ms:
            low = middle + 1
        else:
            high = middle
    return low
