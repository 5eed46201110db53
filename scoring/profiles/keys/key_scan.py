"""The features of a transaction: one scan over its key's earlier ones, newest first, for all windows at once."""

from typing import Any, NamedTuple

import numpy as np

from schemas.dataset.profiles import ProfileFeature
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Flags, Hashes, Ints, Matrix
from scoring.compilation import compiled, compiled_inline
from scoring.profiles.aggregate_rows import (
    AGGREGATE_CODES,
    COUNT,
    MAX_VALUE,
    TIME,
    accumulate,
    aggregate,
    clear_row,
    row_width,
    set_field,
)
from scoring.profiles.aggregates import to_units
from scoring.profiles.keys.busy_keys import merge_oldest
from scoring.profiles.keys.key_state import (
    EVENTS_END,
    LATE,
    MAX_EVENTS,
    REPEATED,
    SATURATED,
    SLOTS,
    TO_MERGE,
    WATERMARK,
    KeyState,
    drop_until,
    find_place,
    purge,
    remember,
)
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.entity_rows import N_SLOTS, EntityRows
from scoring.profiles.shared.tile_store import TileLevels, add_windows, compact_tiles
from scoring.profiles.windows import NO_TIME_MS, tile_ms

N_SEEN = 4 * MAX_EVENTS  # places of the table that counts distinct levels; a power of two

DISTINCT, SECONDS_SINCE_LAST, IS_NEW = range(100, 103)  # in addition to the codes of `aggregate_rows`
KEY_AGGREGATE_CODES = {
    **AGGREGATE_CODES,
    "distinct": DISTINCT,
    "seconds_since_last": SECONDS_SINCE_LAST,
    "is_new": IS_NEW,
}
_HALF_BITS, _HALF_MASK = 26, (1 << 26) - 1  # of a number's units


class KeyPlan(NamedTuple):
    """What the loops need of a plan."""

    windows: Ints  # ascending
    tiles: Ints  # grain of each
    reach_ms: int  # how far back a key's events are seen: one more tile than windows need, for late transactions
    columns: Ints  # (n_features, 3): aggregate, position of the window, position of the field
    n_values: int
    n_levels: int


class WindowTotals(NamedTuple):
    """Totals of the scan, by window; arrays that one batch reuses for all of its rows."""

    tails: Ints  # (n_windows,): start of each window, exclusive
    rows: Ints  # (n_windows, words): aggregates
    distinct: Ints  # (n_windows, n_levels)
    last_seen_in: Ints  # (n_levels,): the shortest window in which the row's own level occurs; n_windows if in none
    seen: Array  # (n_levels, N_SEEN): table of the levels that the scan has met
    seen_by: Ints  # row that wrote each place of it


def key_plan(plan: ProfilePlan) -> KeyPlan:
    """The plan of the `key` profiles: the union of their windows, and each feature's place in it."""
    profiles = [p for p in plan.profiles if p.kind == "key"]
    # Without a profile of the key, its ids are still remembered: repeated transactions must not count in tiles.
    windows = sorted({w for p in profiles or plan.profiles for w in p.windows_ms})

    def column(feature: ProfileFeature, horizon_ms: int) -> tuple[int, int, int]:
        window = windows.index(horizon_ms if feature.window_ms is None else feature.window_ms)
        fields = plan.category_fields if feature.aggregate in ("distinct", "is_new") else plan.number_fields
        return KEY_AGGREGATE_CODES[feature.aggregate], window, fields.index(feature.field) if feature.field else 0

    columns = [column(f, p.horizon_ms) for p in profiles for f in p.features]
    tiles = [tile_ms(w) for w in windows]
    return KeyPlan(
        windows=np.array(windows, dtype=np.int64),
        tiles=np.array(tiles, dtype=np.int64),
        reach_ms=windows[-1] + 2 * tiles[-1],
        columns=np.array(columns, dtype=np.int64).reshape(-1, 3),
        n_values=len(plan.number_fields),
        n_levels=len(plan.category_fields),
    )


