"""Prepared requests: a broker stores what they hold, and an error of the broker ends the sender."""

import struct
import time
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, TopicPartition

from benchmarks.contest.environment import await_leaders
from benchmarks.load.produce_requests import ProduceConnection, ProduceRequest, record_batch
from schemas.topics import Topic
from stream_app.kafka.topic_admin import create_topics
from tests.conftest import Kafka


@pytest.mark.kafka
def test_a_broker_stores_the_records_as_often_as_they_are_sent(kafka: Kafka) -> None:
    topic, bootstrap = f"prepared-{uuid4().hex}", kafka.bootstrap_servers
    made = Topic(role="transactions", name=topic, key="", record="", direction="in", partitions=2)
    create_topics(bootstrap, [made], 1)
    await_leaders(bootstrap, topic, 2)
    request = ProduceRequest(
        topic, [(0, record_batch([(b"a", b"1"), (None, b"2")])), (1, record_batch([(b"b", b"3")]))]
    )
    connection = ProduceConnection(bootstrap)
    before = int(1e3 * time.time())
    for number in (5, 6, 7):
        connection.send(request.stamped(), number)
    connection.finish()
    answers = connection.answers.tolist()
    rows = sorted(zip(answers[::3], answers[1::3], answers[2::3], strict=True))
    assert rows == [(5, 0, 0), (5, 1, 0), (6, 0, 2), (6, 1, 1), (7, 0, 4), (7, 1, 2)]
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, consumer_timeout_ms=2_000, enable_auto_commit=False)
    consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    consumer.seek_to_beginning()
    records = [next(consumer) for _ in range(9)]
    consumer.close()
    values = [[(r.key, r.value) for r in records if r.partition == partition] for partition in (0, 1)]
    assert values == [3 * [(b"a", b"1"), (None, b"2")], 3 * [(b"b", b"3")]]
    assert all(before <= record.timestamp <= before + 60_000 for record in records)


@pytest.mark.kafka
def test_an_error_of_the_broker_ends_the_sender(kafka: Kafka) -> None:
    connection = ProduceConnection(kafka.bootstrap_servers)
    frame = ProduceRequest("no-such-topic", [(0, record_batch([(None, b"1")]))]).stamped()

    def send() -> None:
        connection.send(frame)
        connection.finish()

    with pytest.raises(ConnectionError, match="partition 0: Kafka's error code 3"):
        send()
    connection.close()


def test_a_stamp_changes_only_times_and_checksum() -> None:
    batch = record_batch([(b"key", b"value")])
    frame = bytes(ProduceRequest("t", [(3, batch)]).stamped())
    sent = frame[-len(batch) :]
    (first,) = struct.unpack_from(">q", sent, 27)
    assert abs(first - 1e3 * time.time()) < 60_000
    assert (sent[:17], sent[21:27], sent[43:]) == (batch[:17], batch[21:27], batch[43:])
    assert struct.unpack_from(">i", frame)[0] == len(frame) - 4
