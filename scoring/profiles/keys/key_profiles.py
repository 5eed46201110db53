"""Profiles of the key: a fold over one input partition, exact to the transaction."""

import numpy as np

from scoring.arrays import Array, Flags, Hashes, Ints, Matrix
from scoring.memory import trim_memory
from scoring.profiles.keys.key_scan import fold_rows, key_plan, new_totals
from scoring.profiles.keys.key_state import (
    EVENTS_END,
    FREE_SLOT,
    MAX_EVENTS,
    N_TOTALS,
    SIZES,
    SLOT_ARRAYS,
    SLOTS,
    STATE_ARRAYS,
    TO_MERGE,
    KeyState,
    copy_segments,
    drop_expired,
    empty_state,
    fill_table,
    find_slots,
    gather_events,
    table_size,
)
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared import entity_rows
from scoring.profiles.shared.tile_store import TileStore, tile_levels

FIRST_SLOTS, FIRST_EVENTS = 1_024, 8_192
EVENT_ARRAYS = STATE_ARRAYS[5:]
COPIED_EVENTS = 1 << 18  # at once
SLOT_GROWTH = 1.25
# Room for events after they are packed. Packing costs little, and room is memory that the state has and does not use.
EVENT_GROWTH = 1.05


class KeyProfiles:
    """The keys of one input partition."""

    def __init__(self, plan: ProfilePlan) -> None:
        self._plan, self._with_ids = key_plan(plan), plan.has_ids
        self._state = self._empty(FIRST_SLOTS, FIRST_EVENTS)
        self._busy = TileStore(self._plan.n_values, tile_levels(self._plan.windows.tolist()))
        self._touched: list[Hashes] | None = None  # keys folded since a copy began
        self.packings = 0  # how often all events have moved

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
        return slots + event * int(totals[EVENTS_END]) + state.table.nbytes + self._busy.n_bytes

    def update(self, inputs: ProfileInputs, keys: Hashes) -> tuple[Matrix, Flags]:
        """Fold transactions in offset order.

        Returns their features, shape (n, n_features of kind key), and which of them are new: not repetitions of a
        transaction id of the same key.
        """
        n = len(keys)
        if self._touched is not None:
            self._touched.append(keys)
        values, is_new = np.empty((n, len(self._plan.columns)), np.float32), np.ones(n, np.bool_)
        ids = (inputs.ids & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        done, totals = 0, new_totals(self._plan)
        while True:
            done = fold_rows(
                self._state,
                self._plan,
                totals,
                keys,
                inputs.event_time_ms,
                inputs.values,
                inputs.levels,
                ids,
                values,
                is_new,
                done,
                self._busy.rows,
                self._busy.levels,
            )
            if done == n:
                return values, is_new
            if self._state.totals[TO_MERGE]:
                self._busy.rows = entity_rows.grown(self._busy.rows)
            else:
                self._grow()

    def begin_copy(self) -> "KeyCopy":
        """Begin a copy; see `KeyCopy`. There is one at a time."""
        self._touched = []
        return KeyCopy(self, self._state)

    def touched(self) -> Hashes:
        """The keys of all transactions that were folded since `begin_copy`."""
        found, self._touched = self._touched or [], None
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))

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
            "times": state.times[events],
            "values": state.values[events],
            "levels": state.levels[events],
            "ids": state.ids[events] if self._with_ids else state.ids[:0],
            "totals": state.totals.copy(),
            **{f"busy.{name}": array for name, array in self._busy.to_arrays().items()},
        }

    @classmethod
    def from_arrays(cls, plan: ProfilePlan, arrays: dict[str, Array]) -> "KeyProfiles":
        """Restore the result of `to_arrays`. Raises ValueError if it does not fit the plan."""
        made = cls(plan)
        made._restore(arrays)
        busy = {name.removeprefix("busy."): array for name, array in arrays.items() if name.startswith("busy.")}
        made._busy = TileStore.from_arrays(made._plan.n_values, made._busy.levels, busy)
        return made

    def _restore(self, arrays: dict[str, Array]) -> None:
        plan, n_slots, n_events = self._plan, len(arrays["hash"]), int(arrays["length"].sum())
        classes = np.searchsorted(SIZES, arrays["length"]).astype(np.int8)
        shapes = {
            "times": (n_events,),
            "values": (n_events, plan.n_values),
            "levels": (n_events, plan.n_levels),
            "ids": (n_events if self._with_ids else 0,),
            "totals": (N_TOTALS,),
        }
        fits = all(arrays[name].shape == shape for name, shape in shapes.items())
        if not fits or np.any(arrays["length"] > MAX_EVENTS) or np.any(arrays["length"] < 0):
            raise ValueError("the arrays do not fit the plan")
        starts = np.concatenate([[0], np.cumsum(SIZES[classes])]).astype(np.int64)
        slots, events = _room(n_slots, FIRST_SLOTS), _room(int(starts[-1]), FIRST_EVENTS)
        state = self._empty(slots, events)
        places = gather_events(starts[:-1], arrays["length"])
        state.slot_hash[:n_slots] = arrays["hash"]
        state.slot_base[:n_slots] = arrays["base"]
        state.slot_start[:n_slots] = starts[:-1]
        state.slot_length[:n_slots] = arrays["length"]
        state.slot_class[:n_slots] = classes
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
        """Make room for more keys and events: drop those that have expired, and pack the others into new arrays."""
        state, totals = self._state, self._state.totals
        drop_expired(state, self._plan.reach_ms)
        n_slots = int(totals[SLOTS])
        lengths = state.slot_length[:n_slots].clip(0)
        classes = np.searchsorted(SIZES, lengths).astype(np.int8)
        sizes = np.where(state.slot_length[:n_slots] >= 0, SIZES[classes], 0)
        starts, end = np.cumsum(sizes) - sizes, int(sizes.sum())
        slots = len(state.slot_hash)
        if n_slots == slots:
            slots = int(slots * SLOT_GROWTH)
        events = int(end * EVENT_GROWTH) + 2 * MAX_EVENTS
        sources = state.slot_start[:n_slots].copy()
        arrays: dict[str, Array | None] = dict(zip(STATE_ARRAYS, state[1:10], strict=True))
        grown: dict[str, Array] = {}
        # So that each old array is freed as soon as it is copied.
        self._state = state._replace(**dict.fromkeys(STATE_ARRAYS))  # type: ignore[arg-type]
        del state
        for name in STATE_ARRAYS:
            old, arrays[name] = arrays[name], None
            assert old is not None
            made = np.empty((slots if name in SLOT_ARRAYS else events if len(old) else 0, *old.shape[1:]), old.dtype)
            if name in SLOT_ARRAYS:
                made[:n_slots] = old[:n_slots]
            elif len(old):
                copy_segments(old, sources, made, starts, lengths)
            grown[name] = made
            del old
        self.packings += 1
        grown["slot_start"][:n_slots], grown["slot_class"][:n_slots] = starts, classes
        self._state.free_segments[:] = -1
        totals[EVENTS_END] = end
        table = np.full(table_size(slots), -1, np.int32)
        self._state = self._state._replace(table=table, **grown)
        fill_table(self._state)
        del grown, table, lengths, classes, sizes, starts, sources
        trim_memory()

    def _empty(self, slots: int, events: int) -> KeyState:
        plan = self._plan
        return empty_state(
            slots,
            events,
            n_values=plan.n_values,
            n_levels=plan.n_levels,
            with_ids=self._with_ids,
            horizon_ms=int(plan.windows[-1]),
        )