def new_totals(plan: KeyPlan) -> WindowTotals:
    """Arrays for a batch."""
    n_windows, n_levels = len(plan.windows), plan.n_levels
    return WindowTotals(
        np.empty(n_windows, np.int64),
        np.empty((n_windows, row_width(plan.n_values)), np.int64),
        np.empty((n_windows, n_levels), np.int64),
        np.empty(n_levels, np.int64),
        np.empty((n_levels, N_SEEN), np.uint32),
        np.full((n_levels, N_SEEN), -1, np.int64),
    )


@compiled_inline
def add_levels(state: KeyState, totals: WindowTotals, event: int, w: int, level: Array, row: int) -> None:
    """Count the levels of an event of window w that the scan of a row has not met yet. level: of the row itself."""
    for c in range(len(level)):
        found = state.levels[event, c]
        if found != 0:
            if found == level[c]:
                totals.last_seen_in[c] = min(totals.last_seen_in[c], w)
            place = np.int64(found) & (N_SEEN - 1)
            while totals.seen_by[c, place] == row and totals.seen[c, place] != found:
                place = (place + 1) & (N_SEEN - 1)
            if totals.seen_by[c, place] != row:
                totals.seen[c, place], totals.seen_by[c, place] = found, row
                totals.distinct[w, c] += 1


@compiled
def add_numbers(state: KeyState, row: Ints, begin: int, end: int) -> None:
    """Add the numbers of at most MAX_EVENTS events to a row without any."""
    for f in range(state.values.shape[1]):
        known, total, highest = 0, 0, -np.inf
        # Squares of 104 bits, from halves of 26: none of these three sums exceeds 63 bits.
        high_high, high_low, low_low = 0, 0, 0
        for event in range(begin, end):
            value = np.float64(state.values[event, f])
            if not np.isnan(value):
                units = to_units(value)
                known += 1
                total += units
                highest = max(highest, value)
                high, low = abs(units) >> _HALF_BITS, abs(units) & _HALF_MASK
                high_high += high * high
                high_low += high * low
                low_low += low * low
        if known:
            set_field(row, f, known, total, high_high, high_low, low_low, highest)


@compiled
def scan(
    state: KeyState,
    plan: KeyPlan,
    totals: WindowTotals,
    slot: int,
    t: int,
    visible_ms: int,
    level: Array,
    row: int,
    busy: EntityRows,
) -> None:
    """Fill the totals from a slot's events, and the tiles of a busy key, up to time t.

    visible_ms: events up to this time are not seen. level: of the row. row: its number, which marks what its scan has
    met.
    """
    n_windows = len(plan.windows)
    for w in range(n_windows):
        totals.tails[w] = (t - plan.windows[w]) // plan.tiles[w] * plan.tiles[w]
        clear_row(totals.rows[w])
    totals.distinct[:] = 0
    totals.last_seen_in[:] = n_windows
    if slot >= 0:
        base, start = state.slot_base[slot], state.slot_start[slot]
        end = start + state.slot_length[slot]
        while end > start and base + np.int64(state.times[end - 1]) > t:
            end -= 1
        for w in range(n_windows):
            begin, after = end, max(totals.tails[w], visible_ms) - base
            while begin > start and np.int64(state.times[begin - 1]) > after:
                begin -= 1
            # An event counts in the shortest window that holds it, and so in all longer ones.
            if begin < end:
                totals.rows[w, TIME] = base + np.int64(state.times[end - 1])
                totals.rows[w, COUNT] = end - begin
                add_numbers(state, totals.rows[w], begin, end)
                for event in range(end - 1, begin - 1, -1):
                    add_levels(state, totals, event, w, level, row)
            end = begin
        if busy.state[N_SLOTS]:
            add_windows(busy, state.slot_hash[slot], t, totals.tails, totals.rows)
    accumulate(totals.rows)
    for w in range(1, n_windows):
        for c in range(len(level)):
            totals.distinct[w, c] += totals.distinct[w - 1, c]


