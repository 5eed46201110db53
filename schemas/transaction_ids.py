"""Transaction ids: the same id in the decision, the label and the training history."""

from collections.abc import Sequence
from typing import Protocol

TRANSACTION_ID_HEADER = "tamiz-transaction-id"
TOPIC_ID_HEADER = "tamiz-topic-id"  # Kafka's id of the topic that an offset belongs to, in full
SHORT_ID_LENGTH = 8  # characters of a topic id in a record position: 48 bits
MAX_ID_LENGTH = 400  # characters of an id in a header; a record position, which redrive sends as an id, has up to 290


class RecordPlace(Protocol):
    """A consumed record, of aiokafka or of kafka-python."""

    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]]


def place(topic: str, partition: int, offset: int, topic_id: str) -> str:
    """Position of a record, unique even if its topic is deleted and created again.

    topic_id: Kafka's topic id, 22 characters; empty if the broker has none (before Kafka 2.8).

    >>> place("transactions", 0, 17, "hT2xNq8vR1iQz5aYb0cDeg")
    'transactions-0-17@hT2xNq8v'
    >>> place("transactions", 0, 17, "")
    'transactions-0-17'
    """
    where = f"{topic}-{partition}-{offset}"
    return f"{where}@{topic_id[:SHORT_ID_LENGTH]}" if topic_id else where


def transaction_id(record: RecordPlace, topic_id: str) -> str:
    """Id of a transaction whose payload has none: from the record's header, else the record's position.

    topic_id: of the record's topic, as in `place`. The offsets of a topic that is created again start at zero: without
    the topic id, new transactions would have the ids of old ones.
    """
    if (sent := sent_id(record.headers)) and (readable := readable_id(sent)):
        return readable
    return place(record.topic, record.partition, record.offset, topic_id)


def sent_id(headers: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    """Transaction id in a record's headers, as sent by the producer; None if there is none or it is empty."""
    for name, value in headers:
        if name == TRANSACTION_ID_HEADER and value:
            return value
    return None


def readable_id(sent: bytes) -> str | None:
    r"""Decode an id from a header; None if it is not UTF-8, not printable or longer than `MAX_ID_LENGTH`.

    Ids are written to decisions, headers and terminals, so they are bounded and need no escapes. Invalid UTF-8 is not
    replaced, because two different ids could become equal.

    >>> readable_id(b"pay-17"), readable_id(b"\xff"), readable_id(b"a\nb"), readable_id(b"x" * 401)
    ('pay-17', None, None, None)
    """
    if len(sent) > 4 * MAX_ID_LENGTH:
        return None
    try:
        text = sent.decode()
    except UnicodeDecodeError:
        return None
    return text if len(text) <= MAX_ID_LENGTH and text.isprintable() else None
