"""Records read as columns are those that are read one by one, for valid, changed and hostile batches."""

import os
import random
import struct
from types import SimpleNamespace
from typing import Any

import crc32c
import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch, LegacyRecordBatchBuilder

from chaos.fuzz.raw_batches import RawRecord, compress, encode_batch, encode_record, varint
from schemas.configuration.settings import load
from schemas.dataset.declaration import load_dataset
from schemas.record_parts import OmittedHeaders, TruncatedBytes, Unreadable, last_offset
from schemas.transaction_ids import TRANSACTION_ID_HEADER
from scoring.input.admission import MAX_KEY_BYTES
from stream_app.decisions.handler import HandlerPolicy, clean_records
from stream_app.decisions.probe import good_payload
from stream_app.kafka import aiokafka_patch
from stream_app.kafka.aiokafka_patch import FetchedBatches
from stream_app.kafka.batches import checksum_failures
from stream_app.kafka.batches.record_batches import RecordBatches
from stream_app.kafka.batches.record_columns import (
    BatchColumns,
    FetchedRecord,
    RecordColumns,
    batch_columns,
    join_records,
    split_records,
)
from stream_app.kafka.batches.record_stream import Budget

FETCHES = int(os.environ.get("TAMIZ_FUZZ_FETCHES", "1000"))
CLIENT = DefaultRecordBatch, LegacyRecordBatch
KEEP_BYTES = 300  # small, so that some values are truncated
BUDGET_BYTES = 60_000
APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20
TEXTS = (None, b"", b"k", b"key-17", b"x" * 63, b"x" * 64, b"\xff\x00", b"v" * 299, b"v" * 301)
NAMES = (b"traceparent", b"", b"n", b"n" * 100)
UNUSUAL_NAMES = (*NAMES, None, b"\xff", "ñ".encode())
NUMBERS = (0, 1, -1, 63, 64, 1 << 31, -(1 << 31), (1 << 62) - 1, 1 << 62, (1 << 63) - 1, -(1 << 63))


def framed(body: bytes, count: int, base_offset: int, last_delta: int, codec: int, flags: int, times: Any) -> bytes:
    """A batch with a correct checksum. times: first and greatest timestamp."""
    covered = struct.pack(">hiqqqhii", codec | flags, last_delta, *times, -1, -1, -1, count) + compress(codec, body)
    rest = struct.pack(">ibI", -1, 2, crc32c.crc32c(covered)) + covered
    return struct.pack(">qi", base_offset, len(rest)) + rest


def random_batch(draw: random.Random, base_offset: int) -> tuple[bytes, int]:
    """A batch, in part with changes that a broker would accept, and the next base offset."""
    count = draw.choice((1, 1, 2, 3, 10, 40))
    is_valid = draw.random() < 0.6
    deltas = sorted(draw.sample(range(2 * count), count)) if draw.random() < 0.3 else list(range(count))
    if not is_valid and draw.random() < 0.2:
        draw.shuffle(deltas)
    n_headers = draw.choice((0, 0, 1, 3, *(() if is_valid else (128, 129))))
    names = NAMES if is_valid else UNUSUAL_NAMES
    last_delta, announced = deltas[-1], count
    encoded = [
        encode_record(
            RawRecord(
                draw.choice(TEXTS),
                draw.choice(TEXTS),
                [(draw.choice(names), draw.choice(TEXTS[:5])) for _ in range(n_headers)],
                draw.choice(NUMBERS[:5] if is_valid else NUMBERS),
            ),
            delta,
        )
        for delta in deltas
    ]
    if not is_valid:
        if draw.random() < 0.2:
            encoded[-1] = encode_record(RawRecord(b"v"), draw.choice(NUMBERS))
        if draw.random() < 0.15:
            announced += draw.choice((-1, 1, 5))
        if draw.random() < 0.15:
            last_delta += draw.choice((-2, 1, 50))
        if draw.random() < 0.1:
            encoded.append(draw.choice((b"\0", varint(0), varint(-1), b"\xff" * 11)))
    body = bytearray(b"".join(encoded))
    if not is_valid and draw.random() < 0.4:
        for _ in range(draw.choice((1, 1, 4))):
            body[draw.randrange(len(body))] = draw.randrange(256)
    flags = APPEND_TIME if draw.random() < 0.1 else 0
    times = (
        (1_700_000_000_000, 1_700_000_000_999) if draw.random() < 0.9 else (draw.choice(NUMBERS), draw.choice(NUMBERS))
    )
    batch = framed(bytes(body), announced, base_offset, last_delta, draw.randrange(5), flags, times)
    if not is_valid and draw.random() < 0.1:
        changed = bytearray(batch)
        changed[draw.randrange(23, len(batch))] ^= 1 << draw.randrange(8)
        batch = bytes(changed)
    return batch, base_offset + max(last_delta, 0) + 1


