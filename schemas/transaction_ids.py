"""What a transaction is called: the same in its decision, its label and the history that is learned from."""

from collections.abc import Sequence
from typing import Protocol

TRANSACTION_ID_HEADER = "tamiz-transaction-id"
TOPIC_ID_HEADER = "tamiz-topic-id"  # the incarnation of the topic that an offset belongs to, whole
SHORT_ID_LENGTH = 8  # characters of a topic id in a place: 48 bits


class Placed(Protocol):
    """A consumed record: aiokafka's and kafka-python's both look like this."""

    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes]]


def place(topic: str, partition: int, offset: int, topic_id: str) -> str:
    """Where a record is, for good: an offset means nothing without the incarnation of its topic.

    topic_id: as Kafka writes it, 22 characters; empty where the broker gives none (before Kafka 2.8).

    >>> place("transactions", 0, 17, "hT2xNq8vR1iQz5aYb0cDeg")
    'transactions-0-17@hT2xNq8v'
    >>> place("transactions", 0, 17, "")
    'transactions-0-17'
    """
    where = f"{topic}-{partition}-{offset}"
    return f"{where}@{topic_id[:SHORT_ID_LENGTH]}" if topic_id else where


def transaction_id(record: Placed, topic_id: str) -> str:
    """What a transaction is called when its payload does not say: its header, else its place.

    topic_id: of the record's topic, as in `place`. A topic that is deleted and made anew counts its offsets from zero
    again: without its id, new transactions would have the ids of old ones.
    """
    for name, value in record.headers:
        if name == TRANSACTION_ID_HEADER and value:
            return value.decode(errors="replace")
    return place(record.topic, record.partition, record.offset, topic_id)
