"""Profiles of the key: a fold over one input partition, exact to the transaction.

Per key the newest transactions are kept, sorted by event time, in a segment of common arrays. The features of a
transaction are one scan over its key's segment, newest first. The arrays:

    table     open addressing: hash of a key -> slot
    slots     one per key: hash, time that its event times count from, segment (start, length, size class)
    events    one per transaction: event time, numbers, hashes of levels, hash of the transaction id

An event leaves when its segment is full and no window can reach it any more, with one more tile of the longest window
for transactions that come late.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.dataset.profiles import ProfileFeature
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Flags, Ints, Matrix
from scoring.profiles.aggregates import add_units, add_wide, mean, ratio, square, standard_deviation, to_units, z_score
from scoring.profiles.profile_inputs import Hashes, ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.windows import tile_ms

SIZES = np.array([2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512])  # events of a segment, by class
MAX_EVENTS = int(SIZES[-1])  # of a key
NO_TIME_MS = -(2**62)
MAX_SHORT_HORIZON_MS = 40 * DAY_MS  # up to this, event times fit into 32 bits
END_OF_LIST = 2**32 - 1  # of free segments; also the longest time after a base in 32 bits
N_SEEN = 4 * MAX_EVENTS  # places of the table that counts distinct levels; a power of two
FIRST_SLOTS, FIRST_EVENTS = 1_024, 8_192

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
# Places of `KeyState.totals`.
SLOTS, FREE_SLOT, EVENTS_END, WATERMARK, KEYS, LATE, REPEATED, SATURATED, MERGED = range(9)
N_TOTALS = 9


class KeyState(NamedTuple):
    """The arrays of a partition's keys."""

    table: npt.NDArray[np.int32]  # slot, or -1
    slot_hash: Hashes
    slot_base: Ints  # event times of the slot count from it; of a free slot: the next free one
    slot_start: Ints
    slot_length: npt.NDArray[np.int32]  # -1: free
    slot_class: npt.NDArray[np.int8]
    times: Array  # uint32 or int64, ms after the slot's base; the first of a free segment: the next free one
    values: Matrix  # (events, n_number_fields)
    levels: npt.NDArray[np.uint32]  # (events, n_category_fields)
    ids: npt.NDArray[np.uint32]  # (events,), or empty if the data set has no transaction ids
    free_segments: Ints  # by size class: start of the first free segment, or -1
    totals: Ints


STATE_ARRAYS = KeyState._fields[1:10]  # of slots and events


class KeyPlan(NamedTuple):
    """What the loops need of a plan."""

    windows: Ints  # ascending
    tiles: Ints  # grain of each
    columns: Ints  # (n_features, 3): aggregate, position of the window, position of the field
    squares: bool  # whether a feature needs squares
    n_values: int
    n_levels: int


