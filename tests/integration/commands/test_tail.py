import json
import os
import signal
import subprocess
import sys
import uuid
from typing import NamedTuple

import msgspec
import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from schemas.configuration.settings import load
from schemas.records import Decision, Reason, Rejection
from schemas.topics import topic_table
from stream_app.decisions import dead_letters
from stream_app.kafka.topic_admin import create_topics
from tamiz.main import app
from tamiz.services.record_format import json_line, text_line


class TailedRecord(NamedTuple):
    topic: str = "decisions"
    partition: int = 1
    offset: int = 5
    timestamp: int = 1_578_229_200_000
    key: bytes | None = b"7"
    value: bytes | None = b"{}"
    headers: tuple[tuple[str, bytes | None], ...] = ()


def test_a_json_line_has_all_parts_of_a_record():
    record = TailedRecord(value=b'{\n "score": 0.50}', headers=(("a", b"1"), ("a", b"2"), ("b", None)))
    assert json_line(record) == (
        b'{"topic":"decisions","partition":1,"offset":5,"timestamp":1578229200000,"key":"7",'
        b'"headers":{"a":"1","b":null},"value":{"score":0.50}}'
    )


@pytest.mark.parametrize("value", [b"\xff\x00", b"{", b"", b'{"a":NaN}', b'"\xff"', b"[" * 5_000])
def test_a_value_that_is_not_json_is_printed_in_base64(value):
    line = json.loads(json_line(TailedRecord(value=value)))
    assert "value" not in line
    assert msgspec.convert(line["value_base64"], bytes) == value


@pytest.mark.parametrize(
    ("record", "field", "shown"),
    [
        (TailedRecord(value=None), "value", None),
        (TailedRecord(key=None), "key", None),
        (TailedRecord(key=b"\xff"), "key_base64", "/w=="),
        (TailedRecord(value=b"[1, 2]"), "value", [1, 2]),
    ],
    ids=["tombstone", "no key", "binary key", "array"],
)
def test_keys_and_values_of_every_kind_are_printed(record, field, shown):
    assert json.loads(json_line(record))[field] == shown


def test_a_decision_is_printed_with_its_outcome():
    decision = Decision(
        decision_id="d",
        transaction_id="transactions-1-5",
        score=0.91,
        outcome="decline",
        model_outcome="decline",
        decided_by="model",
        exploration_share=None,
        ruleset=None,
        threshold=0.9,
        reasons=(Reason(feature="monto", value=950.0, contribution=1.0, text="monto is 950"),),
        model="card",
        model_version=3,
        event_time_ms=0,
    )
    line = text_line(TailedRecord(value=msgspec.json.encode(decision)), "decisions")
    assert line.plain == "13:00:00 decisions-1-5 decline   0.9100 transactions-1-5 card v3 monto is 950"
    assert any("red" in str(span.style) for span in line.spans)


def test_a_dead_letter_is_printed_with_its_reason_and_origin():
    rejection = Rejection(row=0, code="bad-number", field="monto", value="mil", expected="a number")
    headers = dead_letters.headers(rejection, TailedRecord(topic="transactions"), group="g", transaction_id="t")
    line = text_line(TailedRecord(topic="dead-letters", value=b"\xff", headers=tuple(headers)), "dead-letters")
    assert line.plain == (
        "13:00:00 dead-letters-1-5 bad-number monto is mil, expected a number (from transactions-1-5)"
    )


@pytest.mark.parametrize("value", [b"\xff", b"plain", None, b"[1]", b'{"outcome":"maybe"}', b'{"outcome":[]}'])
def test_any_other_record_is_printed_as_text(value):
    assert text_line(TailedRecord(value=value), "decisions").plain.startswith("13:00:00 decisions-1-5 7 ")


def test_a_payload_cannot_control_the_terminal():
    assert text_line(TailedRecord(value=b"a\x1b[2Jb"), "decisions").plain.endswith("7 a\\x1b[2Jb")


def test_an_unknown_topic_is_reported_with_the_known_ones():
    result = CliRunner().invoke(app, ["tail", "decision"])
    assert "'decision' does not exist; choose one of transactions, decisions" in str(result.exception)


@pytest.fixture
def environ(kafka):
    environ = {
        "TAMIZ_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TAMIZ_TOPIC_PREFIX": f"{uuid.uuid4().hex[:8]}-",
    }
    create_topics(kafka.bootstrap_servers, [t for t in topic_table(load(environ)) if t.role == "decisions"], 1)
    return environ


def produce(environ, *values: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=environ["TAMIZ_BOOTSTRAP_SERVERS"])
    for value in values:
        producer.send(environ["TAMIZ_TOPIC_PREFIX"] + "decisions", value=value, key=b"7").get(30)
    producer.close()


@pytest.mark.kafka
def test_the_command_prints_existing_records_from_the_beginning(environ, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    produce(environ, b'{"n":1}', b'{"n":2}', b'{"n":3}')
    result = CliRunner().invoke(app, ["tail", "decisions", "--json", "--from-beginning", "--limit", "2"])
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["value"] for line in result.stdout.splitlines()] == [{"n": 1}, {"n": 2}]


@pytest.mark.kafka
def test_ctrl_c_ends_the_command_without_a_traceback(environ):
    produce(environ, b'{"n":1}')
    command = [sys.executable, "-m", "tamiz", "tail", "decisions", "--json", "--from-beginning"]
    with subprocess.Popen(command, env=os.environ | environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["value"] == {"n": 1}
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
