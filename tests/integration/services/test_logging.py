"""Logs of long-running programs, as text or JSON."""

import json
import logging
import logging.config
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer

from schemas.configuration.settings import Settings, load
from stream_app.lifecycle.logging_setup import JsonLines, configuration
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, read_topic, running_worker


def line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonLines().format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_a_record_is_one_json_object_with_what_came_besides_and_its_exception_in_one_line() -> None:
    logger = logging.getLogger("tamiz.test")
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logger.makeRecord(
            "tamiz.test",
            logging.ERROR,
            "f",
            1,
            "%d of %s",
            (3, "a\nb"),
            (ValueError, error, None),
            extra={"partition": 3},
        )
    logged = line(record)
    assert str(logged.pop("time")).endswith("Z")
    assert logged == {
        "level": "ERROR",
        "logger": "tamiz.test",
        "message": "3 of a\nb",
        "partition": 3,
        "exception": "ValueError: two\nlines",
    }


def test_what_json_has_no_word_for_is_shown_as_text() -> None:
    record = logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "m", (), None, extra={"what": object})
    assert line(record)["what"] == "<class 'object'>"


@pytest.mark.parametrize(("form", "is_json"), [("text", False), ("json", True)])
def test_the_setting_chooses_the_form(form: str, is_json: bool) -> None:
    chosen = configuration(load({"TAMIZ_LOG_FORMAT": form, "TAMIZ_LOG_LEVEL": "WARNING"}))
    formatter = chosen["formatters"][chosen["handlers"]["stderr"]["formatter"]]
    assert (formatter.get("()") is JsonLines) == is_json
    assert chosen["root"]["level"] == "WARNING"


@pytest.mark.kafka
def test_every_line_of_a_worker_is_json_and_at_debug_a_decision_can_be_followed_to_its_input(
    kafka: Kafka, real_registry: Settings, real_payloads: list[bytes], tmp_path: Path
) -> None:
    settings = isolated_settings(
        kafka.bootstrap_servers,
        tmp_path / "state",
        mlflow_tracking_uri=real_registry.tracking_uri,
        log_format="json",
        log_level="DEBUG",
    )
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for value in real_payloads[:50]:
        producer.send(settings.transactions_topic, value=value)
    producer.close()
    with running_worker(settings, tmp_path) as worker:
        decisions = read_topic(kafka.bootstrap_servers, settings.decisions_topic, at_least=50)
        assert worker.stop() == 0
        lines = [json.loads(text) for text in worker.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(logged) for logged in lines)
    followed = {(s["partition"], s["offset"]): s["decision_id"] for s in lines if "decision_id" in s}
    assert followed == {
        (r.partition, int(dict(r.headers)["tamiz-offset"])): msgspec.json.decode(r.value)["decision_id"]
        for r in decisions
    }


@pytest.mark.parametrize("shape", ["text", "json"])
def test_no_text_forges_a_line_of_the_log_or_acts_on_a_terminal(shape: str, capfd: pytest.CaptureFixture[str]) -> None:
    forged = "x\n2026-11-27 00:00:00,000 INFO tamiz: forged\r\x1b[2J\x85\u2028\u202e\ud800"
    logging.config.dictConfig(configuration(Settings(log_format="json" if shape == "json" else "text")))
    log = logging.getLogger("tamiz.test")
    try:
        raise ValueError(forged)
    except ValueError:
        log.exception("promoted: %s", forged, extra={"reason": forged})
    logged = capfd.readouterr().err
    lines = logged.removesuffix("\n").split("\n")
    assert "forged" in lines[0]
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if "forged" in line and line.startswith("2026-11-27 00:00")] == []
    assert sum(not line.startswith("  ") for line in lines) == 1
    if shape == "json":
        assert json.loads(lines[0])["level"] == "ERROR"