@compiled
def derive(plan: KeyPlan, totals: WindowTotals, t: int, value: Array, level: Array, out: Array) -> None:
    """Write the features of a row from its totals."""
    for k in range(len(plan.columns)):
        code, w, f = plan.columns[k, 0], plan.columns[k, 1], plan.columns[k, 2]
        if code == SECONDS_SINCE_LAST:
            newest = totals.rows[w, TIME]
            out[k] = (t - newest) / 1000 if newest > totals.tails[w] else np.nan
        elif code == DISTINCT:
            out[k] = totals.distinct[w, f]
        elif code == IS_NEW:
            out[k] = np.nan if level[f] == 0 else np.float64(totals.last_seen_in[f] > w)
        else:
            own = np.float64(value[f]) if len(value) else np.nan
            out[k] = aggregate(code, totals.rows[w], f, own)


@compiled
def newest_event(state: KeyState, slot: int) -> Any:
    """Time of a slot's newest event; NO_TIME_MS without one."""
    if slot < 0 or state.slot_length[slot] == 0:
        return np.int64(NO_TIME_MS)
    return state.slot_base[slot] + np.int64(state.times[state.slot_start[slot] + state.slot_length[slot] - 1])


@compiled
def is_repeated(state: KeyState, slot: int, id_: Any, after_ms: int) -> bool:
    """Whether one of a slot's events after a time has this id."""
    if slot >= 0 and id_ != 0:
        for event in range(state.slot_start[slot], state.slot_start[slot] + state.slot_length[slot]):
            if state.ids[event] == id_ and state.slot_base[slot] + np.int64(state.times[event]) > after_ms:
                return True
    return False


@compiled
def fold_rows(
    state: KeyState,
    plan: KeyPlan,
    totals: WindowTotals,
    keys: Hashes,
    times: Ints,
    values: Matrix,
    levels: Array,
    ids: Array,
    out: Matrix,
    is_new: Flags,
    first: int,
    busy: EntityRows,
    busy_levels: TileLevels,
) -> int:
    """Fold rows from `first` on, and write their features; returns the first row for which the arrays have no room."""
    counts = state.totals
    reach_ms = plan.reach_ms
    for i in range(first, len(times)):
        if counts[SLOTS] == len(state.slot_hash) or counts[EVENTS_END] + MAX_EVENTS > len(state.times):
            return i
        t = times[i]
        if t > counts[WATERMARK]:
            if counts[WATERMARK] != NO_TIME_MS and t // DAY_MS > counts[WATERMARK] // DAY_MS:
                purge(state, t // DAY_MS * DAY_MS - reach_ms - DAY_MS)
                compact_tiles(busy, busy_levels, t // DAY_MS * DAY_MS)
            counts[WATERMARK] = t
        slot: Any = np.int64(state.table[find_place(state, keys[i])])
        newest = newest_event(state, slot)
        if slot >= 0 and (state.slot_length[slot] == MAX_EVENTS or counts[TO_MERGE]):
            drop_until(state, slot, newest - reach_ms)
            if (state.slot_length[slot] == MAX_EVENTS or counts[TO_MERGE]) and not merge_oldest(
                state, slot, busy, busy_levels
            ):
                return i
        # The same for every layout of the arrays: what is purged, or would leave a full segment, is not seen.
        purged_ms = counts[WATERMARK] // DAY_MS * DAY_MS - reach_ms - DAY_MS
        scan(state, plan, totals, slot, t, max(purged_ms, newest - reach_ms), levels[i], i, busy)
        derive(plan, totals, t, values[i], levels[i], out[i])
        if len(state.ids):
            is_new[i] = not is_repeated(state, slot, ids[i], max(purged_ms, max(t, newest) - reach_ms))
        if not is_new[i]:
            counts[REPEATED] += 1
        elif t <= purged_ms or not remember(state, keys[i], t, values[i], levels[i], ids[i], reach_ms):
            counts[LATE] += 1
        else:
            for f in range(plan.n_values):
                counts[SATURATED] += abs(values[i, f]) > MAX_VALUE
    return len(times)
