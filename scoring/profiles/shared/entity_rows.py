"""Rows by entity: each entity has a block of rows of int64 words, kept in an order that the caller chooses.

    table     open addressing: hash of an entity -> slot + 1; 0 is free
    slots     one per entity: hash, and its block (start, length, size class: room for 2^class rows)
    rows      the blocks, one after the other, and free blocks

Compiled functions change the arrays in place and answer False or -1 when there is no room left: the caller then calls
`grown` and continues where it stopped. Entities leave, and free room is given back, in `packed`.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scoring.arrays import Array, Ints
from scoring.compilation import compiled

N_SLOTS, ROWS_END, FIRST_FREE = (
    0,
    1,
    2,
)  # words of `EntityRows.state`; from FIRST_FREE on: the first free block by class
N_CLASSES = 32
FIRST_SLOTS = 64
FIRST_ROWS = 256


class EntityRows(NamedTuple):
    """The arrays."""

    table: npt.NDArray[np.int32]
    entities: npt.NDArray[np.uint64]
    starts: Ints
    lengths: npt.NDArray[np.int32]
    classes: npt.NDArray[np.int8]
    rows: Ints  # shape (n, width)
    state: Ints

    @property
    def n_bytes(self) -> int:
        """Memory in use. What the arrays have never written occupies none."""
        slot = sum(a.itemsize for a in (self.entities, self.starts, self.lengths, self.classes))
        used = int(self.state[N_SLOTS]) * slot + int(self.state[ROWS_END]) * self.rows.shape[1] * 8
        return int(self.table.nbytes + used)

    @property
    def n_rows(self) -> int:
        """Rows of all entities."""
        lengths: Ints = self.lengths[: int(self.state[N_SLOTS])].astype(np.int64)
        return int(lengths.sum())

    def to_arrays(self) -> dict[str, Array]:
        """The rows, ordered by entity: equal for equal content."""
        n = int(self.state[N_SLOTS])
        order = np.argsort(self.entities[:n], kind="stable")
        order = order[self.lengths[order] > 0]
        return {
            "entities": self.entities[order],
            "lengths": self.lengths[order],
            "rows": gather(self, order),
        }


class EntityStore:
    """A store whose rows are kept by entity."""

    def __init__(self, width: int) -> None:
        self.rows = empty(width)

    @property
    def n_entities(self) -> int:
        """Entities with rows."""
        return int(self.rows.state[N_SLOTS])

    @property
    def n_rows(self) -> int:
        """Rows of all entities."""
        return self.rows.n_rows

    @property
    def n_bytes(self) -> int:
        """Memory in use."""
        return self.rows.n_bytes


def empty(width: int, n_slots: int = FIRST_SLOTS, n_rows: int = FIRST_ROWS) -> EntityRows:
    """Arrays without an entity, with room for some slots and rows."""
    state = np.full(FIRST_FREE + N_CLASSES, -1, dtype=np.int64)
    state[:FIRST_FREE] = 0
    return EntityRows(
        table=np.zeros(1 << (n_slots * 3 // 2).bit_length(), dtype=np.int32),
        entities=np.empty(n_slots, dtype=np.uint64),
        starts=np.empty(n_slots, dtype=np.int64),
        lengths=np.zeros(n_slots, dtype=np.int32),
        classes=np.empty(n_slots, dtype=np.int8),
        rows=np.empty((n_rows, width), dtype=np.int64),
        state=state,
    )


def from_arrays(width: int, arrays: dict[str, Array]) -> EntityRows:
    """Restore the result of `to_arrays`. Raises ValueError if the arrays do not fit, LookupError if one is missing."""
    entities, lengths, rows = arrays["entities"], arrays["lengths"], arrays["rows"]
    if lengths.shape != entities.shape or np.any(lengths <= 0) or rows.shape != (int(lengths.sum()), width):
        raise ValueError(f"rows of shape {rows.shape} do not fit {len(entities)} entities and width {width}")
    if rows.dtype != np.int64 or entities.dtype != np.uint64:
        raise ValueError(f"rows of type {rows.dtype} and entities of type {entities.dtype}, expected int64 and uint64")
    store = empty(width, max(FIRST_SLOTS, len(entities)), max(FIRST_ROWS, _blocks(lengths)))
    _fill(store, entities, lengths.astype(np.int64), rows)
    return store


def grown(store: EntityRows) -> EntityRows:
    """The same content with more room."""
    n_slots, n_rows = len(store.entities), len(store.rows)
    n = int(store.state[N_SLOTS])
    more_slots = n_slots * 2 if n == n_slots else n_slots
    longest = int(store.lengths[:n].max(initial=1))
    made = empty(store.rows.shape[1], more_slots, n_rows + max(n_rows // 2, 4 * longest))
    for name in EntityRows._fields[1:]:
        old = getattr(store, name)
        getattr(made, name)[: len(old)] = old
    if more_slots == n_slots:
        made.table[:] = store.table
    else:
        _fill_table(made)
    return made


def packed(store: EntityRows) -> EntityRows:
    """The same content without entities that have no rows, and without free blocks."""
    arrays = store.to_arrays()
    return from_arrays(store.rows.shape[1], arrays)


def _blocks(lengths: Array) -> int:
    """Room that blocks of some lengths take."""
    if not len(lengths):
        return 0
    classes = np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    return int((1 << classes).sum())


@compiled
def find_slot(store: EntityRows, entity: np.uint64) -> Any:
    """Slot of an entity, or -1."""
    mask = np.uint64(len(store.table) - 1)
    place = entity & mask
    while store.table[place] != 0:
        slot = store.table[place] - 1
        if store.entities[slot] == entity:
            return slot
        place = (place + np.uint64(1)) & mask
    return -1


@compiled
def add_slot(store: EntityRows, entity: np.uint64) -> Any:
    """A slot for an entity that has none; -1 without room."""
    slot = store.state[N_SLOTS]
    if slot == len(store.entities):
        return -1
    start = _allocate(store, 0)
    if start < 0:
        return -1
    store.state[N_SLOTS] = slot + 1
    store.entities[slot] = entity
    store.starts[slot] = start
    store.lengths[slot] = 0
    store.classes[slot] = 0
    _enter(store, slot)
    return slot


@compiled
def is_full(store: EntityRows, slot: int) -> Any:
    """True if an entity's block has no room for one more row."""
    return store.lengths[slot] == 1 << store.classes[slot]


