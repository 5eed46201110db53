"""Record batches written from encoded records: what every reader reads is what was written."""

from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record import memory_records as aiokafka_records
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from hypothesis import given
from hypothesis import strategies as st
from kafka.record import memory_records as kafka_records

from stream_app.kafka.batches.record_batches import RecordBatches
from stream_app.output.batch_writer import record_batches
from stream_app.output.outgoing_records import OutgoingRecord, OutgoingRecords

NULLABLE_BYTES = st.one_of(
    st.none(), st.binary(max_size=200), st.sampled_from([b"", b"a" * 63, b"a" * 64, b"b" * 9_000])
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
RECORDS = st.lists(
    st.builds(
        OutgoingRecord,
        partition=st.integers(0, 3),
        key=NULLABLE_BYTES,
        value=NULLABLE_BYTES,
        headers=st.lists(st.tuples(NAMES, NULLABLE_BYTES), max_size=3),
    ),
    max_size=150,
)
MAX_BYTES = 3_000
TIME_MS = 1_700_000_000_000


def aiokafka_batches(records: list[OutgoingRecord], codec: int) -> list[BatchBuilder]:
    made: list[BatchBuilder] = []
    for record in records:
        row = {"timestamp": TIME_MS, "key": record.key, "value": record.value, "headers": record.headers}
        if not made or made[-1].append(**row) is None:
            made.append(BatchBuilder(MAX_BYTES, codec))
            assert made[-1].append(**row) is not None
    return made


def read(reader: Any, data: bytes) -> list[tuple[object, ...]]:
    found, batches = [], reader(data)
    while (batch := batches.next_batch()) is not None:
        assert batch.validate_crc()
        found += [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in batch]
    return found


def readers() -> list[Any]:
    def ours(data: bytes) -> RecordBatches:
        return RecordBatches(data, DefaultRecordBatch, LegacyRecordBatch)

    return [aiokafka_records.MemoryRecords, kafka_records.MemoryRecords, ours]


@given(RECORDS)
def test_every_reader_reads_the_batches_that_aiokafka_would_have_written(records: list[OutgoingRecord]) -> None:
    outgoing = OutgoingRecords.of(records)
    assert list(outgoing) == records
    assert sorted(outgoing.by_partition) == sorted({r.partition for r in records})
    for partition, part in outgoing.by_partition.items():
        own = [r for r in records if r.partition == partition]
        assert list(part) == own
        made = list(record_batches(part, max_bytes=MAX_BYTES, time_ms=TIME_MS))
        theirs = aiokafka_batches(own, codec=0)
        assert [batch.record_count() for batch in made] == [batch.record_count() for batch in theirs]
        at = 0
        for ours, their in zip(made, theirs, strict=True):
            encoded = bytes(ours.encode(-1, -1, -1))
            for reader in readers():
                found = read(reader, encoded)
                assert found == read(reader, bytes(their._build()))
                assert [tuple(row[2:]) for row in found] == [tuple(r[1:]) for r in own[at : at + len(found)]]
            at += ours.record_count()


@pytest.mark.parametrize("transactional", [False, True])
def test_an_incompressible_batch_has_the_bytes_of_aiokafka_s_builder(transactional: bool) -> None:
    their = BatchBuilder(MAX_BYTES, 0, is_transactional=transactional)
    their.append(timestamp=TIME_MS, key=b"k", value=b"v", headers=[("h", b"")])
    outgoing = OutgoingRecords.of([OutgoingRecord(0, b"k", b"v", [("h", b"")])])
    (ours,) = record_batches(outgoing, transactional=transactional, time_ms=TIME_MS)
    their._set_producer_state(77, 3, 12)
    assert ours.encode(77, 3, 12) == their._build()


def test_a_record_larger_than_a_batch_is_alone_in_its_batch() -> None:
    records = [OutgoingRecord(0, None, bytes(n), []) for n in (10, 5_000, 10, 10)]
    outgoing = OutgoingRecords.of(records)
    made = record_batches(outgoing, max_bytes=MAX_BYTES)
    assert [batch.record_count() for batch in made] == [1, 1, 2]
