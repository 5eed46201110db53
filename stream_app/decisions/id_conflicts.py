"""Two payloads under one transaction id: the first decision counts, and a later one says so.

Producers choose ids. A producer that gives two transactions one id gets two answers under one decision id, of which a
reader keeps the first. That is seen among the last `WINDOW` ids of a partition that one worker has decided since it
started; across partitions, restarts and longer distances it is not.
"""

from collections import OrderedDict

CONFLICT_HEADER = "tamiz-id-conflict"  # of a decision: the offset, in its partition, of the first with its id
WINDOW = 10_000  # ids of each partition


class RecentIds:
    """The ids that producers gave lately, each with the first payload decided under it."""

    def __init__(self) -> None:
        self._first: dict[int, OrderedDict[str, tuple[int, int]]] = {}  # by partition and id: payload's hash, offset

    def conflict(self, partition: int, transaction_id: str, payload: bytes, offset: int) -> int | None:
        """Note a transaction; the offset of an earlier one of the same id and another payload, or None.

        The same transaction again, as after a rebalance or a producer's own repeat, is no conflict.
        """
        seen = self._first.setdefault(partition, OrderedDict())
        digest = hash(payload)
        first = seen.get(transaction_id)
        if first is None:
            seen[transaction_id] = digest, offset
            if len(seen) > WINDOW:
                seen.popitem(last=False)
            return None
        return first[1] if first[0] != digest and first[1] < offset else None
