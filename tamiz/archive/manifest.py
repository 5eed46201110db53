"""What the archive states of one file: a partition of a topic, from one offset to another. Pure.

A day and a partition have one manifest, also where no record fell on it, and one Parquet file of the same name:

    decisions/day=2026-11-26/00003.hT2xNq8vR1iQz5aYb0cDeg.parquet
    decisions/day=2026-11-26/00003.hT2xNq8vR1iQz5aYb0cDeg.json

The manifest is written last: a file without one does not count. The manifests of a partition follow each other without
a gap: each begins at the offset at which the one before ended. A day is one of record time, by the first offset that
has reached it: event times can be late by months, so a day of event time is never complete.
"""

import re
from datetime import date, timedelta
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from schemas.records import Count, Name, Offset, Partition
from schemas.time_units import DAY_MS

EPOCH = date(1970, 1, 1)
DAY_PREFIX = "day="
_NAME = re.compile(r"(\d{5,})\.([\w-]*)\.json")


class ArchiveManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of one day of one partition."""

    topic: Name
    topic_id: Name  # Kafka's id of the topic; empty: unknown
    partition: Partition
    day: date  # UTC
    first_offset: Offset
    next_offset: Offset  # the end, exclusive
    missing: Count  # offsets before `first_offset` that retention deleted before they were archived
    records: Count  # transaction markers have offsets, too: fewer than the offsets
    damaged: Count  # records of which the reader could keep only a part
    last_input_offset: Annotated[int, Meta(ge=-1)]  # highest offset of a transaction in this and all earlier files
    bytes: Count  # of the Parquet file; 0: there is none
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]  # of the Parquet file


class FileName(NamedTuple):
    """Which partition of which topic a file holds."""

    partition: int
    topic_id: str

    @property
    def stem(self) -> str:
        """The name without its ending.

        >>> FileName(3, "hT2x").stem
        '00003.hT2x'
        """
        return f"{self.partition:05d}.{self.topic_id}"

    @property
    def manifest(self) -> str:
        """Name of the manifest."""
        return f"{self.stem}.json"

    @property
    def data(self) -> str:
        """Name of the Parquet file."""
        return f"{self.stem}.parquet"

    @classmethod
    def of(cls, manifest: str) -> "FileName | None":
        """The name of a manifest, read; None if it is not one.

        >>> FileName.of("00003.hT2x.json"), FileName.of("00003.hT2x.parquet")
        (FileName(partition=3, topic_id='hT2x'), None)
        """
        found = _NAME.fullmatch(manifest)
        return None if found is None else cls(int(found[1]), found[2])


def day_of(time_ms: int) -> date:
    """The day of a time, UTC.

    >>> day_of(DAY_MS - 1), day_of(DAY_MS)
    (datetime.date(1970, 1, 1), datetime.date(1970, 1, 2))
    """
    return EPOCH + timedelta(milliseconds=time_ms // DAY_MS * DAY_MS)


def start_ms(day: date) -> int:
    """Start of a day, in ms since 1970.

    >>> start_ms(date(1970, 1, 3)) // DAY_MS
    2
    """
    return (day - EPOCH).days * DAY_MS


def day_folder(topic: str, day: date) -> str:
    """The folder of a day. topic: role of the topic, such as `decisions`.

    >>> day_folder("decisions", date(2026, 11, 26))
    'decisions/day=2026-11-26'
    """
    return f"{topic}/{DAY_PREFIX}{day.isoformat()}"


def folder_day(name: str) -> date | None:
    """The day of a folder name; None for other folders.

    >>> folder_day("day=2026-11-26"), folder_day("day=soon")
    (datetime.date(2026, 11, 26), None)
    """
    try:
        return date.fromisoformat(name.removeprefix(DAY_PREFIX)) if name.startswith(DAY_PREFIX) else None
    except ValueError:
        return None
