import random
from hashlib import sha256
from typing import NamedTuple

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.records import Rejection
from stream_app.decisions import dead_letters

CONNECT = "__connect.errors."


class RejectedRecord(NamedTuple):
    topic: str = "transactions"
    partition: int = 3
    offset: int = 17
    headers: tuple[tuple[str, bytes | None], ...] = ()


ORIGIN = RejectedRecord()
REJECTION = Rejection(row=0, code="bad-number", field="monto", value="mil", expected="a number")


def letter(record: RejectedRecord = ORIGIN, rejection: Rejection = REJECTION) -> list[tuple[str, bytes | None]]:
    ours = dead_letters.headers(rejection, record, group="tamiz", transaction_id="transactions-3-17")
    return dead_letters.truncate(None, b"{", ours, record.headers, 1_000_000).headers


def test_written_headers_are_read_back():
    assert dead_letters.read(letter()) == dead_letters.DeadLetter(
        topic="transactions",
        partition=3,
        offset=17,
        group="tamiz",
        transaction_id="transactions-3-17",
        code="bad-number",
        field="monto",
        value="mil",
        expected="a number",
    )


def test_the_dialect_is_that_of_kafka_connect():
    # Kafka 4.x, connect/runtime, DeadLetterQueueReporter.populateContextHeaders: names, order, numbers as text.
    connect = [(name.removeprefix(CONNECT), value) for name, value in letter() if name.startswith(CONNECT)]
    assert connect == [
        ("topic", b"transactions"),
        ("partition", b"3"),
        ("offset", b"17"),
        ("connector.name", b"tamiz"),
        ("task.id", b"3"),
        ("stage", b"VALUE_CONVERTER"),
        ("class.name", b"scoring.input.cleaning"),
        ("exception.class.name", b"schemas.records.Rejection"),
        ("exception.message", b"bad-number: monto is mil, expected a number"),
    ]


def test_incoming_headers_are_kept_behind_ours():
    trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert letter(RejectedRecord(headers=(trace, ("x", b"\xff"))))[-2:] == [trace, ("x", b"\xff")]


def test_a_dead_letter_that_fails_again_carries_only_its_new_reason():
    again = letter(RejectedRecord(offset=99, headers=tuple(letter())))
    names = [name for name, _ in again]
    assert len(names) == len(set(names))
    found = dead_letters.read(again)
    assert found is not None
    assert (found.origin, found.transaction_id) == ("transactions-3-99", "transactions-3-17")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("line\nbreak\x00", "line\\nbreak\\x00"),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        ("Física ✓", "Física ✓"),
        ("\u2028", "\\u2028"),
        ("x" * 1000, "x" * 399 + "…"),
        ("\n" * 1000, "\\n" * 199 + "\\…"),
    ],
    ids=["control", "surrogate", "unicode", "separator", "long", "long control"],
)
def test_header_text_is_short_utf8_without_control_characters(value, shown):
    found = dead_letters.read(
        letter(rejection=Rejection(row=0, code="not-json", field=None, value=value, expected="JSON"))
    )
    assert found is not None
    assert (found.value, found.field) == (shown, None)


def test_dead_letters_that_connect_itself_wrote_are_read():
    found = dead_letters.read(
        [
            (CONNECT + "topic", b"t"),
            (CONNECT + "partition", b"0"),
            (CONNECT + "offset", b"5"),
            (CONNECT + "exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
            (CONNECT + "exception.message", b"Unknown magic byte!"),
        ]
    )
    assert found is not None
    assert (found.code, found.expected) == ("org.apache.kafka.connect.errors.DataException", "Unknown magic byte!")


@pytest.mark.parametrize("headers", [[], [("a", None)], [(CONNECT + "topic", b"t"), (CONNECT + "partition", b"x")]])
def test_a_record_without_an_origin_is_no_dead_letter(headers):
    assert dead_letters.read(headers) is None


OURS = dead_letters.headers(REJECTION, ORIGIN, group="tamiz", transaction_id="transactions-3-17")
MANY = [(f"name-{i}", b"v") for i in range(1_000)]
FULL_BATCH_SIZE = [("one", b"x" * 300_000), ("traceparent", b"kept"), ("n" * 20_000, b""), ("null", None)]


@pytest.mark.parametrize("max_bytes", [1_500, 4_000, 40_000, 1_048_588])
@pytest.mark.parametrize("incoming", [[], MANY, FULL_BATCH_SIZE], ids=["no headers", "many", "large"])
@pytest.mark.parametrize("key", [None, b"k", b"k" * 600_000], ids=["no key", "a key", "a large key"])
@pytest.mark.parametrize("size", [0, 1_000, 3_000_000])
def test_a_dead_letter_fits_its_topic_and_states_what_is_truncated(
    size: int, key: bytes | None, incoming: dead_letters.Headers, max_bytes: int
) -> None:
    value = random.Random(size).randbytes(size)
    fitted = dead_letters.truncate(key, value, OURS, incoming, max_bytes)
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000_000)
    batch.append(0, 1_600_000_000_000, fitted.key, fitted.value, fitted.headers)
    assert len(batch.build()) <= max_bytes
    added = dict(fitted.headers)
    if fitted.value != value:
        assert added[dead_letters.TRUNCATED_VALUE_BYTES_HEADER] == b"%d" % size
        assert added[dead_letters.TRUNCATED_VALUE_SHA256_HEADER] == sha256(value).hexdigest().encode()
    if fitted.key != key:
        assert added[dead_letters.TRUNCATED_KEY_BYTES_HEADER] == b"%d" % len(key or b"")
    forwarded = [h for h in fitted.headers if h in incoming]
    assert int(added.get(dead_letters.TRUNCATED_HEADERS_HEADER) or 0) == len(incoming) - len(forwarded)
    assert ("value" in fitted.truncated_parts) == (fitted.value != value)
    if max_bytes > 1_000_000 and size <= 1_000:
        assert fitted.value == value