class KeyCopy:
    """A copy of the state, for `to_arrays` only, that is made while transactions are folded.

    Nearly all of the state are the events. They are copied first, by another thread, while they change. Then, between
    two batches, the slots are copied, and again the events of all keys that were folded meanwhile: no others have moved
    or changed. So folding waits for a few milliseconds, however large the state is.
    """

    def __init__(self, source: KeyProfiles, state: KeyState) -> None:
        self._source = source
        self._state = state
        self._packings = source.packings
        self._end = int(state.totals[EVENTS_END])
        self._events: dict[str, Array] = {}

    def copy_events(self) -> None:
        """The long step, for another thread than the one that folds."""
        for name in EVENT_ARRAYS:
            array = getattr(self._state, name)
            copied = np.empty_like(array)  # memory beyond `_end` is taken only if it is written
            used = min(self._end, len(array))
            for at in range(0, used, COPIED_EVENTS):
                copied[at : min(at + COPIED_EVENTS, used)] = array[at : min(at + COPIED_EVENTS, used)]
            self._events[name] = copied

    def finish(self) -> KeyProfiles:
        """The short step, in the thread that folds. The result cannot be updated."""
        source, state = self._source, self._source._state
        used, end = int(state.totals[SLOTS]), int(state.totals[EVENTS_END])
        slots = find_slots(state, source.touched())
        changed = gather_events(state.slot_start[slots], state.slot_length[slots])
        arrays = {name: getattr(state, name)[:used].copy() for name in SLOT_ARRAYS}
        if self._packings != source.packings:  # all events have moved
            self._events = {name: getattr(state, name)[:end].copy() for name in EVENT_ARRAYS}
        for name, copied in self._events.items():
            array = getattr(state, name)
            if len(copied) < min(end, len(array)):  # the arrays have grown meanwhile
                grown = np.empty_like(array)
                grown[: len(copied)] = copied
                copied = grown
            if len(array):
                copied[changed] = array[changed]
            arrays[name] = copied
        made = object.__new__(KeyProfiles)
        made._plan, made._with_ids = source._plan, source._with_ids
        made._touched = None
        made._state = state._replace(table=state.table[:0], totals=state.totals.copy(), **arrays)
        made._busy = source._busy.copy()
        return made


def _room(used: int, least: int) -> int:
    return max(least, used + used // 4 + MAX_EVENTS)