class KeyProfiles:
    """The keys of one input partition."""

    def __init__(self, plan: ProfilePlan) -> None:
        self._plan, self._with_ids = key_plan(plan), plan.has_ids
        self._state = _empty(self._plan, FIRST_SLOTS, FIRST_EVENTS, with_ids=self._with_ids)

    @property
    def totals(self) -> Ints:
        """Counts, by the places that this module names."""
        return self._state.totals

    @property
    def n_bytes(self) -> int:
        """Memory in use. Arrays have room to grow; what was never written occupies none."""
        state, totals = self._state, self._state.totals
        slots = sum(a.itemsize for a in state[1:6]) * int(totals[SLOTS])
        event = sum(a.itemsize * int(np.prod(a.shape[1:])) for a in state[6:10] if len(a))
        return slots + event * int(totals[EVENTS_END]) + state.table.nbytes

    @property
    def watermark_ms(self) -> int:
        """The highest event time so far; NO_TIME_MS before the first."""
        return int(self._state.totals[WATERMARK])

    def update(self, inputs: ProfileInputs, keys: Hashes) -> tuple[Matrix, Flags]:
        """Fold transactions in offset order.

        Returns their features, shape (n, n_features of kind key), and which of them are new: not repetitions of a
        transaction id of the same key.
        """
        n = len(keys)
        values, is_new = np.empty((n, len(self._plan.columns)), np.float32), np.ones(n, np.bool_)
        ids = (inputs.ids & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        done = 0
        while True:
            done = fold_rows(
                self._state,
                self._plan,
                keys,
                inputs.event_time_ms,
                inputs.values,
                inputs.levels,
                ids,
                values,
                is_new,
                done,
            )
            if done == n:
                return values, is_new
            self._grow()

    def to_arrays(self) -> dict[str, Array]:
        """The state, without room to grow."""
        state, used = self._state, int(self._state.totals[SLOTS])
        slots = np.flatnonzero(state.slot_length[:used] >= 0)
        lengths = state.slot_length[slots]
        events = gather_events(state.slot_start[slots], lengths)
        return {
            "hash": state.slot_hash[slots],
            "base": state.slot_base[slots],
            "length": lengths,
            "class": state.slot_class[slots],
            "times": state.times[events],
            "values": state.values[events],
            "levels": state.levels[events],
            "ids": state.ids[events] if self._with_ids else state.ids[:0],
            "totals": state.totals.copy(),
        }

    @classmethod
    def from_arrays(cls, plan: ProfilePlan, arrays: dict[str, Array]) -> "KeyProfiles":
        """Restore the result of `to_arrays`. Raises ValueError if it does not fit the plan."""
        made = cls(plan)
        made._restore(arrays)
        return made

    def _restore(self, arrays: dict[str, Array]) -> None:
        plan, n_slots, n_events = self._plan, len(arrays["hash"]), int(arrays["length"].sum())
        sizes = SIZES[arrays["class"]]
        shapes = {
            "times": (n_events,),
            "values": (n_events, plan.n_values),
            "levels": (n_events, plan.n_levels),
            "ids": (n_events if self._with_ids else 0,),
            "totals": (N_TOTALS,),
        }
        if any(arrays[name].shape != shape for name, shape in shapes.items()) or np.any(arrays["length"] > sizes):
            raise ValueError("the arrays do not fit the plan")
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        slots, events = _room(n_slots, FIRST_SLOTS), _room(int(starts[-1]), FIRST_EVENTS)
        state = _empty(plan, slots, events, with_ids=self._with_ids)
        places = gather_events(starts[:-1], arrays["length"])
        state.slot_hash[:n_slots] = arrays["hash"]
        state.slot_base[:n_slots] = arrays["base"]
        state.slot_start[:n_slots] = starts[:-1]
        state.slot_length[:n_slots] = arrays["length"]
        state.slot_class[:n_slots] = arrays["class"]
        state.times[places] = arrays["times"]
        state.values[places] = arrays["values"]
        state.levels[places] = arrays["levels"]
        if self._with_ids:
            state.ids[places] = arrays["ids"]
        state.totals[:] = arrays["totals"]
        state.totals[[SLOTS, FREE_SLOT, EVENTS_END]] = n_slots, -1, starts[-1]
        fill_table(state)
        self._state = state

    def _grow(self) -> None:
        state, totals = self._state, self._state.totals
        slots, events = len(state.slot_hash), len(state.times)
        if totals[SLOTS] == slots:
            slots = slots * 3 // 2
        if totals[EVENTS_END] + MAX_EVENTS > events:
            events = events * 3 // 2
        grown = _empty(self._plan, slots, events, with_ids=self._with_ids)
        for name in STATE_ARRAYS:
            old = getattr(state, name)
            getattr(grown, name)[: len(old)] = old
        grown.free_segments[:] = state.free_segments
        grown.totals[:] = totals
        fill_table(grown)
        self._state = grown


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


def _empty(plan: KeyPlan, slots: int, events: int, *, with_ids: bool) -> KeyState:
    short = plan.windows[-1] <= MAX_SHORT_HORIZON_MS
    totals = np.zeros(N_TOTALS, np.int64)
    totals[[FREE_SLOT, WATERMARK]] = -1, NO_TIME_MS
    # `np.empty` of large arrays takes no memory until it is written.
    return KeyState(
        table=np.full(1 << int(slots * 3 // 2).bit_length(), -1, np.int32),
        slot_hash=np.empty(slots, np.uint64),
        slot_base=np.empty(slots, np.int64),
        slot_start=np.empty(slots, np.int64),
        slot_length=np.empty(slots, np.int32),
        slot_class=np.empty(slots, np.int8),
        times=np.empty(events, np.uint32 if short else np.int64),
        values=np.empty((events, plan.n_values), np.float32),
        levels=np.empty((events, plan.n_levels), np.uint32),
        ids=np.empty(events if with_ids else 0, np.uint32),
        free_segments=np.full(len(SIZES), -1, np.int64),
        totals=totals,
    )


def _room(used: int, least: int) -> int:
    return max(least, used + used // 4 + MAX_EVENTS)


@njit(cache=True)
def gather_events(starts: Ints, lengths: Array) -> Ints:
    """Positions of all events of segments, segment by segment."""
    places = np.empty(lengths.sum(), np.int64)
    k = 0
    for s in range(len(starts)):
        for j in range(lengths[s]):
            places[k] = starts[s] + j
            k += 1
    return places


@njit(cache=True)
def fill_table(state: KeyState) -> None:
    """Enter all slots in an empty table."""
    mask = np.uint64(len(state.table) - 1)
    for slot in range(state.totals[SLOTS]):
        if state.slot_length[slot] >= 0:
            place = state.slot_hash[slot] & mask
            while state.table[place] >= 0:
                place = (place + np.uint64(1)) & mask
            state.table[place] = slot


@njit(cache=True, inline="always")
def find_place(state: KeyState, key: Any) -> Any:
    """Position of a key in the table, or the position at which it belongs."""
    mask = np.uint64(len(state.table) - 1)
    place = key & mask
    while state.table[place] >= 0 and state.slot_hash[state.table[place]] != key:
        place = (place + np.uint64(1)) & mask
    return place


@njit(cache=True)
def purge(state: KeyState, until_ms: int) -> None:
    """Remove the keys whose newest event is not after a time."""
    totals = state.totals
    for slot in range(totals[SLOTS]):
        length = state.slot_length[slot]
        if length >= 0:
            newest = state.slot_base[slot] + np.int64(state.times[state.slot_start[slot] + length - 1])
            if newest <= until_ms:
                release(state, state.slot_start[slot], state.slot_class[slot])
                state.slot_length[slot] = -1
                state.slot_base[slot] = totals[FREE_SLOT]
                totals[FREE_SLOT] = slot
                totals[KEYS] -= 1
    state.table[:] = -1
    fill_table(state)


@njit(cache=True)
def release(state: KeyState, start: int, size_class: int) -> None:
    """Put a segment on the list of free ones."""
    # A list ends with its own largest number, because event times may be unsigned.
    following = state.free_segments[size_class]
    state.times[start] = END_OF_LIST if following < 0 else following
    state.free_segments[size_class] = start


@njit(cache=True)
def allocate(state: KeyState, size_class: int) -> Any:
    """Start of a free segment."""
    start = state.free_segments[size_class]
    if start >= 0:
        following = np.int64(state.times[start])
        state.free_segments[size_class] = -1 if following == END_OF_LIST else following
        return start
    start = state.totals[EVENTS_END]
    state.totals[EVENTS_END] = start + SIZES[size_class]
    return start


@njit(cache=True)
def move(state: KeyState, source: int, target: int, length: int) -> None:
    """Move events to a lower position, or to another segment."""
    for j in range(length):
        state.times[target + j] = state.times[source + j]
        for f in range(state.values.shape[1]):
            state.values[target + j, f] = state.values[source + j, f]
        for c in range(state.levels.shape[1]):
            state.levels[target + j, c] = state.levels[source + j, c]
        if len(state.ids):
            state.ids[target + j] = state.ids[source + j]


@njit(cache=True)
def drop_until(state: KeyState, slot: int, oldest_ms: int) -> None:
    """Drop a slot's events up to a time."""
    start, length, base = state.slot_start[slot], state.slot_length[slot], state.slot_base[slot]
    dropped = 0
    while dropped < length and base + np.int64(state.times[start + dropped]) <= oldest_ms:
        dropped += 1
    if dropped:
        move(state, start + dropped, start, length - dropped)
        state.slot_length[slot] = length - dropped


@njit(cache=True)
def make_room(state: KeyState, slot: int, oldest_ms: int) -> None:
    """Make room for one more event in a full segment: drop events up to a time, or take a larger segment."""
    drop_until(state, slot, oldest_ms)
    start, length, size_class = state.slot_start[slot], state.slot_length[slot], state.slot_class[slot]
    if length <= SIZES[size_class] - SIZES[size_class] // 8 - 1:
        return
    if size_class == len(SIZES) - 1:
        if length == SIZES[size_class]:
            state.totals[MERGED] += length // 2
            move(state, start + length // 2, start, length - length // 2)
            state.slot_length[slot] = length - length // 2
        return
    target = allocate(state, size_class + 1)
    move(state, start, target, length)
    release(state, start, size_class)
    state.slot_start[slot], state.slot_class[slot] = target, size_class + 1


@njit(cache=True)
def rebase(state: KeyState, slot: int, base_ms: int) -> None:
    """Let the event times of a slot count from another time."""
    shift = state.slot_base[slot] - base_ms
    for j in range(state.slot_start[slot], state.slot_start[slot] + state.slot_length[slot]):
        state.times[j] = np.int64(state.times[j]) + shift
    state.slot_base[slot] = base_ms


@njit(cache=True)
def remember(state: KeyState, key: Any, t: int, value: Array, level: Array, id_: Any, reach_ms: int) -> bool:
    """Add an event to its key. False if it is too late to be in any window. reach_ms: how far back windows look."""
    place = find_place(state, key)
    slot = np.int64(state.table[place])
    if slot < 0:
        totals = state.totals
        slot = totals[FREE_SLOT]
        if slot >= 0:
            totals[FREE_SLOT] = state.slot_base[slot]
        else:
            slot = totals[SLOTS]
            totals[SLOTS] = slot + 1
        totals[KEYS] += 1
        state.table[place] = slot
        state.slot_hash[slot], state.slot_base[slot] = key, t
        state.slot_length[slot], state.slot_class[slot] = 0, 0
        state.slot_start[slot] = allocate(state, 0)
    start, length = state.slot_start[slot], state.slot_length[slot]
    if length:
        newest = state.slot_base[slot] + np.int64(state.times[start + length - 1])
        if t <= newest - reach_ms:
            return False
        if length == SIZES[state.slot_class[slot]]:
            make_room(state, slot, max(t, newest) - reach_ms)
        elif t - state.slot_base[slot] > END_OF_LIST and state.times.itemsize == 4:
            drop_until(state, slot, t - reach_ms)
        start, length = state.slot_start[slot], state.slot_length[slot]
        oldest = state.slot_base[slot] + np.int64(state.times[start]) if length else t
        if t < state.slot_base[slot] or (t - state.slot_base[slot] > END_OF_LIST and state.times.itemsize == 4):
            rebase(state, slot, min(t, oldest))
    relative = t - state.slot_base[slot]
    j = start + length
    while j > start and np.int64(state.times[j - 1]) > relative:
        move(state, j - 1, j, 1)
        j -= 1
    state.times[j] = relative
    for f in range(state.values.shape[1]):
        state.values[j, f] = value[f]
    for c in range(state.levels.shape[1]):
        state.levels[j, c] = level[c]
    if len(state.ids):
        state.ids[j] = id_
    state.slot_length[slot] = length + 1
    return True


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
    totals = state.totals
    n_windows, n_values, n_levels = len(plan.windows), plan.n_values, plan.n_levels
    reach_ms = plan.windows[-1] + 2 * plan.tiles[-1]
    # Running totals of the scan, and what they were at the end of each window.
    counted, highs, lows = np.zeros(n_values, np.int64), np.zeros(n_values, np.uint64), np.zeros(n_values, np.uint64)
    sums, highest, distinct = np.zeros(n_values, np.int64), np.zeros(n_values), np.zeros(n_levels, np.int64)
    w_count = np.zeros(n_windows, np.int64)
    w_counted, w_sums = np.zeros((n_windows, n_values), np.int64), np.zeros((n_windows, n_values), np.int64)
    w_highs, w_lows = np.zeros((n_windows, n_values), np.uint64), np.zeros((n_windows, n_values), np.uint64)
    w_highest, w_distinct = np.zeros((n_windows, n_values)), np.zeros((n_windows, n_levels), np.int64)
    found = np.zeros(n_levels, np.int64)  # window in which the row's own level was seen last
    tails = np.zeros(n_windows, np.int64)
    seen, seen_in = np.zeros((n_levels, N_SEEN), np.uint32), np.full((n_levels, N_SEEN), -1, np.int64)
    for i in range(first, len(times)):
        if totals[SLOTS] == len(state.slot_hash) or totals[EVENTS_END] + MAX_EVENTS > len(state.times):
            return i
        t, key = times[i], keys[i]
        if t > totals[WATERMARK]:
            if totals[WATERMARK] != NO_TIME_MS and t // DAY_MS > totals[WATERMARK] // DAY_MS:
                purge(state, t // DAY_MS * DAY_MS - reach_ms - DAY_MS)
            totals[WATERMARK] = t
        # The same for every layout of the arrays: what was purged, or would leave a full segment, is not seen.
        purged_ms = totals[WATERMARK] // DAY_MS * DAY_MS - reach_ms - DAY_MS
        for f in range(n_values):
            if abs(values[i, f]) > 2.0**40:
                totals[SATURATED] += 1
        slot = np.int64(state.table[find_place(state, key)])
        start = np.int64(0) if slot < 0 else state.slot_start[slot]
        base = np.int64(0) if slot < 0 else state.slot_base[slot]
        end = start if slot < 0 else start + state.slot_length[slot]
        newest = base + np.int64(state.times[end - 1]) if end > start else np.int64(NO_TIME_MS)
        if len(state.ids) and ids[i] != 0:
            for e in range(start, end):
                if state.ids[e] == ids[i] and base + np.int64(state.times[e]) > max(
                    purged_ms, max(t, newest) - reach_ms
                ):
                    is_new[i] = False
                    break
        visible_ms = max(purged_ms, newest - reach_ms)
        for w in range(n_windows):
            tails[w] = (t - plan.windows[w]) // plan.tiles[w] * plan.tiles[w]
        counted[:], sums[:], highs[:], lows[:], highest[:], distinct[:] = 0, 0, 0, 0, -np.inf, 0
        found[:] = n_windows
        last_ms: Any = np.int64(NO_TIME_MS)
        count, w, j = 0, 0, end - 1
        while j >= start and base + np.int64(state.times[j]) > t:
            j -= 1
        while w < n_windows:
            at = base + np.int64(state.times[j]) if j >= start else np.int64(NO_TIME_MS)
            if at <= visible_ms:
                at = np.int64(NO_TIME_MS)
            while w < n_windows and at <= tails[w]:
                w_count[w] = count
                for f in range(n_values):
                    w_counted[w, f], w_sums[w, f], w_highest[w, f] = counted[f], sums[f], highest[f]
                    w_highs[w, f], w_lows[w, f] = highs[f], lows[f]
                for c in range(n_levels):
                    w_distinct[w, c] = distinct[c]
                w += 1
            if w == n_windows:
                break
            count += 1
            last_ms = max(last_ms, at)
            for f in range(n_values):
                x = np.float64(state.values[j, f])
                if not np.isnan(x):
                    units = to_units(x)
                    counted[f] += 1
                    sums[f] = add_units(sums[f], units)
                    highest[f] = max(highest[f], x)
                    if plan.squares:
                        high, low = square(units)
                        highs[f], lows[f] = add_wide(highs[f], lows[f], high, low)
            for c in range(n_levels):
                level = state.levels[j, c]
                if level != 0:
                    if level == levels[i, c]:
                        found[c] = min(found[c], w)
                    p = np.int64(level) & (N_SEEN - 1)
                    while seen_in[c, p] == i and seen[c, p] != level:
                        p = (p + 1) & (N_SEEN - 1)
                    if seen_in[c, p] != i:
                        seen[c, p], seen_in[c, p] = level, i
                        distinct[c] += 1
            j -= 1
        for k in range(len(plan.columns)):
            code, w, f = plan.columns[k, 0], plan.columns[k, 1], plan.columns[k, 2]
            result = np.nan
            if code == COUNT:
                result = np.float64(w_count[w])
            elif code == SECONDS_SINCE_LAST:
                if last_ms > tails[w]:
                    result = (t - last_ms) / 1000
            elif code == DISTINCT:
                result = np.float64(w_distinct[w, f])
            elif code == IS_NEW:
                if levels[i, f] != 0:
                    result = 1.0 if found[f] > w else 0.0
            elif code == SUM:
                result = w_sums[w, f] / 1048576.0
            elif code == MAX:
                if w_counted[w, f]:
                    result = w_highest[w, f]
            elif code == RATIO_MAX:
                if w_counted[w, f]:
                    result = ratio(np.float64(values[i, f]), w_highest[w, f])
            else:
                average = mean(w_counted[w, f], w_sums[w, f])
                if code == MEAN:
                    result = average
                elif code == RATIO:
                    result = ratio(np.float64(values[i, f]), average)
                else:
                    deviation = standard_deviation(w_counted[w, f], w_sums[w, f], w_highs[w, f], w_lows[w, f])
                    result = deviation if code == STD else z_score(np.float64(values[i, f]), average, deviation)
            out[i, k] = result
        if not is_new[i]:
            totals[REPEATED] += 1
        elif t <= purged_ms or not remember(state, key, t, values[i], levels[i], ids[i], reach_ms):
            totals[LATE] += 1
    return len(times)
