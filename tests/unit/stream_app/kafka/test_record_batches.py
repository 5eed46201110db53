"""Valid and invalid record batches, read through the interfaces of both clients. Refused formats are built by hand."""

import gzip
import random
import struct
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch, LegacyRecordBatchBuilder
from kafka import TopicPartition
from kafka.record.default_records import DefaultRecordBatch as PlainRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch as PlainLegacyRecordBatch

from chaos.fuzz.raw_batches import CODECS, RawRecord, encode_batch, encode_record, varint
from schemas.record_parts import TruncatedBytes, Unreadable, omitted_headers
from stream_app.kafka.batches import record_batches, record_stream
from stream_app.kafka.batches.decompression import decompressed_chunks, split
from stream_app.kafka.batches.record_batches import FETCH_BYTES, RecordBatches
from stream_app.kafka.batches.record_stream import Budget
from stream_app.kafka.kafka_clients import RecordConsumer

MB = 1024 * 1024
CLIENTS = [
    pytest.param((DefaultRecordBatch, LegacyRecordBatch), id="aiokafka"),
    pytest.param((PlainRecordBatch, PlainLegacyRecordBatch), id="kafka-python"),
]
Client = tuple[Any, Any]


def placed(batch: bytes, base_offset: int) -> bytes:
    """A batch with a base offset, as brokers return it."""
    return struct.pack(">q", base_offset) + batch[8:]


def read(data: bytes, client: Client, first_offset: int = 0, budget_bytes: int = FETCH_BYTES) -> tuple[list[Any], int]:
    """The records of a fetch as the clients receive them, and the offset to fetch next."""
    batches = RecordBatches(data, *client, MB, Budget(budget_bytes))
    batches.first_offset = first_offset
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
def test_reading_record_by_record_gives_the_same_as_the_client(codec: int, client: Client) -> None:
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
    chunks = decompressed_chunks(codec, body) if codec else split(body)
    one_by_one = RecordBatches(batch, *client, MB).next_batch()._one_by_one(chunks)
    fields = [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers)) for r in found]
    assert [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers)) for r in one_by_one] == fields
    assert [(r.key, r.value, r.timestamp) for r in found] == [
        (r.key, r.value, 1_580_515_200_000 + i) for i, r in enumerate(sent)
    ]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_fetch_begins_at_the_requested_offset(client: Client) -> None:
    batches = [placed(encode_batch([RawRecord(b"%d" % (10 * b + i)) for i in range(10)]), 10 * b) for b in range(3)]
    with_incomplete_batch = b"".join(batches) + batches[0][:30]
    found, then = read(with_incomplete_batch, client, first_offset=15)
    assert [int(r.value) for r in found] == list(range(15, 30))
    assert then == 30


@pytest.mark.parametrize("client", CLIENTS)
def test_a_fetch_may_end_after_any_byte_of_a_batch(client: Client) -> None:
    builder = LegacyRecordBatchBuilder(0, 0, 1 << 16)
    builder.append(0, None, None, None)
    shortest = placed(bytes(builder.build()), 1)  # 26 bytes, less than a header of format 2
    batch = placed(encode_batch([RawRecord(b"0")]), 0)
    for n in range(len(batch)):
        assert len(read(batch + placed(batch, 1)[:n], client)[0]) == 1
    assert [r.offset for r in read(batch + shortest, client)[0]] == [0, 1]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(encode_record(RawRecord(b"0"), 0) * 3, id="one offset three times"),
        pytest.param(b"".join(encode_record(RawRecord(b"0"), d) for d in (2, 1, 0)), id="descending"),
        pytest.param(b"".join(encode_record(RawRecord(b"0"), d) for d in (5, 1 << 30, -7)), id="beyond the batch"),
    ],
)
def test_offsets_ascend_and_every_record_is_delivered(body: bytes, client: Client) -> None:
    found, then = read(placed(encode_batch([RawRecord(b"0")] * 3, body=body), 40), client)
    assert len(found) == 3
    assert all(r.offset >= 40 for r in found)
    assert [r.offset for r in found] == sorted({r.offset for r in found})
    assert then == 43


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=CODECS[1:])
def test_a_large_value_is_truncated_and_its_neighbours_stay_whole(codec: int, client: Client) -> None:
    large = b"a" * 20 * MB
    found, _ = read(encode_batch([RawRecord(b"1"), RawRecord(large, b"k"), RawRecord(b"2")], codec=codec), client)
    assert [r.value for r in found] == [b"1", large[:MB], b"2"]
    assert isinstance(found[1].value, TruncatedBytes)
    assert (found[1].value.size, found[1].value.sha256, found[1].key) == (
        len(large),
        TruncatedBytes.truncate(large, 1).sha256,
        b"k",
    )


