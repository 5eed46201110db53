"""Arrays that remember the transactions of each key, and the loops that keep them: table, slots, segments of events.

    table     open addressing: hash of a key -> slot
    slots     one per key: hash, time that its event times count from, segment (start, length, size class)
    events    one per transaction: event time, numbers, hashes of levels, hash of the transaction id

A key's events lie in one segment, sorted by event time. An event leaves when its segment is full and no window can
reach it any more, with one more tile of the longest window for transactions that come late.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.time_units import DAY_MS
from scoring.arrays import Array, Hashes, Ints, Matrix
from scoring.compilation import compiled, compiled_inline
from scoring.profiles.windows import NO_TIME_MS

# Events of a segment, by class: a full segment without an event to drop grows by a few events, or an eighth.
SIZES = np.array([2, 4, 6, *range(8, 128, 4), 128, 144, 160, 184, 208, 232, 264, 296, 336, 376, 424, 472, 512])
MAX_EVENTS = int(SIZES[-1])  # of a key
MAX_SHORT_HORIZON_MS = 40 * DAY_MS  # up to this, event times fit into 32 bits
END_OF_LIST = 2**32 - 1  # of free segments; also the longest time after a base in 32 bits

# Places of `KeyState.totals`.
SLOTS, FREE_SLOT, EVENTS_END, WATERMARK, KEYS, LATE, REPEATED, SATURATED, MERGED, TO_MERGE = range(10)
N_TOTALS = 10


class KeyState(NamedTuple):
    """The arrays of a partition's keys."""

    table: npt.NDArray[np.int32]  # slot, or -1
    slot_hash: Hashes
    slot_base: Ints  # event times of the slot count from it; of a free slot: the next free one
    slot_start: Ints
    slot_length: npt.NDArray[np.int16]  # -1: free
    slot_class: npt.NDArray[np.int8]
    times: Array  # uint32 or int64, ms after the slot's base; the first of a free segment: the next free one
    values: Matrix  # (events, n_number_fields)
    levels: npt.NDArray[np.uint32]  # (events, n_category_fields)
    ids: npt.NDArray[np.uint32]  # (events,), or empty if the data set has no transaction ids
    free_segments: Ints  # by size class: start of the first free segment, or -1
    totals: Ints


STATE_ARRAYS = KeyState._fields[1:10]  # of slots and events
SLOT_ARRAYS = STATE_ARRAYS[:5]


def empty_state(slots: int, events: int, *, n_values: int, n_levels: int, with_ids: bool, horizon_ms: int) -> KeyState:
    """Arrays with room for this many keys and events. horizon_ms: the longest window."""
    totals = np.zeros(N_TOTALS, np.int64)
    totals[[FREE_SLOT, WATERMARK]] = -1, NO_TIME_MS
    # `np.empty` of large arrays takes no memory until it is written.
    return KeyState(
        table=np.full(table_size(slots), -1, np.int32),
        slot_hash=np.empty(slots, np.uint64),
        slot_base=np.empty(slots, np.int64),
        slot_start=np.empty(slots, np.int64),
        slot_length=np.empty(slots, np.int16),
        slot_class=np.empty(slots, np.int8),
        times=np.empty(events, np.uint32 if horizon_ms <= MAX_SHORT_HORIZON_MS else np.int64),
        values=np.empty((events, n_values), np.float32),
        levels=np.empty((events, n_levels), np.uint32),
        ids=np.empty(events if with_ids else 0, np.uint32),
        free_segments=np.full(len(SIZES), -1, np.int64),
        totals=totals,
    )


