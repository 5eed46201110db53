"""Detects partitions that are counted to the end of their input; the merged watermark need not wait for them."""

from collections.abc import Mapping

MAX_LAG = 100  # offsets: records in flight, or markers of Kafka transactions, which are offsets without a record
STATIC_MS = 300_000  # wall clock; a partition whose end and cursor have not changed for this long is idle


class InputProgress:
    """Compares the counted offset of each partition with its end. No clock inside: wall-clock time is passed in."""

    def __init__(self) -> None:
        self._counted: dict[int, int] = {}
        self._seen: dict[int, tuple[int, int]] = {}
        self._changed_ms: dict[int, int] = {}

    def count(self, partition: int, last_offset: int) -> None:
        """Set the counted offset of a partition, from a cursor of any model version."""
        self._counted[partition] = last_offset

    def caught_up(self, partitions: int, ends: Mapping[int, int] | None, wall_ms: int) -> frozenset[int]:
        """Partitions with nothing left to count. ends: partition -> end offset; None if not known."""
        found = set()
        for p in range(partitions):
            counted = self._counted.get(p, -1)
            if ends is not None and p not in ends:  # there is no such input
                found.add(p)
                continue
            state = (ends or {}).get(p, -1), counted
            if self._seen.get(p) != state:
                self._seen[p], self._changed_ms[p] = state, wall_ms
            behind = ends is None or ends[p] - 1 - counted > MAX_LAG
            if not behind or wall_ms - self._changed_ms[p] >= STATIC_MS:
                found.add(p)
        return frozenset(found)
