"""The embedded broker: a real Kafka that starts, keeps its records over a restart, and leaves no process behind."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from platformdirs import user_cache_path

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import load
from schemas.errors import BrokerError
from schemas.topics import Topic
from stream_app.kafka.topic_admin import create_topics
from tamiz.dev_broker.embedded_broker import EmbeddedBroker, broker_or_embedded, free_port
from tamiz.dev_broker.kafka_download import PINNED, bundled_java, class_path, find_java
from tests.helpers.services.worker_process import wait_for

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


def is_listening(bootstrap: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(bootstrap.split(":")[1]))) == 0


def json_list(path: Path) -> list[str]:
    listed: list[str] = json.loads(path.read_text())
    return listed


def test_the_broker_keeps_records_over_a_restart_and_removes_its_folder() -> None:
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
    assert not is_listening(bootstrap)


def test_a_setting_that_kafka_refuses_is_reported_with_the_end_of_the_log() -> None:
    with pytest.raises(BrokerError, match=r"num\.network\.threads"):
        EmbeddedBroker(properties={"num.network.threads": "none"})


def test_an_occupied_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} is taken"):
            EmbeddedBroker(port)


def test_a_configured_cluster_is_used_instead_of_a_broker() -> None:
    with broker_or_embedded(load({"TAMIZ_BOOTSTRAP_SERVERS": "kafka.example:9092"})) as bootstrap:
        assert bootstrap == "kafka.example:9092"


def test_every_jar_exists_and_java_is_new_enough() -> None:
    assert [jar for jar in class_path() if not Path(jar).is_file()] == []
    result = subprocess.run([find_java(), "-version"], capture_output=True, text=True, check=True)
    assert "version" in result.stderr


def test_downloaded_jars_are_reused_from_the_cache(tmp_path: Path) -> None:
    known = class_path()
    name = next(path.name for path in user_cache_path("tamiz").glob("kafka-*.json") if json_list(path) == known)
    original = next(Path(jar) for jar in known if "slf4j-api" in jar)
    jar = tmp_path / original.name
    jar.write_bytes(original.read_bytes())
    (tmp_path / name).write_text(json.dumps([str(jar)]))
    assert class_path(tmp_path) == [str(jar)]


@pytest.mark.parametrize("changed", ["slf4j-api-1.7.36.jar", "added-1.0.jar"])
def test_a_jar_with_another_hash_is_not_run(changed: str, tmp_path: Path) -> None:
    known = class_path()
    name = next(path.name for path in user_cache_path("tamiz").glob("kafka-*.json") if json_list(path) == known)
    jar = tmp_path / changed
    jar.write_bytes(next(Path(jar) for jar in known if "slf4j-api" in jar).read_bytes() + b"x")
    (tmp_path / name).write_text(json.dumps([*known, str(jar)]))
    with pytest.raises(BrokerError, match=rf"{changed} has the SHA-256 .* it is not run; remove {tmp_path}"):
        class_path(tmp_path)


def test_exactly_the_jars_that_run_are_pinned() -> None:
    pinned = [line.split("  ")[1] for line in PINNED.read_text(encoding="ascii").splitlines()]
    assert sorted(pinned) == sorted(Path(jar).name for jar in class_path())


def test_kafka_runs_on_the_bundled_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A relative folder with characters that Kafka's settings file cannot contain.
    monkeypatch.chdir(tmp_path)
    with EmbeddedBroker(folder=Path("año, nuevo"), java=bundled_java()) as broker:
        create_topics(broker.bootstrap_servers, [letters()], 1)
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        producer.send("letters", b"hola").get(30)
        producer.close()
        assert read(broker.bootstrap_servers, 1) == [b"hola"]
    assert (tmp_path / "año, nuevo" / "records" / "letters-0").is_dir()


ABANDONS_IT = """
import time
from tamiz.dev_broker.embedded_broker import EmbeddedBroker
broker = EmbeddedBroker()
print(broker.log.parent, broker.bootstrap_servers, flush=True)
time.sleep(600)
"""


def test_a_killed_program_leaves_neither_broker_nor_folder() -> None:
    with subprocess.Popen([sys.executable, "-c", ABANDONS_IT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder, bootstrap = process.stdout.readline().split()
        assert is_listening(bootstrap)
        process.kill()
    wait_for(lambda: not is_listening(bootstrap) and not Path(folder).exists(), 30)
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if folder in (p.info["cmdline"] or [])] == []


def test_the_command_runs_until_a_signal_and_stops_its_broker(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tamiz", "broker", "--port", str(port), "--data-dir", str(tmp_path / "kafka")]
    bare = child_environment(load({}))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=bare, umask=0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"Kafka is ready: export TAMIZ_BOOTSTRAP_SERVERS=127.0.0.1:{port}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not is_listening(f"127.0.0.1:{port}")
    assert (tmp_path / "kafka" / "records").is_dir()
    assert [p for p in (tmp_path / "kafka").rglob("*") if p.stat().st_mode & 0o077] == [], "others may read it"
