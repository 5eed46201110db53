"""What a transaction is called: the same in its decision, its label and the history that is learned from."""

from collections.abc import Sequence
from typing import Protocol

TRANSACTION_ID_HEADER = "tamiz-transaction-id"


class Placed(Protocol):
    """A consumed record: aiokafka's and kafka-python's both look like this."""

    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes]]


def transaction_id(record: Placed) -> str:
    """What a transaction is called when its payload does not say: its header, else where it stands."""
    for name, value in record.headers:
        if name == TRANSACTION_ID_HEADER and value:
            return value.decode(errors="replace")
    return f"{record.topic}-{record.partition}-{record.offset}"
