"""Finds the latest decisions of a card among the last ones of all cards: 20 bytes a decision, no texts."""

from collections.abc import Sequence

import numpy as np

MAX_DECISIONS = 2_000_000  # 40 MB when full
_LOW_BITS = 2**63 - 1


class DecisionIndex:
    """Ring of the last decisions: hash of the key, partition and offset. Not thread-safe."""

    def __init__(self, size: int = MAX_DECISIONS) -> None:
        self._hashes = np.zeros(size, np.int64)
        self._partitions = np.zeros(size, np.int32)
        self._offsets = np.zeros(size, np.int64)
        self._n = 0  # decisions so far

    def update(self, partition: int, keys: Sequence[bytes | None], offsets: Sequence[int]) -> None:
        """Add decisions of a partition of `decisions`, in order. Those without a key are not added."""
        hashes = [hash(key) & _LOW_BITS for key in keys if key is not None]
        if not hashes:
            return
        kept = [offset for key, offset in zip(keys, offsets, strict=True) if key is not None]
        size = len(self._hashes)
        rows = np.arange(self._n, self._n + len(hashes))[-size:] % size
        self._hashes[rows] = hashes[-size:]
        self._partitions[rows] = partition
        self._offsets[rows] = kept[-size:]
        self._n += len(hashes)

    def places(self, key: bytes, n: int) -> list[tuple[int, int]]:
        """Partition and offset of the last n decisions with a key, newest first; rarely one of another key."""
        size = len(self._hashes)
        found = np.flatnonzero(self._hashes[: self._n] == (hash(key) & _LOW_BITS))
        found = np.sort((found - self._n) % size)[::-1][:n]  # by age
        rows = (found + self._n) % size
        return list(zip(self._partitions[rows].tolist(), self._offsets[rows].tolist(), strict=True))
