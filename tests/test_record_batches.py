"""Batches of every kind, read as both clients would have them read; what brokers of today refuse is made by hand."""

import random
import struct
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch, LegacyRecordBatchBuilder
from kafka.record.default_records import DefaultRecordBatch as PlainRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch as PlainLegacyRecordBatch

from chaos.raw_batches import CODECS, RawRecord, encode_batch, encode_record, varint
from stream_app import record_batches
from stream_app.decompression import chunks, pieces
from stream_app.record_batches import Partial, RecordBatches, Unreadable

MB = 1024 * 1024
CLIENTS = [
    pytest.param((DefaultRecordBatch, LegacyRecordBatch), id="aiokafka"),
    pytest.param((PlainRecordBatch, PlainLegacyRecordBatch), id="kafka-python"),
]
Client = tuple[Any, Any]


def placed(batch: bytes, base_offset: int) -> bytes:
    """A batch as a broker gives it: with its offset."""
    return struct.pack(">q", base_offset) + batch[8:]


def read(data: bytes, client: Client, first_offset: int = 0, budget_bytes: int | None = None) -> tuple[list[Any], int]:
    """The records of a fetch as the clients get them, and the offset to fetch next."""
    batches = RecordBatches(data, *client, MB)
    batches.first_offset, batches.budget_bytes = first_offset, budget_bytes
    found, then = [], first_offset
    while batches.has_next():
        batch = batches.next_batch()
        assert batch.validate_crc()
        found += list(batch)
        then = batch.next_offset
    return found, then


def reasons(found: list[Any]) -> list[str]:
    return [r.value.reason for r in found if isinstance(r.value, Unreadable)]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("codec", range(len(CODECS)), ids=CODECS)
def test_read_one_by_one_a_batch_is_as_the_client_reads_it(codec: int, client: Client) -> None:
    draw = random.Random(codec)
    sent = [
        RawRecord(
            draw.choice((None, b"", draw.randbytes(300))), draw.choice((None, b"k")), [(b"n", None), (b"", b"v")], i
        )
        for i in range(200)
    ]
    batch = placed(encode_batch(sent, codec=codec), 1_000)
    found, then = read(batch, client)
    assert [r.offset for r in found] == list(range(1_000, 1_200))
    assert then == 1_200
    body = memoryview(batch)[61:]
    slowly = RecordBatches(batch, *client, MB).next_batch()._one_by_one(chunks(codec, body) if codec else pieces(body))
    fields = [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers)) for r in found]
    assert [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers)) for r in slowly] == fields
    assert [(r.key, r.value, r.timestamp) for r in found] == [
        (r.key, r.value, 1_580_515_200_000 + i) for i, r in enumerate(sent)
    ]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_fetch_begins_at_the_offset_it_was_asked_for(client: Client) -> None:
    batches = [placed(encode_batch([RawRecord(b"%d" % (10 * b + i)) for i in range(10)]), 10 * b) for b in range(3)]
    cut_off = b"".join(batches) + batches[0][:30]
    found, then = read(cut_off, client, first_offset=15)
    assert [int(r.value) for r in found] == list(range(15, 30))
    assert then == 30


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(encode_record(RawRecord(b"0"), 0) * 3, id="one offset three times"),
        pytest.param(b"".join(encode_record(RawRecord(b"0"), d) for d in (2, 1, 0)), id="descending"),
        pytest.param(b"".join(encode_record(RawRecord(b"0"), d) for d in (5, 1 << 30, -7)), id="beyond the batch"),
    ],
)
def test_offsets_ascend_and_no_record_is_left_out(body: bytes, client: Client) -> None:
    found, then = read(placed(encode_batch([RawRecord(b"0")] * 3, body=body), 40), client)
    assert len(found) == 3
    assert all(r.offset >= 40 for r in found)
    assert [r.offset for r in found] == sorted({r.offset for r in found})
    assert then == 43


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=CODECS[1:])
def test_of_a_large_value_the_beginning_is_kept_and_its_neighbours_are_whole(codec: int, client: Client) -> None:
    large = b"a" * 20 * MB
    found, _ = read(encode_batch([RawRecord(b"1"), RawRecord(large, b"k"), RawRecord(b"2")], codec=codec), client)
    assert [r.value for r in found] == [b"1", large[:MB], b"2"]
    assert isinstance(found[1].value, Partial)
    assert (found[1].value.size, found[1].value.sha256, found[1].key) == (
        len(large),
        Partial.cut(large, 1).sha256,
        b"k",
    )


