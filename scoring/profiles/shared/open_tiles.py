"""Open tiles of one input partition: a fold over its transactions in offset order.

Per profile of kind `tiles`, transactions are aggregated by entity in the tile (until, until + grain] that is open. A
transaction past its end closes it: its rows leave, and the tile of the transaction opens. The end of a tile belongs to
it, also when the watermark is there already: with event times of whole hours, most transactions of an hour have the
event time of the watermark. A transaction up to `until` is late: counted, and not aggregated.
"""

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from schemas.dataset.profiles import Profile
from scoring.arrays import Array, Flags, Hashes, Indices, Ints
from scoring.compilation import compiled
from scoring.profiles.aggregate_rows import add_transaction, clear_row, row_width
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.windows import NO_TIME_MS, tile_ms

N_OPEN, UNTIL, LATE, SATURATED = range(4)  # words of `TileState.totals`
MIN_ROOM = 64


class ClosedTiles(NamedTuple):
    """Tiles that one profile of one partition closed, up to a time. There may be none."""

    profile: int  # position in the plan
    until_ms: int
    entities: Hashes  # shape (n,)
    rows: Ints  # shape (n, row_width(n fields of the profile)), see `aggregate_rows`


class TileState(NamedTuple):
    """The open tile of one profile."""

    table: npt.NDArray[np.int32]  # open addressing: hash of an entity -> row + 1; 0 is free
    entities: Hashes
    rows: Ints
    totals: Ints


class OpenTiles:
    """The open tiles of all profiles of kind `tiles`."""

    def __init__(self, plan: ProfilePlan) -> None:
        self._plan = plan
        self._profiles = {i: p for i, p in enumerate(plan.profiles) if p.kind == "tiles"}
        self._fields = {i: tile_fields(plan, p) for i, p in self._profiles.items()}
        self._states = {i: _empty(len(self._fields[i]), MIN_ROOM) for i in self._profiles}

    @property
    def late(self) -> int:
        """Transactions of closed tiles, by profile, since the start of the log."""
        return sum(int(state.totals[LATE]) for state in self._states.values())

    @property
    def saturated(self) -> int:
        """Numbers beyond the range of sums, by profile, since the start of the log."""
        return sum(int(state.totals[SATURATED]) for state in self._states.values())

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for state in self._states.values() for array in state)

    def update(self, inputs: ProfileInputs, accepted: Flags) -> list[ClosedTiles]:
        """Fold transactions. accepted: shape (n,); the others, such as repetitions, only move the watermark."""
        closed = []
        n = len(inputs.event_time_ms)
        for i, profile in self._profiles.items():
            state = self._states[i] = _with_room(self._states[i], n)
            room = int(state.totals[N_OPEN]) + n
            entities, rows = np.empty(room, np.uint64), np.empty((room, state.rows.shape[1]), np.int64)
            until = int(state.totals[UNTIL])
            n_closed = fold_transactions(
                state,
                tile_ms(profile.windows_ms[0]),
                inputs.entities[profile.entity],
                inputs.event_time_ms,
                np.ascontiguousarray(inputs.values[:, self._fields[i]]),
                accepted,
                entities,
                rows,
            )
            if state.totals[UNTIL] > until:
                tiles = ClosedTiles(i, int(state.totals[UNTIL]), entities[:n_closed].copy(), rows[:n_closed].copy())
                closed.append(tiles)
        return closed

    def to_arrays(self) -> dict[str, Array]:
        """The state, for a snapshot."""
        arrays: dict[str, Array] = {}
        for i, state in self._states.items():
            n = int(state.totals[N_OPEN])
            arrays[f"{i}.entities"] = state.entities[:n].copy()
            arrays[f"{i}.rows"] = state.rows[:n].copy()
            arrays[f"{i}.totals"] = state.totals.copy()
        return arrays

    @classmethod
    def from_arrays(cls, plan: ProfilePlan, arrays: dict[str, Array]) -> Self:
        """Restore the result of `to_arrays`. Raises ValueError or LookupError if it does not fit the plan."""
        made = cls(plan)
        for i, fields in made._fields.items():
            entities, rows, totals = (arrays[f"{i}.{name}"] for name in ("entities", "rows", "totals"))
            n = len(entities)
            if rows.shape != (n, row_width(len(fields))) or totals.shape != (SATURATED + 1,) or totals[N_OPEN] != n:
                raise ValueError(f"open tiles of shape {rows.shape} do not fit profile {i} of the plan")
            state = _with_room(_empty(len(fields), MIN_ROOM), n)
            state.entities[:n], state.rows[:n], state.totals[:] = entities, rows, totals
            _fill_table(state)
            made._states[i] = state
        return made


