"""The embedded broker: a real Kafka that starts, keeps its records over a restart, and leaves nothing behind."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from schemas.errors import BrokerError
from schemas.settings import load
from schemas.topics import Topic
from stream_app.broker import EmbeddedBroker, broker_or_embedded, class_path, find_java, free_port
from stream_app.topic_admin import create_topics, partition_counts
from tests.conftest import Kafka
from tests.worker_process import settings_of_its_own

pytestmark = pytest.mark.kafka


def letters(name: str = "letters", partitions: int = 1) -> Topic:
    return Topic(role="letters", name=name, key="none", record="text", direction="in", partitions=partitions)


def read(bootstrap: str, n: int) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        consumer.assign([TopicPartition("letters", 0)])
        records: list[bytes] = []
        while len(records) < n:
            records += [r.value for batch in consumer.poll(timeout_ms=10_000).values() for r in batch]
        return records
    finally:
        consumer.close()


def test_it_starts_keeps_its_records_over_a_restart_and_leaves_nothing_behind() -> None:
    with EmbeddedBroker() as broker:
        folder, bootstrap = broker.log.parent, broker.bootstrap_servers
        create_topics(bootstrap, [letters()], 1)
        producer = KafkaProducer(bootstrap_servers=bootstrap)
        producer.send("letters", b"hola").get(30)
        producer.close()
        broker.restart()
        assert broker.bootstrap_servers == bootstrap
        assert read(bootstrap, 1) == [b"hola"]
    assert not folder.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(bootstrap.split(":")[1]))) != 0


def test_a_setting_kafka_refuses_is_told_with_the_end_of_its_log() -> None:
    with pytest.raises(BrokerError, match=r"num\.network\.threads"):
        EmbeddedBroker(properties={"num.network.threads": "none"})


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} is taken"):
            EmbeddedBroker(port)


def test_a_cluster_that_is_named_is_used_and_none_started() -> None:
    with broker_or_embedded(load({"TAMIZ_BOOTSTRAP_SERVERS": "kafka.example:9092"})) as bootstrap:
        assert bootstrap == "kafka.example:9092"


def test_every_jar_is_there_and_java_is_new_enough() -> None:
    assert [jar for jar in class_path() if not Path(jar).is_file()] == []
    said = subprocess.run([find_java(), "-version"], capture_output=True, text=True, check=True)
    assert "version" in said.stderr


def test_the_command_runs_until_a_signal_and_ends_what_it_started(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tamiz", "broker", "--port", str(port), "--folder", str(tmp_path / "kafka")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"Kafka is ready: export TAMIZ_BOOTSTRAP_SERVERS=127.0.0.1:{port}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert (tmp_path / "kafka" / "records").is_dir()


def test_topics_are_made_once_with_the_tables_partitions(kafka: Kafka, tmp_path: Path) -> None:
    settings = settings_of_its_own(kafka.bootstrap_servers, tmp_path, partitions=3)
    names = [settings.transactions_topic, settings.decisions_topic, settings.dead_letters_topic]
    assert partition_counts(kafka.bootstrap_servers, [*names, "not-there"]) == dict.fromkeys(names, 3)
    again = [letters(names[0], partitions=9)]
    assert create_topics(kafka.bootstrap_servers, again, 1) == []


def test_a_broker_that_does_not_answer_is_one_readable_line() -> None:
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:9.*tamiz broker"):
        create_topics("127.0.0.1:9", [letters()], 1)
