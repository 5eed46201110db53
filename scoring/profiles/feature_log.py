"""The feature log: the values of the profile features at each decision, as records, and back.

A worker writes one `FeatureRecord` for each decision. Readers find the values of a transaction by its partition and
offset; they use them only if digest, transaction id and event time are those that they expect.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from schemas.records import FeatureRecord
from scoring.arrays import Columns, Flags, Floats, Ints, Matrix
from scoring.profiles.profile_plan import ProfilePlan

VALUE_TYPE = np.dtype("<f4")  # of a value in a record


def logged_values(record: FeatureRecord, plan: ProfilePlan) -> Floats | None:
    """The values of a record, shape (n_features,), float32; None if they are of other profiles."""
    if record.profiles != plan.digest or len(record.values) != len(plan.features) * VALUE_TYPE.itemsize:
        return None
    return np.frombuffer(record.values, dtype=VALUE_TYPE)


def feature_columns(names: Sequence[str], matrix: Matrix) -> Columns:
    """The columns of a matrix of profile features by name, as float64: as all number columns of a cleaned batch."""
    return {name: matrix[:, j].astype(np.float64) for j, name in enumerate(names)}


class LoggedRows(NamedTuple):
    """What the feature log knows of some transactions."""

    found: Flags  # shape (n,)
    matrix: Matrix  # shape (n, n_features), float32; NaN in rows that are not found
    complete: Flags  # shape (n,); False in rows that are not found


class FeatureLog:
    """Collects records of the feature log. Of several records for one transaction, the last one counts."""

    def __init__(self, plan: ProfilePlan) -> None:
        self._plan = plan
        self._partitions = array("q")
        self._offsets = array("q")
        self._event_time_ms = array("q")
        self._ids = array("Q")  # hashes
        self._complete = array("b")
        self._values = bytearray()
        self.of_other_profiles = 0  # records that are not used

    def __len__(self) -> int:
        return len(self._offsets)

    def update(self, partition: int, record: FeatureRecord) -> None:
        """Add a record of a partition; records of a partition come in their order."""
        if logged_values(record, self._plan) is None:
            self.of_other_profiles += 1
            return
        self._partitions.append(partition)
        self._offsets.append(record.input_offset)
        self._event_time_ms.append(record.event_time_ms)
        self._ids.append(_hash(record.transaction_id))
        self._complete.append(record.complete)
        self._values += record.values

    def last_offsets(self) -> dict[int, int]:
        """The highest offset of a transaction in the log, by partition."""
        last: dict[int, int] = {}
        for partition, offset in zip(self._partitions, self._offsets, strict=True):
            last[partition] = max(offset, last.get(partition, -1))
        return last

    def places(self) -> set[tuple[int, int]]:
        """Partition and offset of the transactions whose values are in the log."""
        return set(zip(self._partitions, self._offsets, strict=True))

    def find(self, partitions: Ints, offsets: Ints, ids: Sequence[str | None], event_time_ms: Ints) -> LoggedRows:
        """The values of transactions, by partition and offset.

        ids, event_time_ms: of the transactions; None for an id that is not known. A record of another id or time is
        that of a former topic: not used.
        """
        n, width = len(offsets), len(self._plan.features)
        found = LoggedRows(np.zeros(n, bool), np.full((n, width), np.nan, np.float32), np.zeros(n, bool))
        id_hashes = np.fromiter((0 if i is None else _hash(i) for i in ids), np.uint64, n)
        id_known = np.fromiter((i is not None for i in ids), np.bool_, n)
        own_partitions, own_offsets = np.array(self._partitions), np.array(self._offsets)
        own_hashes, own_times, own_complete = map(np.array, (self._ids, self._event_time_ms, self._complete))
        own_values = np.frombuffer(self._values, VALUE_TYPE).reshape(-1, width)
        for partition in np.unique(partitions).tolist():
            wanted = np.flatnonzero(partitions == partition)
            own = np.flatnonzero(own_partitions == partition)
            if not len(own):
                continue
            own = own[np.argsort(own_offsets[own], kind="stable")]
            # Of equal offsets, the last one.
            rows = own[np.maximum(np.searchsorted(own_offsets[own], offsets[wanted], side="right") - 1, 0)]
            fits = (
                (own_offsets[rows] == offsets[wanted])
                & ((own_hashes[rows] == id_hashes[wanted]) | ~id_known[wanted])
                & (own_times[rows] == event_time_ms[wanted])
            )
            wanted, rows = wanted[fits], rows[fits]
            found.found[wanted] = True
            found.matrix[wanted] = own_values[rows]
            found.complete[wanted] = own_complete[rows] != 0
        return found


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text)
