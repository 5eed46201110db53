"""The features of a transaction: one scan over its key's earlier ones, newest first, for all windows at once."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from schemas.dataset.profiles import ProfileFeature
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Flags, Floats, Ints, Matrix
from scoring.profiles.aggregates import (
    UNITS,
    add_units,
    add_wide,
    mean,
    ratio,
    square,
    standard_deviation,
    to_units,
    z_score,
)
from scoring.profiles.key_state import (
    EVENTS_END,
    LATE,
    MAX_EVENTS,
    NO_TIME_MS,
    REPEATED,
    SATURATED,
    SLOTS,
    WATERMARK,
    KeyState,
    find_place,
    purge,
    remember,
)
from scoring.profiles.profile_inputs import Hashes
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.windows import tile_ms

MAX_NUMBER = 2.0**40  # numbers beyond count as this
N_SEEN = 4 * MAX_EVENTS  # places of the table that counts distinct levels; a power of two

COUNT, SUM, MEAN, MAX, STD, RATIO, RATIO_MAX, Z_SCORE, DISTINCT, SECONDS_SINCE_LAST, IS_NEW = range(11)
AGGREGATE_CODES = {
    "count": COUNT,
    "sum": SUM,
    "mean": MEAN,
    "max": MAX,
    "std": STD,
    "ratio": RATIO,
    "ratio_max": RATIO_MAX,
    "zscore": Z_SCORE,
    "distinct": DISTINCT,
    "seconds_since_last": SECONDS_SINCE_LAST,
    "is_new": IS_NEW,
}


class KeyPlan(NamedTuple):
    """What the loops need of a plan."""

    windows: Ints  # ascending
    tiles: Ints  # grain of each
    columns: Ints  # (n_features, 3): aggregate, position of the window, position of the field
    squares: bool  # whether a feature needs squares
    n_values: int
    n_levels: int


class WindowTotals(NamedTuple):
    """Totals of the scan, by window; arrays that one batch reuses for all of its rows."""

    tails: Ints  # (n_windows,): start of each window, exclusive
    events: Ints  # (n_windows,)
    known: Ints  # (n_windows, n_values): numbers that are not missing
    sums: Ints
    squares_high: Hashes
    squares_low: Hashes
    highest: Floats
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
        return AGGREGATE_CODES[feature.aggregate], window, fields.index(feature.field) if feature.field else 0

    columns = [column(f, p.horizon_ms) for p in profiles for f in p.features]
    return KeyPlan(
        windows=np.array(windows, dtype=np.int64),
        tiles=np.array([tile_ms(w) for w in windows], dtype=np.int64),
        columns=np.array(columns, dtype=np.int64).reshape(-1, 3),
        squares=any(code in (STD, Z_SCORE) for code, _, _ in columns),
        n_values=len(plan.number_fields),
        n_levels=len(plan.category_fields),
    )


@njit(cache=True)
def new_totals(n_windows: int, n_values: int, n_levels: int) -> WindowTotals:
    """Arrays for a batch. The last row of each is the running total."""
    shape = n_windows + 1, n_values
    return WindowTotals(
        np.zeros(n_windows, np.int64),
        np.zeros(n_windows + 1, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.uint64),
        np.zeros(shape, np.uint64),
        np.zeros(shape, np.float64),
        np.zeros((n_windows + 1, n_levels), np.int64),
        np.zeros(n_levels, np.int64),
        np.zeros((n_levels, N_SEEN), np.uint32),
        np.full((n_levels, N_SEEN), -1, np.int64),
    )


@njit(cache=True, inline="always")
def close_window(plan: KeyPlan, totals: WindowTotals, w: int) -> None:
    """The running totals are those of window w."""
    running = len(plan.windows)
    totals.events[w] = totals.events[running]
    for f in range(plan.n_values):
        totals.known[w, f], totals.sums[w, f] = totals.known[running, f], totals.sums[running, f]
        totals.highest[w, f] = totals.highest[running, f]
        totals.squares_high[w, f] = totals.squares_high[running, f]
        totals.squares_low[w, f] = totals.squares_low[running, f]
    for c in range(plan.n_levels):
        totals.distinct[w, c] = totals.distinct[running, c]


@njit(cache=True, inline="always")
def add_event(state: KeyState, plan: KeyPlan, totals: WindowTotals, event: int, row: int, w: int, level: Array) -> None:
    """Add an event to the running totals. row: the scanning row. w: the shortest window that the event is in."""
    running = len(plan.windows)
    totals.events[running] += 1
    for f in range(plan.n_values):
        x = np.float64(state.values[event, f])
        if not np.isnan(x):
            units = to_units(x)
            totals.known[running, f] += 1
            totals.sums[running, f] = add_units(totals.sums[running, f], units)
            totals.highest[running, f] = max(totals.highest[running, f], x)
            if plan.squares:
                high, low = square(units)
                totals.squares_high[running, f], totals.squares_low[running, f] = add_wide(
                    totals.squares_high[running, f], totals.squares_low[running, f], high, low
                )
    for c in range(plan.n_levels):
        found = state.levels[event, c]
        if found != 0:
            if found == level[c]:
                totals.last_seen_in[c] = min(totals.last_seen_in[c], w)
            place = np.int64(found) & (N_SEEN - 1)
            while totals.seen_by[c, place] == row and totals.seen[c, place] != found:
                place = (place + 1) & (N_SEEN - 1)
            if totals.seen_by[c, place] != row:
                totals.seen[c, place], totals.seen_by[c, place] = found, row
                totals.distinct[running, c] += 1


@njit(cache=True)
def scan(
    state: KeyState,
    plan: KeyPlan,
    totals: WindowTotals,
    base: int,
    start: int,
    end: int,
    t: int,
    visible_ms: int,
    row: int,
    level: Array,
) -> Any:
    """Fill the totals from the events [start, end) up to time t; returns the newest event's time.

    base: that event times count from. visible_ms: events up to this time are not seen.
    """
    n_windows = running = len(plan.windows)
    for w in range(n_windows):
        totals.tails[w] = (t - plan.windows[w]) // plan.tiles[w] * plan.tiles[w]
    totals.events[running] = 0
    for f in range(plan.n_values):
        totals.known[running, f], totals.sums[running, f], totals.highest[running, f] = 0, 0, -np.inf
        totals.squares_high[running, f], totals.squares_low[running, f] = 0, 0
    for c in range(plan.n_levels):
        totals.distinct[running, c], totals.last_seen_in[c] = 0, n_windows
    event = end - 1
    while event >= start and base + np.int64(state.times[event]) > t:
        event -= 1
    newest = base + np.int64(state.times[event]) if event >= start else np.int64(NO_TIME_MS)
    w = 0
    while w < n_windows:
        at = base + np.int64(state.times[event]) if event >= start else np.int64(NO_TIME_MS)
        while w < n_windows and (at <= totals.tails[w] or at <= visible_ms):
            close_window(plan, totals, w)
            w += 1
        if w < n_windows:
            add_event(state, plan, totals, event, row, w, level)
            event -= 1
    return newest if newest > visible_ms else np.int64(NO_TIME_MS)


@njit(cache=True)
def derive(plan: KeyPlan, totals: WindowTotals, t: int, newest: int, value: Array, level: Array, out: Array) -> None:
    """Write the features of a row from its totals."""
    for k in range(len(plan.columns)):
        code, w, f = plan.columns[k, 0], plan.columns[k, 1], plan.columns[k, 2]
        result = np.nan
        if code == COUNT:
            result = np.float64(totals.events[w])
        elif code == SECONDS_SINCE_LAST:
            if newest > totals.tails[w]:
                result = (t - newest) / 1000
        elif code == DISTINCT:
            result = np.float64(totals.distinct[w, f])
        elif code == IS_NEW:
            if level[f] != 0:
                result = 1.0 if totals.last_seen_in[f] > w else 0.0
        elif code == SUM:
            result = totals.sums[w, f] / UNITS
        elif totals.known[w, f] == 0:
            result = np.nan
        elif code == MAX:
            result = totals.highest[w, f]
        elif code == RATIO_MAX:
            result = ratio(np.float64(value[f]), totals.highest[w, f])
        else:
            average = mean(totals.known[w, f], totals.sums[w, f])
            if code == MEAN:
                result = average
            elif code == RATIO:
                result = ratio(np.float64(value[f]), average)
            else:
                deviation = standard_deviation(
                    totals.known[w, f], totals.sums[w, f], totals.squares_high[w, f], totals.squares_low[w, f]
                )
                result = deviation if code == STD else z_score(np.float64(value[f]), average, deviation)
        out[k] = result


@njit(cache=True)
def is_repeated(state: KeyState, base: int, start: int, end: int, id_: Any, after_ms: int) -> bool:
    """Whether one of the events [start, end) after a time has this id."""
    for event in range(start, end):
        if state.ids[event] == id_ and base + np.int64(state.times[event]) > after_ms:
            return True
    return False


@njit(cache=True)
def fold_rows(
    state: KeyState,
    plan: KeyPlan,
    keys: Hashes,
    times: Ints,
    values: Matrix,
    levels: Array,
    ids: Array,
    out: Matrix,
    is_new: Flags,
    first: int,
) -> int:
    """Fold rows from `first` on, and write their features; returns the first row for which the arrays have no room."""
    counts, totals = state.totals, new_totals(len(plan.windows), plan.n_values, plan.n_levels)
    reach_ms = plan.windows[-1] + 2 * plan.tiles[-1]
    for i in range(first, len(times)):
        if counts[SLOTS] == len(state.slot_hash) or counts[EVENTS_END] + MAX_EVENTS > len(state.times):
            return i
        t = times[i]
        if t > counts[WATERMARK]:
            if counts[WATERMARK] != NO_TIME_MS and t // DAY_MS > counts[WATERMARK] // DAY_MS:
                purge(state, t // DAY_MS * DAY_MS - reach_ms - DAY_MS)
            counts[WATERMARK] = t
        for f in range(plan.n_values):
            if abs(values[i, f]) > MAX_NUMBER:
                counts[SATURATED] += 1
        slot = np.int64(state.table[find_place(state, keys[i])])
        base, start, end = np.int64(0), np.int64(0), np.int64(0)
        if slot >= 0:
            base, start = state.slot_base[slot], state.slot_start[slot]
            end = start + state.slot_length[slot]
        newest = base + np.int64(state.times[end - 1]) if end > start else np.int64(NO_TIME_MS)
        # The same for every layout of the arrays: what is purged, or would leave a full segment, is not seen.
        purged_ms = counts[WATERMARK] // DAY_MS * DAY_MS - reach_ms - DAY_MS
        visible_ms = max(purged_ms, newest - reach_ms)
        newest_known = scan(state, plan, totals, base, start, end, t, visible_ms, i, levels[i])
        derive(plan, totals, t, newest_known, values[i], levels[i], out[i])
        if len(state.ids) and ids[i] != 0:
            is_new[i] = not is_repeated(state, base, start, end, ids[i], max(purged_ms, max(t, newest) - reach_ms))
        if not is_new[i]:
            counts[REPEATED] += 1
        elif t <= purged_ms or not remember(state, keys[i], t, values[i], levels[i], ids[i], reach_ms):
            counts[LATE] += 1
    return len(times)
