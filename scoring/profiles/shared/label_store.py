"""Labels by entity, with the time at which each was known: fraud counts, rates and runs of an entity at a time.

A label of a transaction holds from its report until that of the next label of the same transaction. At time t a label
counts if its transaction's event time is at most t - label_delay and it holds at t. Rows are sorted by event time:

    event time     a     b     c     d     e
    reported             1     3     1     5        at t = 4 with label_delay = 0: b, c, d count
    window            (--------------]              from the tail, on the border of a tile, to t - label_delay

The arrays are bounded: of the MAX_LABELS rows of an entity the oldest half is merged by tile, when there is no room.
Tiles are coarser where only longer windows read them (`tile_store.tile_levels`), and everywhere if that does not give
enough room. A merged row counts as soon as its newest transaction and its last report do, and keeps the number of
labels and frauds, the run of frauds at its end and the time of its newest fraud: windows, whose tails are borders of
tiles, stay exact for labels that are old enough to count. Not exact, and counted in APPROXIMATE: a label of a
transaction whose row may be merged. It counts as the label of another transaction.
"""

from typing import Any, NamedTuple

import numpy as np

from schemas.time_units import DAY_MS, HOUR_MS
from scoring.arrays import Flags, Hashes, Indices, Ints
from scoring.compilation import compiled
from scoring.profiles.shared import entity_rows
from scoring.profiles.shared.entity_rows import EntityRows, EntityStore, add_slot, find_slot, insert_row, is_full, widen
from scoring.profiles.shared.tile_store import TileLevels, is_mergeable

MAX_LABELS = 1024  # rows of an entity; the newest half is not merged
EVENT, REPORTED, ENDED, ID, LABELLED, FRAUDS, RUN, LAST_FRAUD = range(8)  # words of a row
WIDTH = 8
FOREVER_MS = 1 << 62
EXPIRED, APPROXIMATE, MERGED = range(3)  # places of `LabelStore.totals`
FORCED_GRAINS_MS = np.array([HOUR_MS, DAY_MS, 16 * DAY_MS, FOREVER_MS])  # where the windows' tiles are too many


class LabelInputs(NamedTuple):
    """One element per label."""

    entities: dict[str, Hashes]  # by entity of the plan, shape (n,); 0 if unknown
    event_time_ms: Ints  # of the labelled transactions
    reported_at_ms: Ints
    fraud: Flags
    ids: Hashes  # of the labelled transactions; 0 without an id: then no other label replaces it

    def at(self, rows: slice | Indices) -> "LabelInputs":
        """The labels restricted to some rows."""
        return LabelInputs(
            {name: hashes[rows] for name, hashes in self.entities.items()},
            self.event_time_ms[rows],
            self.reported_at_ms[rows],
            self.fraud[rows],
            self.ids[rows],
        )


class LabelStore(EntityStore):
    """The labels of one profile."""

    def __init__(self, levels: TileLevels, delay_ms: int) -> None:
        """levels: of the windows. delay_ms: of the labels."""
        super().__init__(WIDTH)
        self.totals = np.zeros(3, np.int64)
        self._levels, self._keep_ms = levels, levels.keep_ms + delay_ms

    def add(self, entities: Hashes, labels: LabelInputs, now_ms: int) -> None:
        """Add labels in the order of the log; of two with the same time of report the later one holds."""
        n, done, oldest_ms = len(entities), 0, now_ms - self._keep_ms
        while True:
            done = add_labels(self.rows, self._levels, oldest_ms, entities, *labels[1:], self.totals, done)
            if done == n:
                return
            self.rows = entity_rows.grown(self.rows)

    def compact(self, now_ms: int) -> None:
        """Drop the labels of old transactions, and give back their room."""
        drop_labels(self.rows, now_ms - self._keep_ms)
        self.rows = entity_rows.packed(self.rows)


@compiled
def add_labels(
    store: EntityRows,
    levels: TileLevels,
    oldest_ms: int,
    entities: Hashes,
    event_time_ms: Ints,
    reported_at_ms: Ints,
    fraud: Flags,
    ids: Hashes,
    totals: Ints,
    done: int,
) -> int:
    """Add labels from one on. Returns the number that is done: fewer than all without room."""
    row = np.empty(WIDTH, np.int64)
    for i in range(done, len(entities)):
        if entities[i] == 0:
            continue
        if event_time_ms[i] <= oldest_ms:
            totals[EXPIRED] += 1
            continue
        row[EVENT], row[REPORTED], row[ENDED] = event_time_ms[i], reported_at_ms[i], FOREVER_MS
        row[ID], row[LABELLED] = np.int64(ids[i]), 1
        row[FRAUDS] = row[RUN] = 1 if fraud[i] else 0
        row[LAST_FRAUD] = event_time_ms[i] if fraud[i] else -FOREVER_MS
        if not add_label(store, levels, oldest_ms, entities[i], row, totals):
            return i
    return len(entities)


@compiled
def add_label(store: EntityRows, levels: TileLevels, oldest_ms: int, entity: Any, row: Ints, totals: Ints) -> bool:
    """Add a row of one label. False without room; then nothing has changed."""
    slot = find_slot(store, entity)
    if slot < 0:
        slot = add_slot(store, entity)
        if slot < 0:
            return False
    if is_full(store, slot):
        _drop_until(store, slot, oldest_ms)
    if is_full(store, slot):
        if store.lengths[slot] >= MAX_LABELS:
            _merge_oldest(store, slot, levels, totals)
        elif not widen(store, slot):
            return False
    is_known = _end_others(store, slot, row)
    start, place = store.starts[slot], store.lengths[slot]
    while place > 0 and _is_before(row, store.rows[start + place - 1]):
        place -= 1
    if not is_known:
        for i in range(start + place, start + store.lengths[slot]):
            if store.rows[i, LABELLED] > 1:
                totals[APPROXIMATE] += 1
                break
    insert_row(store, slot, place, row)
    return True


