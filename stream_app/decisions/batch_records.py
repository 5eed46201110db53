"""Records of a batch as the handler takes them."""

from collections.abc import Sequence
from typing import Protocol

Headers = Sequence[tuple[str, bytes | None]]


class IncomingRecord(Protocol):
    """A consumed record, as of aiokafka."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