def tile_fields(plan: ProfilePlan, profile: Profile) -> Indices:
    """The number fields that a profile aggregates: columns of `ProfileInputs.values`, in the order of its rows."""
    fields = dict.fromkeys(f.field for f in profile.features if f.field is not None)
    return np.array([plan.number_fields.index(name) for name in fields], dtype=np.intp)


def _empty(n_fields: int, room: int) -> TileState:
    return TileState(
        table=np.zeros(1 << (room * 3 // 2).bit_length(), np.int32),
        entities=np.empty(room, np.uint64),
        rows=np.empty((room, row_width(n_fields)), np.int64),
        totals=np.array([0, NO_TIME_MS, 0, 0], np.int64),
    )


def _with_room(state: TileState, more: int) -> TileState:
    n = int(state.totals[N_OPEN])
    if n + more <= len(state.entities):
        return state
    room = max(n + more, 2 * len(state.entities))
    made = TileState(
        table=np.zeros(1 << (room * 3 // 2).bit_length(), np.int32),
        entities=np.empty(room, np.uint64),
        rows=np.empty((room, state.rows.shape[1]), np.int64),
        totals=state.totals,
    )
    made.entities[:n], made.rows[:n] = state.entities[:n], state.rows[:n]
    _fill_table(made)
    return made


@compiled
def fold_transactions(
    state: TileState,
    grain_ms: int,
    hashes: Hashes,
    times_ms: Ints,
    values: Array,
    accepted: Flags,
    closed_entities: Hashes,
    closed_rows: Ints,
) -> int:
    """Fold transactions into the open tile of one profile. Returns the number of rows that closed."""
    totals = state.totals
    n_closed = 0
    for i in range(len(times_ms)):
        time = times_ms[i]
        if time > totals[UNTIL] + grain_ms:
            for k in range(totals[N_OPEN]):
                closed_entities[n_closed] = state.entities[k]
                closed_rows[n_closed] = state.rows[k]
                n_closed += 1
            if totals[N_OPEN] > 0:
                state.table[:] = 0
            totals[N_OPEN] = 0
            totals[UNTIL] = (time - 1) // grain_ms * grain_ms
        if not accepted[i] or hashes[i] == 0:
            continue
        if time <= totals[UNTIL]:
            totals[LATE] += 1
            continue
        place = _find_place(state, hashes[i])
        k = state.table[place] - 1
        if k < 0:
            k = totals[N_OPEN]
            totals[N_OPEN] = k + 1
            state.table[place] = k + 1
            state.entities[k] = hashes[i]
            clear_row(state.rows[k])
        totals[SATURATED] += add_transaction(state.rows[k], time, values[i])
    return n_closed


@compiled
def _find_place(state: TileState, entity: Any) -> Any:
    mask = np.uint64(len(state.table) - 1)
    place = entity & mask
    while state.table[place] != 0 and state.entities[state.table[place] - 1] != entity:
        place = (place + np.uint64(1)) & mask
    return place


@compiled
def _fill_table(state: TileState) -> None:
    for k in range(state.totals[N_OPEN]):
        state.table[_find_place(state, state.entities[k])] = k + 1
