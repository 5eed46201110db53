"""Remembers batches with a wrong checksum. One is fetched once more, because the network may have damaged it."""

from collections import OrderedDict

# The last batches with a wrong checksum: base offset, checksum and size.
FAILED: OrderedDict[tuple[int, int, int], None] = OrderedDict()
MAX_FAILED_BATCHES = 1_000


def failed_before(batch: tuple[int, int, int]) -> bool:
    """Whether the checksum of this batch was wrong at the previous fetch, too. Remembers the batch otherwise."""
    if batch in FAILED:
        del FAILED[batch]
        return True
    FAILED[batch] = None
    while len(FAILED) > MAX_FAILED_BATCHES:
        FAILED.popitem(last=False)
    return False
