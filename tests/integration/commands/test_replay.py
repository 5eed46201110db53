import json
import random
import uuid
from datetime import date
from decimal import Decimal
from itertools import islice

import pyarrow as pa
import pytest
from click.testing import Result
from kafka import TopicPartition
from kafka.partitioner import DefaultPartitioner
from pyarrow import parquet
from typer.testing import CliRunner

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import BrokerError, TamizError
from schemas.time_units import DAY_MS
from schemas.topics import Topic
from stream_app.kafka.replay import (
    CachedPartitioner,
    Message,
    connected,
    message_key,
    plan,
    send,
    topic_retention_ms,
)
from stream_app.kafka.topic_admin import create_topics
from stream_app.kafka.topic_reader import read_to_end
from tamiz.batch.file_payloads import file_payloads
from tamiz.main import app

EVENT_MS = 1_578_229_200_000  # 2020-01-05T13:00Z
ROW = b'{"ID_USER":"7","monto":"1,5","fecha":"5/01/2020","hora":"13"}'


@pytest.fixture(scope="module")
def card() -> Dataset:
    return load_dataset("card_transactions")


def topic_on(kafka, *, partitions: int = 3, **config: str) -> str:
    name = f"replay-{uuid.uuid4().hex[:8]}"
    topic = Topic(role="t", name=name, key="", record="", direction="in", partitions=partitions, config=config)
    create_topics(kafka.bootstrap_servers, [topic], 1)
    return name


def planned(card, payloads, *, now_ms=EVENT_MS + DAY_MS, retention=7 * DAY_MS) -> list[Message]:
    return list(plan(payloads, card, now_ms=lambda: now_ms, retention_ms=retention))


#  retention (----------------------------------]
#  time    ^ 7 days ago: deleted soon         now
#                         ^ the event
def test_a_record_timestamp_is_its_event_time(card):
    assert planned(card, [ROW]) == [Message(b"7", ROW, EVENT_MS)]


@pytest.mark.parametrize("now_ms", [EVENT_MS + 7 * DAY_MS, EVENT_MS - 1], ids=["deleted at once", "from the future"])
def test_an_event_time_older_than_the_retention_is_not_the_timestamp(card, now_ms):
    assert planned(card, [ROW], now_ms=now_ms) == [Message(b"7", ROW, None)]


def test_an_invalid_payload_is_sent_unchanged(card):
    odd = [b"", b"[1]", b"{", b'{"ID_USER":"8","monto":"x"}']
    assert planned(card, odd) == [
        Message(None, b"", None),
        Message(None, b"[1]", None),
        Message(None, b"{", None),
        Message(b"8", odd[3], None),
    ]


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (b'{"ID_USER":"a"}', b"a"),
        (b'{"ID_USER":12}', b"12"),
        (b'{"ID_USER":12.0}', b"12"),
        (b'{"ID_USER":"12.0"}', b"12"),
        (b'{"ID_USER":null}', None),
        (b'{"ID_USER":"NA"}', None),
        (b'{"ID_USER":true}', None),
        (b'{"ID_USER":[1]}', None),
        (b"\xff", None),
    ],
)
def test_a_key_is_the_text_of_its_field(card, payload, key):
    assert message_key(payload, card) == key


def test_a_csv_row_becomes_an_object_of_texts(card, real_csv):
    first = json.loads(next(file_payloads(real_csv, card)))
    assert list(first)[:3] == ["ID_USER", "genero", "monto"]
    assert first["monto"] == "608,3456335"
    assert first["dispositivo"] == "{'model': 2020; 'device_score': 3; 'os': 'ANDROID'}"
    assert set(map(type, first.values())) == {str}


def test_an_unreadable_file_is_reported(card, tmp_path):
    with pytest.raises(TamizError, match="absent"):
        list(file_payloads(tmp_path / "absent.csv", card))


def test_the_cached_partitioner_agrees_with_kafkas_default():
    class Cluster:
        def topics(self):
            return {"t"}

        def partitions_for_topic(self, topic):
            return set(range(7))

        available_partitions_for_topic = partitions_for_topic

    ours, default = CachedPartitioner(), DefaultPartitioner()
    for key in [str(i).encode() for i in range(200)] * 2:
        assert ours.partition("t", None, key, None, b"", Cluster()) == default.partition(
            "t", None, key, None, b"", Cluster()
        )


@pytest.mark.kafka
def test_every_record_arrives_once_in_the_order_of_its_key(kafka):
    topic = topic_on(kafka)
    messages = [Message(str(i % 10).encode(), str(i).encode(), None) for i in range(5_000)]
    with connected(kafka.bootstrap_servers) as producer:
        sent = send(producer, topic, messages)
    arrived: dict[bytes, list[int]] = {}
    for records in read_to_end(kafka.bootstrap_servers, topic):
        for record in records:
            arrived.setdefault(record.key, []).append(int(record.value))
    assert sent.records == 5_000
    assert arrived == {str(k).encode(): list(range(k, 5_000, 10)) for k in range(10)}