@pytest.mark.parametrize("client", CLIENTS)
def test_a_fetch_of_little_that_becomes_much_stops_and_goes_on(client: Client) -> None:
    batch = placed(encode_batch([RawRecord(b"a" * MB)] * 30, codec=4), 7)
    offsets, then = [], 7
    while then < 37:
        found, next_then = read(batch, client, first_offset=then, budget_bytes=4 * MB)
        assert 0 < len(found) <= 6
        assert next_then > then
        offsets += [r.offset for r in found]
        then = next_then
    assert offsets == list(range(7, 37))


@pytest.mark.parametrize("client", CLIENTS)
def test_what_is_beyond_the_bounds_of_a_batch_is_unreadable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_batches, "MAX_BATCH_BYTES", 18 * MB)
    monkeypatch.setattr(record_batches, "MAX_UNREADABLE", 3)
    found, then = read(encode_batch([RawRecord(b"1"), *[RawRecord(b"a" * 9 * MB)] * 9], codec=4), client)
    assert then == 10
    assert found[0].value == b"1"
    assert len(reasons(found)) == 4
    assert found[-1].value.last_offset == 9


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        pytest.param(encode_batch([RawRecord(b"x")], codec=6), "codec 6 is unknown", id="an unknown codec"),
        pytest.param(encode_batch([RawRecord(b"x")], body=varint(-1)), "length of a record is -1", id="a length of -1"),
        pytest.param(encode_batch([RawRecord(b"x")], body=varint(99)), "ends in the middle", id="a record cut off"),
        pytest.param(encode_batch([RawRecord(b"x")], body=b""), "ends in the middle", id="no record"),
        pytest.param(
            encode_batch([RawRecord(b"x")], body=varint(6) + b"\0\0\0\1\1" + varint(-1)), "-1 headers", id="-1 headers"
        ),
        pytest.param(
            encode_batch([RawRecord(b"x")], body=varint(8) + b"\0\0\0\1\1\0zz"),
            "2 bytes follow",
            id="bytes that follow",
        ),
        pytest.param(encode_batch([RawRecord(b"x")], body=b"\x80" * 20), "has no end", id="a number without end"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(batch: bytes, reason: str, client: Client) -> None:
    found, then = read(batch, client)
    assert (len(found), then) == (1, 1)
    assert reason in reasons(found)[0]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_batch_that_is_damaged_is_fetched_again_and_then_is_unreadable(client: Client) -> None:
    good, last = placed(encode_batch([RawRecord(b"1")]), 5), placed(encode_batch([RawRecord(b"4")]), 8)
    damaged = bytearray(placed(encode_batch([RawRecord(client[0].__module__.encode()), RawRecord(b"3")]), 6))
    damaged[-1] ^= 1
    data = good + bytes(damaged) + last
    found, then = read(data, client)
    assert ([r.value for r in found], then) == ([b"1"], 6)
    found, then = read(data, client, first_offset=6)
    assert [r.offset for r in found] == [6, 7, 8]
    assert reasons(found) == ["the record cannot be read: its checksum is wrong"] * 2
    assert (found[2].value, then) == (b"4", 9)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("codec", [0, 1, 2, 3], ids=CODECS[:4])
@pytest.mark.parametrize("magic", [0, 1])
def test_formats_of_old_brokers_are_read(magic: Any, codec: int, client: Client) -> None:
    if (magic, codec) == (0, 3):
        pytest.skip("Kafka never had lz4 in format 0")
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    for i in range(3):
        builder.append(i, 1_600_000_000_000 if magic else None, b"k", b"v" * 200)
    found, _ = read(bytes(builder.build()), client)
    assert [(r.offset, r.key, len(r.value), r.headers) for r in found] == [(i, b"k", 200, []) for i in range(3)]
    assert {r.timestamp for r in found} == {1_600_000_000_000 if magic else -1}


def test_a_large_message_of_an_old_format_is_not_decompressed() -> None:
    builder = LegacyRecordBatchBuilder(1, 1, 1 << 26)
    builder.append(0, 1, None, b"a" * 20 * MB)
    found, then = read(bytes(builder.build()), (DefaultRecordBatch, LegacyRecordBatch))
    assert "decompresses to more than" in reasons(found)[0]
    assert then == 1