@compiled
def drop_labels(store: EntityRows, oldest_ms: int) -> None:
    """Drop the labels of transactions up to a time."""
    for slot in range(store.state[entity_rows.N_SLOTS]):
        _drop_until(store, slot, oldest_ms)


@compiled
def read_labels(
    store: EntityRows,
    entity: Any,
    time_ms: int,
    head_ms: int,
    tails_ms: Ints,
    labelled: Ints,
    frauds: Ints,
    last: Ints,
) -> None:
    """What is known at a time of an entity's transactions with tail < event time <= head.

    tails_ms: of the windows, narrowest first. labelled, frauds: filled with counts by window. last: filled with the
    frauds in a row, the last label or -1, and the event time of the newest fraud or -FOREVER_MS; in the longest window.
    """
    labelled[:] = 0
    frauds[:] = 0
    last[0], last[1], last[2] = 0, -1, -FOREVER_MS
    slot = find_slot(store, entity)
    if slot < 0:
        return
    in_row = True
    w = 0
    start = store.starts[slot]
    for i in range(start + store.lengths[slot] - 1, start - 1, -1):
        row = store.rows[i]
        if row[EVENT] > head_ms:
            continue
        while w < len(tails_ms) and row[EVENT] <= tails_ms[w]:
            w += 1
        if w == len(tails_ms):
            break
        if row[REPORTED] > time_ms or row[ENDED] <= time_ms:
            continue
        labelled[w] += row[LABELLED]
        frauds[w] += row[FRAUDS]
        if last[1] < 0:
            last[1] = 1 if row[RUN] > 0 else 0
        if in_row:
            last[0] += row[RUN]
            in_row = row[RUN] == row[LABELLED]
        last[2] = max(last[2], row[LAST_FRAUD])
    for w in range(1, len(tails_ms)):
        labelled[w] += labelled[w - 1]
        frauds[w] += frauds[w - 1]


@compiled
def _end_others(store: EntityRows, slot: int, row: Ints) -> bool:
    """End the earlier labels of a transaction, and let a later one end this one. One of the same time is removed.

    Returns whether there is another label of the transaction.
    """
    start = store.starts[slot]
    same = -1
    found = False
    if row[ID] == 0:
        return False
    for i in range(start, start + store.lengths[slot]):
        other = store.rows[i]
        if other[ID] != row[ID]:
            continue
        found = True
        if other[REPORTED] < row[REPORTED]:
            other[ENDED] = min(other[ENDED], row[REPORTED])
        elif other[REPORTED] > row[REPORTED]:
            row[ENDED] = min(row[ENDED], other[REPORTED])
        else:
            same = i
    if same >= 0:
        for i in range(same, start + store.lengths[slot] - 1):
            store.rows[i] = store.rows[i + 1]
        store.lengths[slot] -= 1
    return found


@compiled
def _is_before(row: Ints, other: Ints) -> Any:
    if row[EVENT] != other[EVENT]:
        return row[EVENT] < other[EVENT]
    if row[ID] != other[ID]:
        return row[ID] < other[ID]
    return row[REPORTED] < other[REPORTED]


@compiled
def _drop_until(store: EntityRows, slot: int, oldest_ms: int) -> None:
    start, length = store.starts[slot], store.lengths[slot]
    dropped = 0
    while dropped < length and store.rows[start + dropped, EVENT] <= oldest_ms:
        dropped += 1
    if dropped:
        for i in range(length - dropped):
            store.rows[start + i] = store.rows[start + i + dropped]
        store.lengths[slot] = length - dropped


@compiled
def _merge_oldest(store: EntityRows, slot: int, levels: TileLevels, totals: Ints) -> None:
    """Merge the older half of an entity's rows by tile: by the windows' levels, then coarser until a quarter leaves."""
    start = store.starts[slot]
    newest = store.rows[start + store.lengths[slot] - 1, EVENT]
    old = store.lengths[slot] // 2
    most = old * 3 // 4
    for step in range(len(FORCED_GRAINS_MS) + 1):
        kept = 0
        for i in range(old):
            row = store.rows[start + i]
            if row[ENDED] != FOREVER_MS:
                continue
            if kept > 0:
                last = store.rows[start + kept - 1]
                grain = levels.grains_ms[0]
                merge = (last[EVENT] - 1) // grain == (row[EVENT] - 1) // grain
                if step == 0:
                    merge = merge or is_mergeable(levels, last[EVENT], row[EVENT], newest)
                else:
                    grain = FORCED_GRAINS_MS[step - 1]
                    merge = merge or (last[EVENT] - 1) // grain == (row[EVENT] - 1) // grain
                if merge:
                    totals[MERGED] += 1
                    _merge(last, row)
                    continue
            if kept < i:
                store.rows[start + kept] = row
            kept += 1
        moved = old - kept
        if moved:
            for i in range(start + old, start + store.lengths[slot]):
                store.rows[i - moved] = store.rows[i]
            store.lengths[slot] -= moved
            old = kept
        if old <= most:
            return


@compiled
def _merge(row: Ints, newer: Ints) -> None:
    row[EVENT] = newer[EVENT]
    row[REPORTED] = max(row[REPORTED], newer[REPORTED])
    row[ID] = 0
    row[RUN] = newer[RUN] + (row[RUN] if newer[RUN] == newer[LABELLED] else 0)
    row[LABELLED] += newer[LABELLED]
    row[FRAUDS] += newer[FRAUDS]
    row[LAST_FRAUD] = max(row[LAST_FRAUD], newer[LAST_FRAUD])