def legacy_batch(draw: random.Random, base_offset: int) -> tuple[bytes, int]:
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 16)
    builder.append(0, 1_600_000_000_000, draw.choice(TEXTS), draw.choice(TEXTS))
    return struct.pack(">q", base_offset) + bytes(builder.build())[8:], base_offset + 1


def random_fetch(draw: random.Random) -> tuple[bytes, int, int]:
    """The bytes of a fetch, the offset that it begins at, and the offset after its batches."""
    first = at = draw.choice((0, 7, 1 << 40))
    data = b""
    for _ in range(draw.choice((1, 2, 5))):
        batch, at = legacy_batch(draw, at) if draw.random() < 0.05 else random_batch(draw, at)
        data += batch
    if draw.random() < 0.3:
        first = draw.randrange(first, at)
    return data[: -draw.randrange(1, 30)] if draw.random() < 0.2 else data, first, at


def fields(record: Any) -> tuple[Any, ...]:
    """What a reader sees of a record."""
    parts = (record.key, record.value)
    marks = [(type(p), vars(p)) for p in parts if isinstance(p, TruncatedBytes | Unreadable)]
    omitted = [h.missing for h in record.headers if isinstance(h, OmittedHeaders)]
    return record.offset, record.timestamp, *parts, tuple(record.headers), marks, omitted


def read(data: bytes, first_offset: int, columns: Any) -> tuple[list[Any], int, bool]:
    """Records of a fetch, the next offset, and whether the budget is spent."""
    checksum_failures.FAILED.clear()
    budget = Budget(BUDGET_BYTES)
    batches = RecordBatches(data, *CLIENT, KEEP_BYTES, budget) if columns is None else FetchedBatches(data)
    batches.keep_bytes, batches.budget = KEEP_BYTES, budget
    batches.first_offset = then = first_offset
    parts: list[Any] = []
    while batches.has_next():
        batch = batches.next_batch()
        assert batch.validate_crc()
        parts += list(batch)
        then = batch.next_offset
    if columns is None:
        return parts, then, budget.is_spent
    return list(RecordColumns.of_partition("t", 3, parts)) if parts else [], then, budget.is_spent


def test_columns_hold_what_is_read_record_by_record() -> None:
    draw = random.Random(16)
    n_columns = 0
    for case in range(FETCHES):
        data, first, _ = random_fetch(draw)
        plain, columns = read(data, first, None), read(data, first, batch_columns)
        assert list(map(fields, columns[0])) == list(map(fields, plain[0])), (case, data, first)
        assert columns[1:] == plain[1:], (case, data, first)
        n_columns += columns[0] != [] and isinstance(columns[0][0], FetchedRecord)
    assert n_columns > FETCHES // 2


def test_most_valid_batches_are_read_as_columns_and_no_other() -> None:
    valid = [RawRecord(b"v", b"k", [(b"n", None)], i) for i in range(50)]
    for codec in range(5):
        (part,) = RecordBatches(encode_batch(valid, codec=codec), *CLIENT, columns=batch_columns).next_batch()
        assert (type(part), part.n_records, part.n_headers, part.offset) == (BatchColumns, 50, 50, 49)
    for other in (RawRecord(b"v", None, [(b"\xff", b"")]), RawRecord(b"v", None, [(None, b"")])):
        found = list(RecordBatches(encode_batch([*valid, other]), *CLIENT, columns=batch_columns).next_batch())
        assert len(found) == 51
        assert BatchColumns not in map(type, found)


class ReadPosition:
    """The position of a partition, as aiokafka keeps it."""

    paused = False

    def __init__(self, position: int) -> None:
        self.position = position

    def consumed_to(self, position: int) -> None:
        self.position = position


def fetch_results(data: bytes, first: int, aborted: Any, classes: Any, sizes: list[int | None]) -> list[Any]:
    """What aiokafka's fetcher returns and where it is afterwards, call by call."""
    checksum_failures.FAILED.clear()
    records_class, partition_class, result_class = classes
    state, place = ReadPosition(first), TopicPartition("t", 3)
    unpacked = partition_class(place, records_class(data), aborted, first, None, None, True, 1)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    result = result_class(place, assignment=assignment, partition_records=unpacked, backoff=0)
    found: list[Any] = []
    for size in sizes:
        if not result.has_more():
            break
        if size == 1:
            record = result.getone()
            got = [] if record is None else [record]
        else:
            got = result.getall(size)
        found.append(([(r.topic, r.partition, fields(r)) for r in got], len(got), state.position, result.has_more()))
    return found