@pytest.mark.kafka
def test_an_unknown_topic_is_reported(kafka, monkeypatch):
    with connected(kafka.bootstrap_servers) as producer:
        producer.config["max_block_ms"] = 200
        with pytest.raises(BrokerError, match="topic no-such-topic: record 0 could not be produced"):
            send(producer, "no-such-topic", [Message(None, b"x", None)])


@pytest.mark.kafka
def test_a_record_the_broker_refuses_is_an_error_and_not_a_success(kafka):
    topic = topic_on(kafka, **{"max.message.bytes": "500"})
    with connected(kafka.bootstrap_servers) as producer, pytest.raises(BrokerError, match="could not be produced"):
        send(producer, topic, [Message(None, random.Random(1).randbytes(2_000), None)])  # nothing compresses it


@pytest.mark.kafka
def test_the_retention_of_the_topic_is_read(kafka):
    assert topic_retention_ms(kafka.bootstrap_servers, topic_on(kafka, **{"retention.ms": "1234"})) == 1234
    assert topic_retention_ms(kafka.bootstrap_servers, topic_on(kafka, **{"retention.ms": "-1"})) > 100 * 365 * DAY_MS


@pytest.mark.kafka
def test_the_command_replays_a_file_with_its_event_times(kafka, card, real_csv, monkeypatch):
    topic = topic_on(kafka, **{"retention.ms": "-1"})
    monkeypatch.setenv("TAMIZ_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    result = CliRunner().invoke(app, ["produce", str(real_csv), "--limit", "300", "--topic", topic, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["records"] == 300
    arrived = {r.value: r for records in read_to_end(kafka.bootstrap_servers, topic) for r in records}
    assert set(arrived) == set(islice(file_payloads(real_csv, card), 300))
    for value, record in arrived.items():
        assert record.key == json.loads(value)["ID_USER"].encode()
    first = arrived[next(file_payloads(real_csv, card))]
    assert first.timestamp == 1_579_636_800_000  # 21/01/2020, 20 h


def produced(kafka, monkeypatch, path) -> tuple[Result, list[bytes]]:
    topic = topic_on(kafka, partitions=1)
    monkeypatch.setenv("TAMIZ_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    result = CliRunner().invoke(app, ["produce", str(path), "--topic", topic, "--json"])
    return result, [r.value for records in read_to_end(kafka.bootstrap_servers, topic) for r in records]


@pytest.mark.kafka
def test_of_a_csv_file_with_a_malformed_row_nothing_is_sent(kafka, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("ID_USER;monto;fecha;hora\n7;1,5;5/01/2020;13\n8;1,5;5/01/2020\n")
    result, arrived = produced(kafka, monkeypatch, tmp_path / "t.csv")
    assert "line 3 has 3 fields, expected 4" in str(result.exception)
    (tmp_path / "t.csv").write_text('ID_USER;monto;fecha;hora\n7;1,5;5/01/2020;13\n"8;1,5;5/01/2020;13\n')
    result, more = produced(kafka, monkeypatch, tmp_path / "t.csv")
    assert "line 3: a quotation mark opens in this row and never closes" in str(result.exception)
    assert arrived == more == []


@pytest.mark.kafka
def test_json_lines_are_sent_byte_for_byte_and_their_missing_columns_named(kafka, tmp_path, monkeypatch):
    lines = [ROW, b"{", b"", b'{ "ID_USER" : 7, "Ciudad": "x"} ', b"\xff"]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    result, arrived = produced(kafka, monkeypatch, tmp_path / "t.jsonl")
    assert arrived == lines
    missing = {column["name"]: column["similar"] for column in json.loads(result.stdout)["missing_columns"]}
    assert missing["ciudad"] == ["Ciudad"]
    assert "'Ciudad' looks like ciudad" in result.stderr


@pytest.mark.kafka
def test_rows_of_parquet_are_sent_as_objects_of_json(kafka, tmp_path, monkeypatch):
    row = {"ID_USER": 7, "monto": Decimal("1.50"), "fecha": date(2020, 1, 5), "hora": 13, "ciudad": None}
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "t")
    _, arrived = produced(kafka, monkeypatch, tmp_path / "t")
    assert arrived == [b'{"ID_USER":7,"monto":1.50,"fecha":"2020-01-05","hora":13,"ciudad":null}']


@pytest.mark.kafka
def test_simulated_traffic_is_sent_to_the_topic(kafka, monkeypatch):
    topic = topic_on(kafka)
    monkeypatch.setenv("TAMIZ_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("TAMIZ_EXISTING_TRANSACTIONS_TOPIC", topic)
    result = CliRunner().invoke(
        app,
        ["simulate", "--rows", "500", "--format", "mixed", "--invalid-share", "0.1", "--signal", "--produce", "--json"],
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["to"] == topic
    assert 0.8 < summary["attainable_auc"] < 0.9
    records = [r for batch in read_to_end(kafka.bootstrap_servers, topic) for r in batch]
    assert len(records) == 500
    assert {TopicPartition(r.topic, r.partition) for r in records} == {TopicPartition(topic, p) for p in range(3)}
    assert all(r.key.isdigit() for r in records)
