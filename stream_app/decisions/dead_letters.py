"""The headers of a dead letter: why a payload could not be scored, and where it came from. Pure.

The headers follow Kafka Connect (`DeadLetterQueueReporter`, prefix ``__connect.errors.``), so that tools for Connect's
dead letters work: the connector is the consumer group, its task the input partition. Further fields are in
``tamiz-error-*``. In a dead letter that was redriven and failed again, the new headers replace the old ones. Every
other header, `traceparent` above all, is forwarded unchanged if it fits: `truncate` shortens a dead letter that is too
large for its topic, and ``tamiz-truncated-*`` headers record what was truncated.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from schemas.record_parts import TRUNCATED_HEADERS_HEADER, TruncatedBytes, omitted_headers
from schemas.records import Rejection
from schemas.transaction_ids import TOPIC_ID_HEADER, TRANSACTION_ID_HEADER, place
from scoring.input.admission import MAX_KEY_BYTES

PREFIX = "__connect.errors."
ERROR_PREFIX = "tamiz-error-"
NOTIFICATION_PREFIX = "notification-"  # codes of undelivered notifications, which are no transactions
MAX_CHARACTERS = 400  # of one header's text
MAX_FORWARDED_HEADERS = 64  # of the incoming record
MAX_FORWARDED_BYTES = 16_384  # of their names and values together

# Headers of a truncated dead letter. The whole record is still where `__connect.errors.topic`, `.partition` and
# `.offset` point to, until retention deletes it.
TRUNCATED_PREFIX = "tamiz-truncated-"
TRUNCATED_VALUE_BYTES_HEADER = "tamiz-truncated-value-bytes"  # decimal: length of the whole value
TRUNCATED_VALUE_SHA256_HEADER = "tamiz-truncated-value-sha256"  # lower-case hexadecimal, of the whole value
TRUNCATED_KEY_BYTES_HEADER = "tamiz-truncated-key-bytes"  # the same for the record key
TRUNCATED_KEY_SHA256_HEADER = "tamiz-truncated-key-sha256"

# Of Connect's stages (`errors.Stage`) only this one applies: a message value could not become a row.
_ALWAYS = [
    (PREFIX + "stage", b"VALUE_CONVERTER"),
    (PREFIX + "class.name", b"scoring.input.cleaning"),
    (PREFIX + "exception.class.name", b"schemas.records.Rejection"),
]

_ADDED_HEADERS = frozenset({TRANSACTION_ID_HEADER, TOPIC_ID_HEADER})

_RECORD_BYTES = 512  # overhead of a batch of one record: batch header, lengths, `tamiz-truncated-*` headers
_HEADER_BYTES = 10  # the lengths of a header's name and value

Headers = Sequence[tuple[str, bytes | None]]


class Origin(Protocol):
    """The consumed record; both aiokafka's and kafka-python's records match."""

    topic: str
    partition: int
    offset: int
    headers: Headers


class DeadLetter(NamedTuple):
    """The headers of a dead letter, decoded."""

    topic: str  # where the payload was consumed from
    partition: int
    offset: int
    group: str
    transaction_id: str  # of the first occurrence, also after redrives
    code: str
    field: str | None  # None: the payload as a whole
    value: str
    expected: str
    topic_id: str = ""  # Kafka's id of the topic it was consumed from; empty: not known

    @property
    def origin(self) -> str:
        """Where the payload was consumed from, as `TOPIC-PARTITION-OFFSET@TOPIC_ID`."""
        return place(self.topic, self.partition, self.offset, self.topic_id)


def headers(
    rejection: Rejection, origin: Origin, *, group: str, transaction_id: str, topic_id: str = ""
) -> list[tuple[str, bytes]]:
    """The headers with reason and origin of a dead letter.

    topic_id: Kafka's id of the topic that the payload was consumed from; empty if the broker gives none.
    Every text is UTF-8 without control characters, at most `MAX_CHARACTERS` long.
    """
    field = rejection.field or ""
    message = f"{rejection.code}: {field or 'payload'} is {rejection.value}, expected {rejection.expected}"
    return [
        (PREFIX + "topic", origin.topic.encode()),
        (PREFIX + "partition", b"%d" % origin.partition),
        (PREFIX + "offset", b"%d" % origin.offset),
        (PREFIX + "connector.name", group.encode()),
        (PREFIX + "task.id", b"%d" % origin.partition),
        *_ALWAYS,
        (PREFIX + "exception.message", _text(message)),
        ("tamiz-error-code", rejection.code.encode()),
        ("tamiz-error-field", _text(field)),
        ("tamiz-error-value", _text(rejection.value)),
        ("tamiz-error-expected", _text(rejection.expected)),
        (TRANSACTION_ID_HEADER, _text(transaction_id)),
        *([(TOPIC_ID_HEADER, topic_id.encode())] if topic_id else []),
    ]


class TruncatedLetter(NamedTuple):
    """A dead letter that fits its topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    truncated_parts: tuple[str, ...]  # `value`, `key`, `headers`


