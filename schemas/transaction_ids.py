"""What a transaction is called: the same in its decision, its label and the history that is learned from."""

from collections.abc import Sequence
from typing import Protocol

TRANSACTION_ID_HEADER = "tamiz-transaction-id"
TOPIC_ID_HEADER = "tamiz-topic-id"  # the incarnation of the topic that an offset belongs to, whole
SHORT_ID_LENGTH = 8  # characters of a topic id in a place: 48 bits
MAX_ID_LENGTH = 400  # characters of an id in a header; a place, which redrive sends as one, has at most 290


class RecordPlace(Protocol):
    """A consumed record: aiokafka's and kafka-python's both look like this."""

    topic: str
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]]


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


def transaction_id(record: RecordPlace, topic_id: str) -> str:
    """What a transaction is called when its payload does not say: its header, else its place.

    topic_id: of the record's topic, as in `place`. A topic that is deleted and made anew counts its offsets from zero
    again: without its id, new transactions would have the ids of old ones.
    """
    if (sent := sent_id(record.headers)) and (readable := readable_id(sent)):
        return readable
    return place(record.topic, record.partition, record.offset, topic_id)


def sent_id(headers: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    """The id in a record's headers as its producer sent it, or None when it sent none or an empty one."""
    for name, value in headers:
        if name == TRANSACTION_ID_HEADER and value:
            return value
    return None


def readable_id(sent: bytes) -> str | None:
    r"""An id in a header as text, or None when it is no id: not UTF-8, not printable or longer than `MAX_ID_LENGTH`.

    It goes into decisions, headers and the screens of people: it is bounded, and needs no escapes. Two ids that are not
    UTF-8 would become one text.

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