def control_batch(producer: int, base_offset: int, *, is_abort: bool) -> bytes:
    key, value = struct.pack(">hh", 0, 0 if is_abort else 1), struct.pack(">hi", 0, 0)
    return of_producer(encode_record(RawRecord(value, key), 0), 1, base_offset, producer, TRANSACTIONAL | CONTROL)


def of_producer(body: bytes, count: int, base_offset: int, producer: int, flags: int) -> bytes:
    covered = struct.pack(">hiqqqhii", flags, count - 1, 1_700_000_000_000, 0, producer, 0, 0, count) + body
    rest = struct.pack(">ibI", -1, 2, crc32c.crc32c(covered)) + covered
    return struct.pack(">qi", base_offset, len(rest)) + rest


def test_aiokafkas_fetcher_returns_the_same_records_and_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    class PlainBatches(aiokafka_patch.FetchedBatches):
        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            self.columns = None

    class PlainRecords(aiokafka_patch._PartitionRecords):
        _consumer_record = aiokafka_patch._PartitionRecords.__mro__[1]._consumer_record  # also once it is patched

    monkeypatch.setattr(aiokafka_patch._PartitionRecords, "keep_bytes", {}, raising=False)
    monkeypatch.setattr(aiokafka_patch, "KEEP_BYTES", KEEP_BYTES)
    plain = PlainBatches, PlainRecords, aiokafka_patch._FetchResult.__mro__[1]
    ours = aiokafka_patch.FetchedBatches, aiokafka_patch._PartitionRecords, aiokafka_patch._FetchResult
    draw = random.Random(17)
    for case in range(FETCHES // 5):
        data, first, at = random_fetch(draw)
        aborted = []
        for producer in range(draw.choice((0, 1, 3))):
            count = draw.choice((1, 5))
            body = b"".join(encode_record(RawRecord(b"%d" % i), i) for i in range(count))
            data += of_producer(body, count, at, producer, TRANSACTIONAL)
            is_abort = draw.random() < 0.5
            aborted += [(producer, at)] if is_abort else []
            data += control_batch(producer, at + count, is_abort=is_abort)
            at += count + 1
        sizes = [draw.choice((1, 2, 7, 100, None)) for _ in range(40)] + [None] * 3
        assert fetch_results(data, first, aborted, ours, sizes) == fetch_results(data, first, aborted, plain, sizes), (
            case,
            data,
            first,
        )


def test_plain_fetches_are_read_at_once_and_give_the_same_records_and_positions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aiokafka_patch, "KEEP_BYTES", KEEP_BYTES)
    classes = FetchedBatches, aiokafka_patch._PartitionRecords, aiokafka_patch._FetchResult
    draw = random.Random(18)
    n_read = 0
    for case in range(FETCHES):
        first = at = draw.choice((0, 7, 1 << 40))
        data, before = b"", draw.randbytes(draw.choice((0, 3)))  # of a response
        for _ in range(draw.choice((1, 2, 5))):
            count = draw.choice((1, 2, 9))
            records = [encode_record(RawRecord(draw.choice(TEXTS[:-1]), draw.choice(TEXTS)), i) for i in range(count)]
            deleted = draw.choice((0, 0, 3))  # offsets at the end, by compaction
            data += framed(b"".join(records), count, at, count - 1 + deleted, draw.random() < 0.05, 0, (5, 9))
            at += count + deleted
        first = draw.randrange(first, at) if draw.random() < 0.3 else first
        data = data[: -draw.randrange(1, 30)] if draw.random() < 0.2 else data
        state, place = ReadPosition(first), TopicPartition("t", 3)
        assignment = SimpleNamespace(active=True, state_value=lambda _, state=state: state)
        response = before + data + b"rest"
        batches = FetchedBatches(response, len(before), len(before) + len(data))
        result = aiokafka_patch.PlainResult.read(place, assignment, batches)
        if result is None:
            continue
        n_read += 1
        sizes = [draw.choice((2, 7, 100, None)) for _ in range(40)] + [None] * 3
        expected = fetch_results(data, first, [], classes, sizes)
        found = []
        for size in sizes:
            if not result.has_more():
                break
            got = result.getall(size)
            found.append([(r.topic, r.partition, fields(r)) for r in got])
        assert [one for one in found if one] == [one[0] for one in expected if one[1]], (case, data, first)
        assert state.position == expected[-1][2]
    assert n_read > FETCHES // 2


def test_a_plain_fetch_of_a_partition_that_is_paused_or_sought_elsewhere_gives_nothing() -> None:
    for change in ({"paused": True}, {"position": 9}):
        state, place = ReadPosition(0), TopicPartition("t", 3)
        assignment = SimpleNamespace(active=True, state_value=lambda _, state=state: state)
        data = encode_batch([RawRecord(b"v")])
        result = aiokafka_patch.PlainResult.read(place, assignment, FetchedBatches(data))
        assert result is not None
        for name, value in change.items():
            setattr(state, name, value)
        assert (result.getall(), result.has_more(), state.position) == ([], False, change.get("position", 0))