@pytest.mark.parametrize("client", CLIENTS)
def test_a_fetch_that_expands_beyond_its_budget_stops_and_continues(client: Client) -> None:
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
def test_records_beyond_the_limits_of_a_batch_are_unreadable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_stream, "MAX_BATCH_BYTES", 18 * MB)
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
        pytest.param(encode_batch([RawRecord(b"x")], body=varint(99)), "ends within a record", id="a truncated record"),
        pytest.param(encode_batch([RawRecord(b"x")], body=b""), "ends within a record", id="no record"),
        pytest.param(
            encode_batch([RawRecord(b"x")], body=varint(6) + b"\0\0\0\1\1" + varint(-1)), "-1 headers", id="-1 headers"
        ),
        pytest.param(
            encode_batch([RawRecord(b"x")], body=varint(8) + b"\0\0\0\1\1\0zz"),
            "2 bytes follow",
            id="bytes that follow",
        ),
        pytest.param(encode_batch([RawRecord(b"x")], body=b"\x80" * 20), "longer than 64 bits", id="an endless number"),
    ],
)
def test_an_unreadable_record_states_the_reason(batch: bytes, reason: str, client: Client) -> None:
    found, then = read(batch, client)
    assert (len(found), then) == (1, 1)
    assert reason in reasons(found)[0]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_damaged_batch_is_fetched_again_and_then_unreadable(client: Client) -> None:
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


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("n", [200, 1_500_000], ids=["decoded by the client", "read one by one"])
def test_too_many_headers_are_omitted_and_the_last_one_states_their_number(n: int, client: Client) -> None:
    body = b"\0\0\0\1" + varint(1) + b"1" + varint(n) + b"\0\1" * n  # names are empty, values are null
    bomb = encode_batch([RawRecord(b"")], body=varint(len(body)) + body, codec=4)
    tracemalloc.start()
    ((record,), then) = read(bomb, client)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (record.value, len(record.headers), omitted_headers(record.headers), then) == (b"1", 129, n - 128, 1)
    assert peak < 30 * MB


@pytest.mark.parametrize("client", CLIENTS)
def test_tiny_records_are_budgeted_by_their_memory(client: Client) -> None:
    batches = b"".join(placed(encode_batch([RawRecord(None)] * 1_000), 1_000 * i) for i in range(20))
    found, then = read(batches, client, budget_bytes=MB)
    assert 1_000 <= len(found) <= 5_000
    assert then == len(found)


def test_time_is_proportional_to_the_number_of_gzip_members() -> None:
    member = gzip.compress(b"")

    def seconds(n: int) -> float:
        started = time.process_time()
        assert list(decompressed_chunks(1, memoryview(member * n + gzip.compress(b"x")))) == [b"x"]
        return time.process_time() - started

    seconds(100)
    assert seconds(40_000) < 15 * seconds(8_000)  # quadratic time would be a factor of 25


def test_a_poll_stops_at_its_budget_and_the_next_one_continues_there() -> None:
    batch = encode_batch([RawRecord(b"a" * MB)] * 40, codec=4)
    consumer = RecordConsumer(bootstrap_servers="127.0.0.1:1", api_version=(3, 0))
    try:
        fetcher, places = consumer._fetcher, [TopicPartition("t", p) for p in range(3)]
        consumer.assign(places)
        for place in places:
            consumer._subscription.seek(place, 0)
        found: dict[int, list[int]] = {place.partition: [] for place in places}
        position = dict.fromkeys(places, 0)
        polls = 0
        while min(position.values()) < 40:
            polls += 1
            waiting = {c.topic_partition for c in fetcher._completed_fetches}
            for place in places:
                if place not in waiting and position[place] < 40:
                    fetcher._completed_fetches.append(completed(place, position[place], batch))
            records, _ = fetcher.fetched_records(1_000_000)
            assert sum(len(r.value) for rows in records.values() for r in rows) <= FETCH_BYTES + 2 * MB
            for place, rows in records.items():
                found[place.partition] += [r.offset for r in rows]
                position[place] = consumer._subscription.assignment[place].position.offset
            assert polls < 20
        assert found == {p: list(range(40)) for p in range(3)}
        assert polls >= 4
    finally:
        consumer.close()


def completed(place: TopicPartition, offset: int, data: bytes) -> Any:
    """A completed fetch of one partition, as kafka-python's fetcher stores it."""
    answer = SimpleNamespace(
        error_code=0,
        high_watermark=40,
        last_stable_offset=40,
        log_start_offset=0,
        diverging_epoch=None,
        records=data,
        aborted_transactions=None,
        preferred_read_replica=-1,
    )
    return SimpleNamespace(
        topic_partition=place, fetched_offset=offset, response_version=12, partition_data=answer, metric_aggregator=None
    )