def table_size(slots: int) -> int:
    """Places of the table: a power of two, at most two thirds of them taken."""
    return 1 << (slots * 3 // 2 - 1).bit_length()


@compiled
def gather_events(starts: Ints, lengths: Array) -> Ints:
    """Positions of all events of segments, segment by segment."""
    places = np.empty(lengths.sum(), np.int64)
    k = 0
    for s in range(len(starts)):
        for j in range(lengths[s]):
            places[k] = starts[s] + j
            k += 1
    return places


@compiled
def copy_segments(source: Array, starts: Ints, target: Array, new_starts: Ints, lengths: Ints) -> None:
    """Copy segments of one array to other places of another. starts, new_starts, lengths: of each segment."""
    for s in range(len(starts)):
        for j in range(lengths[s]):
            target[new_starts[s] + j] = source[starts[s] + j]


@compiled
def fill_table(state: KeyState) -> None:
    """Enter all slots in an empty table."""
    mask = np.uint64(len(state.table) - 1)
    for slot in range(state.totals[SLOTS]):
        if state.slot_length[slot] >= 0:
            place = state.slot_hash[slot] & mask
            while state.table[place] >= 0:
                place = (place + np.uint64(1)) & mask
            state.table[place] = slot


@compiled_inline
def find_place(state: KeyState, key: Any) -> Any:
    """Position of a key in the table, or the position at which it belongs."""
    mask = np.uint64(len(state.table) - 1)
    place = key & mask
    while state.table[place] >= 0 and state.slot_hash[state.table[place]] != key:
        place = (place + np.uint64(1)) & mask
    return place


@compiled
def find_slots(state: KeyState, keys: Hashes) -> Ints:
    """Slots of those of the keys that are remembered."""
    slots = np.empty(len(keys), np.int64)
    n = 0
    for key in keys:
        slot = state.table[find_place(state, key)]
        if slot >= 0:
            slots[n] = slot
            n += 1
    return slots[:n]


@compiled
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


@compiled
def release(state: KeyState, start: int, size_class: int) -> None:
    """Put a segment on the list of free ones."""
    # A list ends with its own largest number, because event times may be unsigned.
    following = state.free_segments[size_class]
    state.times[start] = END_OF_LIST if following < 0 else following
    state.free_segments[size_class] = start


@compiled
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


@compiled
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


@compiled
def drop_until(state: KeyState, slot: int, oldest_ms: int) -> None:
    """Drop a slot's events up to a time."""
    start, length, base = state.slot_start[slot], state.slot_length[slot], state.slot_base[slot]
    dropped = 0
    while dropped < length and base + np.int64(state.times[start + dropped]) <= oldest_ms:
        dropped += 1
    if dropped:
        move(state, start + dropped, start, length - dropped)
        state.slot_length[slot] = length - dropped


@compiled
def drop_expired(state: KeyState, reach_ms: int) -> None:
    """Drop the events of all slots that no window can reach any more."""
    for slot in range(state.totals[SLOTS]):
        length = state.slot_length[slot]
        if length > 0:
            newest = state.slot_base[slot] + np.int64(state.times[state.slot_start[slot] + length - 1])
            drop_until(state, slot, newest - reach_ms)


@compiled
def make_room(state: KeyState, slot: int, oldest_ms: int) -> None:
    """Make room for one more event in a full segment: drop events up to a time, or take a larger segment."""
    drop_until(state, slot, oldest_ms)
    start, length, size_class = state.slot_start[slot], state.slot_length[slot], state.slot_class[slot]
    if length == SIZES[size_class]:  # never of the largest class: such a segment was merged before
        target = allocate(state, size_class + 1)
        move(state, start, target, length)
        release(state, start, size_class)
        state.slot_start[slot], state.slot_class[slot] = target, size_class + 1


@compiled
def rebase(state: KeyState, slot: int, base_ms: int) -> None:
    """Let the event times of a slot count from another time."""
    shift = state.slot_base[slot] - base_ms
    for j in range(state.slot_start[slot], state.slot_start[slot] + state.slot_length[slot]):
        state.times[j] = np.int64(state.times[j]) + shift
    state.slot_base[slot] = base_ms


@compiled
def remember(state: KeyState, key: Any, t: int, value: Array, level: Array, id_: Any, reach_ms: int) -> bool:
    """Add an event to its key. False if it is too late to be in any window. reach_ms: how far back windows look."""
    place = find_place(state, key)
    slot: Any = np.int64(state.table[place])
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
