"""The record of `profile-tiles`, by which workers share what they know of merchants and devices."""

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.records import Count, Name, TimeMs


class TileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Tiles that one profile of one input partition closed: aggregates of merchants or devices, summed by all workers.

    The input partition is that of the record. Tiles of one time can fill several records, which follow each other.
    """

    profiles: Name  # digest of the declared profiles
    profile: Annotated[int, Meta(ge=0, le=1_000)]  # position of the profile in the declaration
    until_ms: TimeMs  # tiles up to this event time are closed
    part: Count  # number of the record among those of this time, from 0
    last: bool  # false: another part follows
    # Hashes of the entities, little-endian uint64, and a row of little-endian int64 for each
    # (`scoring.profiles.aggregate_rows`).
    entities: bytes
    rows: bytes