def columns_of(partition: int, values: list[bytes | None], first: int = 0) -> RecordColumns:
    records = [RawRecord(value, b"k%d" % i, [(b"h", b"%d" % i)] * (i % 2)) for i, value in enumerate(values)]
    (part,) = RecordBatches(encode_batch(records), *CLIENT, columns=batch_columns).next_batch()
    part.table[0] += first
    return RecordColumns.of_partition("t", partition, [part])


def test_columns_of_several_partitions_are_one_sequence_of_records() -> None:
    unreadable = FetchedRecord("t", 1, 9, 5, None, Unreadable.with_reason("damaged", 20), ())
    odd = RecordColumns.of_partition("t", 1, [unreadable])
    joined = RecordColumns.join([columns_of(0, [b"a", None, b"c"]), odd, columns_of(2, [b"", b"e"], 70)])
    records = list(joined)
    assert [(r.partition, r.offset, r.key, r.value, r.headers) for r in records] == [
        (0, 0, b"k0", b"a", ()),
        (0, 1, b"k1", None, (("h", b"1"),)),
        (0, 2, b"k2", b"c", ()),
        (1, 9, None, b"", ()),
        (2, 70, b"k0", b"", ()),
        (2, 71, b"k1", b"e", (("h", b"1"),)),
    ]
    assert fields(records[3]) == fields(unreadable)
    assert [joined[i] for i in range(-6, 6)] == records * 2
    assert list(joined.payloads) == [b"a", None, b"c", b"", b"", b"e"]
    assert joined.keys == [r.key for r in records]
    assert joined.headers == {i: r.headers for i, r in enumerate(records) if r.headers}
    assert joined.last_offsets.tolist() == list(map(last_offset, records))
    for rows in (np.array([], np.intp), np.array([0, 3, 5]), np.array([False, True, True, True, False, False])):
        assert list(joined.take(rows)) == [records[i] for i in np.arange(6)[rows].tolist()]
        assert joined.take(rows).last_offsets.tolist() == joined.last_offsets[rows].tolist()
    assert list(joined[2:]) == records[2:]
    with pytest.raises(IndexError):
        joined[6]


def test_records_are_split_at_an_offset_and_joined_whether_they_are_columns_or_not() -> None:
    columns = columns_of(0, [b"a", None, b"c", b"d"], 10)
    for records in (columns, list(columns)):
        for offset in (0, 10, 11, 13, 14, 99):
            below, others = split_records(records, offset)
            assert [r.offset for r in below] == [o for o in range(10, 14) if o < offset]
            assert [r.offset for r in others] == [o for o in range(10, 14) if o >= offset]
            assert isinstance(others, RecordColumns) == isinstance(records, RecordColumns)
    other = columns_of(1, [b"e"])
    assert isinstance(join_records([columns, other]), RecordColumns)
    assert list(join_records([columns, other])) == join_records([list(columns), other]) == [*columns, *other]


def test_columns_are_cleaned_as_records_are() -> None:
    good = good_payload(load_dataset("card_transactions"))
    names = [(TRANSACTION_ID_HEADER.encode(), sent) for sent in (b"pay-1", b"a\nb", b"", None)]
    headers: list[list[tuple[bytes | None, bytes | None]]] = [[], *([name] for name in names), [(b"n", b"v")] * 128]
    records = [
        RawRecord(value, key, each)
        for each in headers
        for key in (None, b"card", b"k" * (MAX_KEY_BYTES + 1))
        for value in (good, b"{}", None, good[:-1])
    ]
    parts = list(RecordBatches(encode_batch(records), *CLIENT, columns=batch_columns).next_batch())
    parts.append(FetchedRecord("t", 1, 900, 5, None, Unreadable.with_reason("damaged", 920), ()))
    parts.append(FetchedRecord("t", 1, 921, 5, b"k", TruncatedBytes.truncate(good * 9, 100), ()))
    columns = RecordColumns.of_partition("t", 1, parts)
    policy = HandlerPolicy.from_settings(load({}), load_dataset("card_transactions"), counting=False)
    cleaned, rejections = clean_records(columns, policy)
    expected, expected_rejections = clean_records(list(columns), policy)
    assert rejections == expected_rejections
    assert cleaned.rows.tolist() == expected.rows.tolist() != []
    assert cleaned.event_time_ms.tolist() == expected.event_time_ms.tolist()
    assert {r.code for r in rejections} >= {
        "unreadable",
        "too-large",
        "key-too-large",
        "invalid-transaction-id",
        "null",
    }
