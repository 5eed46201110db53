"""Detects two payloads with one transaction id. The first decision counts; a header marks the later one.

Producers choose ids. If two transactions share an id, their decisions share a decision id, and readers keep the first.
A conflict is detected among the last `MAX_IDS` ids per partition that one worker has decided since its start, not
across partitions, restarts or longer distances.
"""

from collections import OrderedDict

CONFLICT_HEADER = "tamiz-id-conflict"  # header of a decision: offset of the first transaction with this id
MAX_IDS = 10_000  # per partition


class RecentIds:
    """Recent producer-given ids, each with the first payload decided under it."""

    def __init__(self) -> None:
        self._first: dict[int, OrderedDict[str, tuple[int, int]]] = {}  # by partition and id: payload's hash, offset

    def conflicting_offset(self, partition: int, transaction_id: str, payload: bytes, offset: int) -> int | None:
        """Remember a transaction; the offset of an earlier one with the same id and a different payload, or None.

        The same transaction again, after a rebalance or a producer's retry, is no conflict.
        """
        seen = self._first.setdefault(partition, OrderedDict())
        digest = hash(payload)
        first = seen.get(transaction_id)
        if first is None:
            seen[transaction_id] = digest, offset
            if len(seen) > MAX_IDS:
                seen.popitem(last=False)
            return None
        return first[1] if first[0] != digest and first[1] < offset else None