@compiled
def widen(store: EntityRows, slot: int) -> bool:
    """Move an entity to a block of twice the size. False without room."""
    size_class = store.classes[slot]
    target = _allocate(store, size_class + 1)
    if target < 0:
        return False
    start = store.starts[slot]
    for i in range(store.lengths[slot]):
        store.rows[target + i] = store.rows[start + i]
    _release(store, start, size_class)
    store.starts[slot] = target
    store.classes[slot] = size_class + 1
    return True


@compiled
def insert_row(store: EntityRows, slot: int, place: int, row: Ints) -> None:
    """Insert a row into a block that is not full, at a place counted from its start."""
    start = store.starts[slot]
    for i in range(start + store.lengths[slot], start + place, -1):
        store.rows[i] = store.rows[i - 1]
    store.rows[start + place] = row
    store.lengths[slot] += 1


@compiled
def gather(store: EntityRows, slots: Ints) -> Ints:
    """The rows of some slots, one after the other."""
    n = 0
    for slot in slots:
        n += store.lengths[slot]
    rows = np.empty((n, store.rows.shape[1]), dtype=np.int64)
    at = 0
    for slot in slots:
        start = store.starts[slot]
        for i in range(store.lengths[slot]):
            rows[at] = store.rows[start + i]
            at += 1
    return rows


@compiled
def _fill(store: EntityRows, entities: Array, lengths: Ints, rows: Ints) -> None:
    at = 0
    for i in range(len(entities)):
        length = lengths[i]
        size_class = 0
        while 1 << size_class < length:
            size_class += 1
        start = _allocate(store, size_class)
        store.entities[i] = entities[i]
        store.starts[i] = start
        store.lengths[i] = length
        store.classes[i] = size_class
        for j in range(length):
            store.rows[start + j] = rows[at + j]
        at += length
    store.state[N_SLOTS] = len(entities)
    _fill_table(store)


@compiled
def _fill_table(store: EntityRows) -> None:
    for slot in range(store.state[N_SLOTS]):
        _enter(store, slot)


@compiled
def _enter(store: EntityRows, slot: int) -> None:
    mask = np.uint64(len(store.table) - 1)
    place = store.entities[slot] & mask
    while store.table[place] != 0:
        place = (place + np.uint64(1)) & mask
    store.table[place] = slot + 1


@compiled
def _allocate(store: EntityRows, size_class: int) -> Any:
    """Start of a free block; -1 without room. The first word of a free block is the start of the next one."""
    start = store.state[FIRST_FREE + size_class]
    if start >= 0:
        store.state[FIRST_FREE + size_class] = store.rows[start, 0]
        return start
    start = store.state[ROWS_END]
    if start + (1 << size_class) > len(store.rows):
        return -1
    store.state[ROWS_END] = start + (1 << size_class)
    return start


@compiled
def _release(store: EntityRows, start: int, size_class: int) -> None:
    store.rows[start, 0] = store.state[FIRST_FREE + size_class]
    store.state[FIRST_FREE + size_class] = start
