"""Busy keys: the oldest half of a full segment counts by tile, so that the memory of a key is bounded.

Sums over tiles are exact for transactions in order, and for those up to a day late (`tile_store`). Distinct levels, new
levels and repeated ids are looked for among the transactions that are still kept one by one.
"""

import numpy as np

from scoring.compilation import compiled
from scoring.profiles.aggregate_rows import add_transaction, clear_row
from scoring.profiles.keys.key_state import MAX_EVENTS, MERGED, TO_MERGE, WATERMARK, KeyState, move
from scoring.profiles.shared.entity_rows import EntityRows
from scoring.profiles.shared.tile_store import TileLevels, add_tile


@compiled
def merge_oldest(state: KeyState, slot: int, busy: EntityRows, levels: TileLevels) -> bool:
    """Move the oldest half of a full segment to the tiles of its key.

    False if there is no room for the tiles; a call with more room continues the move.
    """
    totals, start = state.totals, state.slot_start[slot]
    if totals[TO_MERGE] == 0:
        totals[TO_MERGE] = MAX_EVENTS // 2
    row = np.empty(busy.rows.shape[1], np.int64)
    done = 0
    while totals[TO_MERGE] > 0:
        clear_row(row)
        at = state.slot_base[slot] + np.int64(state.times[start + done])
        add_transaction(row, at, state.values[start + done])
        if not add_tile(busy, levels, state.slot_hash[slot], row, totals[WATERMARK]):
            break
        done += 1
        totals[TO_MERGE] -= 1
        totals[MERGED] += 1
    move(state, start + done, start, state.slot_length[slot] - done)
    state.slot_length[slot] -= done
    return bool(totals[TO_MERGE] == 0)
