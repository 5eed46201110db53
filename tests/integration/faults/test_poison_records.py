"""Poison records: every record that a broker accepts becomes a decision or a dead letter and ends no worker."""

import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from chaos.fuzz.raw_batches import RawProducer, RawRecord, encode_batch, encode_record, varint
from schemas.configuration.settings import Settings
from schemas.records import Decision
from stream_app.decisions import dead_letters
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.kafka.topic_admin import admin
from stream_app.kafka.topic_reader import read_to_end
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, running_worker, wait_for
from tests.helpers.traffic.invalid_payloads import payload

pytestmark = pytest.mark.kafka

GOOD = payload()
GZIP, ZSTD = 1, 4
MB = 1024 * 1024
ODD_ATTRIBUTES = b"\xff\x00\x00" + varint(-1) + varint(len(GOOD)) + GOOD + varint(0)


def header(name: bytes, value: bytes | None, codec: int = GZIP) -> bytes:
    return encode_batch([RawRecord(GOOD, headers=[(name, value)])], codec=codec)


# Batches, and the result of each of their records: "" for a decision, else the code of a dead letter.
POISON: dict[str, tuple[bytes, list[str]]] = {
    "3 MB in some kB": (encode_batch([RawRecord(b"a" * 3 * MB), RawRecord(GOOD)], codec=GZIP), ["too-large", ""]),
    "50 MB in some kB": (encode_batch([RawRecord(GOOD), RawRecord(b"a" * 50 * MB)], codec=ZSTD), ["", "too-large"]),
    "150 MB in some kB": (encode_batch([RawRecord(GOOD), RawRecord(b"a" * 150 * MB)], codec=ZSTD), ["", "unreadable"]),
    "an id of 380 kB": (header(b"tamiz-transaction-id", b"\0" * 380_000), ["invalid-transaction-id"]),
    "a traceparent of 1 MB": (header(b"traceparent", b"a" * MB), [""]),
    "a tracestate of 1 MB": (header(b"tracestate", b"a" * MB), [""]),
    "a key of 2 MB": (encode_batch([RawRecord(GOOD, key=b"k" * 2 * MB)], codec=GZIP), ["key-too-large"]),
    "a header of 2 MB and no payload": (
        encode_batch([RawRecord(None, headers=[(b"x", b"a" * 2 * MB)])], codec=GZIP),
        ["null"],
    ),
    "50,000 headers and no payload": (
        encode_batch([RawRecord(None, headers=[(b"x%d" % i, b"") for i in range(50_000)])]),
        ["headers-too-large"],
    ),
    "a header name that is not UTF-8": (header(b"\xff\xfe", b"x"), [""]),
    "one more, and no payload": (
        encode_batch([RawRecord(None, headers=[(b"\xff" * 300, b"x"), (b"\xfe", None)])]),
        ["null"],
    ),
    "attributes of 255": (encode_batch([RawRecord(b"")], body=varint(len(ODD_ATTRIBUTES)) + ODD_ATTRIBUTES), [""]),
    "an offset in the future": (encode_batch([RawRecord(GOOD)], body=encode_record(RawRecord(GOOD), 1_000_000)), [""]),
    "two of one offset": (encode_batch([RawRecord(GOOD)] * 2, body=encode_record(RawRecord(GOOD), 0) * 2), ["", ""]),
    "no timestamp": (encode_batch([RawRecord(GOOD)], timestamp=-1), [""]),
    "a timestamp of long ago": (encode_batch([RawRecord(GOOD)], timestamp=-(1 << 40), codec=GZIP), [""]),
    "null values of headers": (header(b"tamiz-transaction-id", None), [""]),
    "reserved header names": (
        encode_batch([RawRecord(None, headers=[(b"tamiz-truncated-value-bytes", b"9"), (b"tamiz-error-code", b"x")])]),
        ["null"],
    ),
}


@pytest.fixture
def settings(kafka: Kafka, real_registry: Settings) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, real_registry.state_dir, partitions=1)


def read(settings: Settings, topic: str) -> list[Any]:
    return [record for records in read_to_end(settings.bootstrap, topic) for record in records]


def limit_dead_letters(settings: Settings, max_message_bytes: int) -> None:
    config = {"max.message.bytes": str(max_message_bytes)}
    with admin(settings.bootstrap) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.dead_letters_topic, config)])


@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
def test_no_record_that_a_broker_accepts_stops_a_worker(settings: Settings, tmp_path: Path, guarantee: Any) -> None:
    settings = msgspec.structs.replace(settings, processing_guarantee=guarantee)
    expected: dict[int, str] = {}
    with running_worker(settings, tmp_path) as worker, RawProducer(settings.bootstrap) as producer:
        before = psutil.Process(worker.process.pid).memory_info().rss
        for name, (batch, ends) in POISON.items():
            error, offset = producer.send(settings.transactions_topic, 0, batch)
            assert error == 0, f"{name}: the broker refuses it with code {error}"
            expected |= {offset + i: end for i, end in enumerate(ends)}

        def ends() -> dict[int, str]:
            decided = [int(dict(r.headers)[OFFSET_HEADER]) for r in read(settings, settings.decisions_topic)]
            letters = [dead_letters.read(r.headers) for r in read(settings, settings.dead_letters_topic)]
            found = [(offset, "") for offset in decided] + [(about.offset, about.code) for about in letters if about]
            assert len(found) == len(dict(found)), "each once"
            return dict(found)

        wait_for(lambda: len(ends()) >= len(expected) or worker.process.poll() is not None, 60, worker.tail)
        assert ends() == expected, worker.tail()
        # The readers of topics, which are kafka-python's, read past them, too, at the same offsets.
        assert [r.offset for r in read(settings, settings.transactions_topic)] == sorted(expected)
        # A batch is decompressed in parts: a large value is never whole in memory.
        assert psutil.Process(worker.process.pid).memory_info().rss - before < 150 * MB
        page = worker.get("/metrics")[1]
        assert 'tamiz_truncated_parts_total{part="trace"} 2.0' in page
        assert 'tamiz_truncated_parts_total{part="key"} 1.0' in page
        if guarantee == "exactly-once":
            return
        # A limit that is lowered while it runs: a restart reads the new one.
        limit_dead_letters(settings, 20_000)
        hardly_compressed = b"a" + random.Random(1).randbytes(30_000).hex().encode()  # no codec gets it below 30 kB
        _, offset = producer.send(settings.transactions_topic, 0, encode_batch([RawRecord(hardly_compressed)]))
        assert worker.process.wait(60) == 70
    expected[offset] = "not-json"
    with running_worker(settings, tmp_path) as worker:
        wait_for(lambda: len(ends()) == len(expected) or worker.process.poll() is not None, 60, worker.tail)
        assert ends() == expected
    for record in read(settings, settings.decisions_topic):
        msgspec.json.decode(record.value, type=Decision)
    headers = dict(read(settings, settings.dead_letters_topic)[0].headers)
    assert headers[dead_letters.TRUNCATED_VALUE_BYTES_HEADER] == b"%d" % (3 * MB)
    assert headers[dead_letters.TRUNCATED_VALUE_SHA256_HEADER] == sha256(b"a" * 3 * MB).hexdigest().encode()
