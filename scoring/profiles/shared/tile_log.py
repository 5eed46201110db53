"""The topic of closed tiles: tiles as records, and back.

Workers read the tiles of all partitions from it. A record that does not fit, or whose parts are not complete, gives no
tiles; it never changes tiles that were read before.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from schemas.tile_records import TileRecord
from scoring.arrays import Array
from scoring.profiles.aggregate_rows import COUNT, TIME, row_width
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.open_tiles import ClosedTiles, tile_fields
from scoring.profiles.windows import tile_ms

MAX_PART_BYTES = 512 * 1024  # of the entities and rows of a record, before base64


def encode_tiles(plan: ProfilePlan, tiles: ClosedTiles) -> Iterator[bytes]:
    """The record values of closed tiles, in order: one part or more."""
    n = len(tiles.entities)
    step = max(1, MAX_PART_BYTES // (8 * (1 + tiles.rows.shape[1])))
    starts = range(0, max(1, n), step)
    for part, start in enumerate(starts):
        record = TileRecord(
            profiles=plan.digest,
            profile=tiles.profile,
            until_ms=tiles.until_ms,
            part=part,
            last=part == len(starts) - 1,
            entities=tiles.entities[start : start + step].astype("<u8").tobytes(),
            rows=np.ascontiguousarray(tiles.rows[start : start + step], dtype="<i8").tobytes(),
        )
        yield msgspec.json.encode(record)


class _Parts(NamedTuple):
    until_ms: int
    entities: list[Array]
    rows: list[Array]


class TileAssembly:
    """Joins the parts of closed tiles, by partition and profile."""

    def __init__(self, plan: ProfilePlan) -> None:
        self._digest = plan.digest
        self._profiles = {i: p for i, p in enumerate(plan.profiles) if p.kind == "tiles"}
        self._widths = {i: row_width(len(tile_fields(plan, p))) for i, p in self._profiles.items()}
        self._parts: dict[tuple[int, int], _Parts] = {}

    def add(self, partition: int, record: TileRecord) -> ClosedTiles | str | None:
        """The tiles that a record completes; None if other parts follow, or for other profiles; else why it is refused.

        partition: of the record.
        """
        if record.profiles != self._digest:
            return None
        profile = self._profiles.get(record.profile)
        if profile is None:
            return f"profile is {record.profile}, which is no profile of tiles"
        place = partition, record.profile
        parts = self._parts.pop(place, None)
        if record.part == 0:
            parts = _Parts(record.until_ms, [], [])
        elif parts is None or parts.until_ms != record.until_ms or len(parts.entities) != record.part:
            return f"part is {record.part} of the tiles until {record.until_ms}, and the parts before it are missing"
        width, n = self._widths[record.profile], len(record.entities) // 8
        if len(record.rows) != 8 * n * width:
            return f"{len(record.rows)} bytes of rows are not {n} rows of {width} words"
        rows = np.frombuffer(record.rows, "<i8").astype(np.int64).reshape(n, width)
        if record.until_ms % tile_ms(profile.windows_ms[0]) or np.any(rows[:, TIME] > record.until_ms):
            return f"until_ms is {record.until_ms}, which is no end of a tile or lies before a tile's time"
        if np.any(rows[:, COUNT] <= 0):
            return "a tile holds no transaction"
        parts.entities.append(np.frombuffer(record.entities, "<u8").astype(np.uint64))
        parts.rows.append(rows)
        if not record.last:
            self._parts[place] = parts
            return None
        return ClosedTiles(record.profile, record.until_ms, np.concatenate(parts.entities), np.concatenate(parts.rows))