def truncate(
    key: bytes | None, value: bytes | None, own: Sequence[tuple[str, bytes]], incoming: Headers, max_bytes: int
) -> TruncatedLetter:
    """A dead letter of at most `max_bytes` as a record batch of its own, with headers `own` before the incoming ones.

    Truncates, in this order: incoming headers beyond their limits, a key beyond `MAX_KEY_BYTES`, the end of the value,
    all incoming headers, the whole key, the ends of the own texts. ``tamiz-truncated-*`` headers record what was
    truncated.
    """
    candidates = forwarded_headers(incoming) if incoming else []
    forwarded = _within_limits(candidates)
    kept_key = key[:MAX_KEY_BYTES] if key is not None else None
    own = list(own)
    room = _room(max_bytes, kept_key, [*own, *forwarded])
    if room < 0:
        forwarded, kept_key = [], key[:0] if key is not None else None
        share = max(0, (max_bytes - _RECORD_BYTES) // len(own) - max(len(name) for name, _ in own) - _HEADER_BYTES)
        own = own if _room(max_bytes, kept_key, own) >= 0 else [(name, text[:share]) for name, text in own]
        room = max(0, _room(max_bytes, kept_key, own))
    kept_value = value if value is None or len(value) <= room else value[:room]
    key_headers = _truncation_headers(key, kept_key, TRUNCATED_KEY_BYTES_HEADER, TRUNCATED_KEY_SHA256_HEADER)
    value_headers = _truncation_headers(value, kept_value, TRUNCATED_VALUE_BYTES_HEADER, TRUNCATED_VALUE_SHA256_HEADER)
    missing = len(candidates) - len(forwarded) + omitted_headers(incoming)
    missing_headers = [(TRUNCATED_HEADERS_HEADER, b"%d" % missing)] if missing else []
    parts = {"value": value_headers, "key": key_headers, "headers": missing_headers}
    truncated_parts = tuple(name for name, headers in parts.items() if headers)
    return TruncatedLetter(
        kept_key, kept_value, [*own, *value_headers, *key_headers, *missing_headers, *forwarded], truncated_parts
    )


def _truncation_headers(
    whole: bytes | None, kept: bytes | None, size_header: str, digest_header: str
) -> list[tuple[str, bytes]]:
    if isinstance(whole, TruncatedBytes):  # truncated by the reader already
        return [(size_header, b"%d" % whole.size), (digest_header, whole.sha256.encode())]
    if whole is None or kept is None or len(kept) == len(whole):
        return []
    return [(size_header, b"%d" % len(whole)), (digest_header, sha256(whole).hexdigest().encode())]


def _within_limits(headers: list[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    kept: list[tuple[str, bytes | None]] = []
    left = MAX_FORWARDED_BYTES
    for name, value in headers:
        size = len(name.encode()) + len(value or b"")
        if size <= left and len(kept) < MAX_FORWARDED_HEADERS:
            kept.append((name, value))
            left -= size
    return kept


def _room(max_bytes: int, key: bytes | None, headers: Headers) -> int:
    used = sum(len(name.encode()) + len(value or b"") + _HEADER_BYTES for name, value in headers)
    # A topic's compression codec can enlarge incompressible data a little.
    return max_bytes - max_bytes // 64 - _RECORD_BYTES - len(key or b"") - used


def forwarded_headers(incoming: Headers) -> list[tuple[str, bytes | None]]:
    """The incoming headers without those that a dead letter adds.

    >>> forwarded_headers([("traceparent", b"00-..."), ("tamiz-error-code", b"not-json"), ("__connect.errors.topic",
    ...     b"t")])
    [('traceparent', b'00-...')]
    """
    return [
        h
        for h in incoming
        if not h[0].startswith((PREFIX, ERROR_PREFIX, TRUNCATED_PREFIX)) and h[0] not in _ADDED_HEADERS
    ]


def read(incoming: Iterable[tuple[str, bytes | None]]) -> DeadLetter | None:
    """Decode the headers of a dead letter; None if they do not name the record's origin.

    Also reads dead letters written by Kafka Connect: the code is then the exception's class, the reason its message.
    """
    found: dict[str, str] = {}
    for name, value in incoming:
        found.setdefault(name, (value or b"").decode("utf-8", "replace"))
    try:
        topic = found[PREFIX + "topic"]
        partition, offset = int(found[PREFIX + "partition"]), int(found[PREFIX + "offset"])
    except (KeyError, ValueError):
        return None
    topic_id = found.get(TOPIC_ID_HEADER, "")
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        group=found.get(PREFIX + "connector.name", ""),
        transaction_id=found.get(TRANSACTION_ID_HEADER) or place(topic, partition, offset, topic_id),
        code=found.get("tamiz-error-code") or found.get(PREFIX + "exception.class.name", "unknown"),
        field=found.get("tamiz-error-field") or None,
        value=found.get("tamiz-error-value", ""),
        expected=found.get("tamiz-error-expected") or found.get(PREFIX + "exception.message", ""),
        topic_id=topic_id,
    )


def _text(text: str) -> bytes:
    # Control characters, line separators and lone surrogates are not printable and are escaped.
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:MAX_CHARACTERS])
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS - 1] + "…"
    return text.encode()
