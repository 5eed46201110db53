"""Local times to UTC. Pure: the rules of the zones come from the package tzdata, so that all programs have the same.

A local time in the gap of a clock change does not exist; one in a repeated hour is two instants. A date without time
of day is the first instant of that day.
"""

from datetime import datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from schemas.time_units import DAY_MS, MINUTE_MS
from scoring.arrays import Flags, Ints

CACHE_SIZE = 65_536  # distinct minutes of all zones: seven weeks
_EPOCH = datetime(1970, 1, 1)


class LocalOffsets(NamedTuple):
    """Offsets of a zone from UTC at local times, shape (n,) each. They differ only around a clock change.

    before < after: the local time is in a gap. before > after: it occurs twice.
    """

    before_ms: Ints  # by the rules before the change: the earlier instant of a repeated time
    after_ms: Ints


def local_offsets(zone: str, local_ms: Ints) -> LocalOffsets:
    """Offsets at local times since 1970; clocks change at whole minutes."""
    minutes, rows = np.unique(local_ms // MINUTE_MS, return_inverse=True)
    pairs = np.array([_offsets(zone, minute) for minute in minutes.tolist()], dtype=np.int64).reshape(-1, 2)[rows]
    return LocalOffsets(pairs[:, 0], pairs[:, 1])


def is_missing_day(offsets: LocalOffsets) -> Flags:
    """Mask of the midnights whose whole day was skipped, as on a change of the date line."""
    return offsets.after_ms - offsets.before_ms >= DAY_MS


@lru_cache(CACHE_SIZE)
def _offsets(zone: str, minute: int) -> tuple[int, int]:
    local = (_EPOCH + timedelta(minutes=minute)).replace(tzinfo=_zone_info(zone))
    return _ms(local.utcoffset()), _ms(local.replace(fold=1).utcoffset())


def _ms(offset: timedelta | None) -> int:
    assert offset is not None
    return round(offset.total_seconds() * 1000)


@cache
def _zone_info(zone: str) -> ZoneInfo:
    """A zone whose name `schemas.dataset.time_checks` has checked."""
    with resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=zone)
