"""Runs workers and other commands as processes, as in production; reads and prepares their topics."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import NewPartitions

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings, load
from schemas.topics import topic_table, with_own_topics
from stream_app.kafka.topic_admin import admin, create_topics, topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, read_to_end
from tamiz.dev_broker.embedded_broker import free_port


@dataclass
class WorkerProcess:
    """A running `tamiz worker`."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, page: str) -> tuple[int, str]:
        """Status and body of one of its pages."""
        try:
            with urllib.request.urlopen(self.url + page, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def readiness(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.get("/readyz")[1]))
        except OSError:
            return {"ready": False}

    def wait_until_ready(self, seconds: float = 120.0) -> None:
        wait_for(lambda: self.readiness()["ready"] or self.process.poll() is not None, seconds, self.tail)
        assert self.process.poll() is None, self.tail()

    def stop(self, signal_number: int = signal.SIGTERM, seconds: float = 120.0) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(seconds)

    def tail(self) -> str:
        return self.log.read_text()[-6000:]


@contextlib.contextmanager
def running_command(command: str, settings: Settings, folder: Path) -> Iterator[Path]:
    """Run `tamiz COMMAND` in a process next to the worker; yields its log. The process must end without an error."""
    log = folder / f"{command}-{uuid4().hex[:8]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tamiz", command],
            env=child_environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        yield log
        process.terminate()
        assert process.wait(120) == 0, log.read_text()[-6000:]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def running_worker(
    settings: Settings, folder: Path, extra: Mapping[str, str] | None = None, *, until_ready: bool = True
) -> Iterator[WorkerProcess]:
    """Run a worker until the context ends. Waits until it is ready, by default."""
    port = free_port()
    settings = msgspec.structs.replace(settings, web_port=port)
    log = folder / f"worker-{uuid4().hex[:8]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tamiz", "worker"],
            env=child_environment(settings) | dict(extra or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    worker = WorkerProcess(process, f"http://127.0.0.1:{port}", log)
    try:
        if until_ready:
            worker.wait_until_ready()
        yield worker
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def isolated_settings(bootstrap: str, state_dir: Path, *, partitions: int = 2, **changes: Any) -> Settings:
    """Settings with unique names of topics and consumer group; the topics are created."""
    mark = uuid4().hex[:8]
    settings = msgspec.structs.replace(
        with_own_topics(load({}), f"{mark}-"),
        bootstrap_servers=bootstrap,
        state_dir=state_dir,
        consumer_group=f"tamiz-{mark}",
        partitions=partitions,
        monitor_port=0,
        **changes,
    )
    create_topics(bootstrap, topic_table(settings), settings.replication_factor)
    return settings


def add_partitions(settings: Settings, n: int, *topics: str) -> None:
    """Give topics n partitions each, and wait until the broker names them: the controller answers a moment earlier."""
    with admin(settings.bootstrap) as client:
        client.create_partitions(dict.fromkeys(topics, NewPartitions(n)))
        wait_for(lambda: all(len(t["partitions"]) == n for t in client.describe_topics(list(topics))), 30)


def recreate_topic(settings: Settings, topic: str) -> None:
    """Delete and recreate a topic: it gets a new topic id, and offsets start at zero."""
    before = topic_ids(settings.bootstrap, [topic])
    with admin(settings.bootstrap) as client:
        client.delete_topics([topic])
    wait_for(lambda: not topic_ids(settings.bootstrap, [topic]), 30)
    wait_for(
        lambda: create_topics(settings.bootstrap, [t for t in topic_table(settings) if t.name == topic], 1) == [topic],
        30,
    )
    assert topic_ids(settings.bootstrap, [topic]) != before


def read_topic(bootstrap: str, topic: str, *, at_least: int = 0, seconds: float = 120.0) -> list[Any]:
    """All records of a topic by partition and offset; waits until there are at least `at_least`."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        records: list[Any] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=500).values():
                records.extend(batch)
            ends = consumer.end_offsets(partitions)
            if len(records) >= at_least and all(consumer.position(p) >= ends[p] for p in partitions):
                break
        assert len(records) >= at_least, f"{topic}: {len(records)} of {at_least} records within {seconds} s"
        return sorted(records, key=lambda r: (r.partition, r.offset))
    finally:
        consumer.close()


def committed_records(bootstrap: str, topic: str) -> list[ConsumedRecord]:
    """Every committed record of a topic on which no transaction is open.

    A commit is confirmed before its markers are written. Until they are, its records are not among the committed ones.
    """
    consumers = [
        KafkaConsumer(bootstrap_servers=bootstrap, isolation_level=level, enable_auto_commit=False)
        for level in ("read_committed", "read_uncommitted")
    ]
    try:
        partitions = [TopicPartition(topic, p) for p in consumers[0].partitions_for_topic(topic) or ()]
        wait_for(lambda: consumers[0].end_offsets(partitions) == consumers[1].end_offsets(partitions), 60)
    finally:
        for consumer in consumers:
            consumer.close()
    return [record for records in read_to_end(bootstrap, topic) for record in records]


def wait_for(condition: Any, seconds: float, explain: Any = str) -> None:
    """Poll a condition until it is true; fail with an explanation after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {explain()}"
        time.sleep(0.1)
