"""Offsets that do not fit their log are detected at assignment and while reading, and never reset silently."""

import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from schemas.configuration.settings import Settings
from schemas.records import Decision, PaneSnapshot
from schemas.topics import worker_outputs
from stream_app.kafka.topic_admin import admin, topic_ids
from stream_app.kafka.topic_reader import read_to_end
from stream_app.offsets.offset_validation import commit_metadata
from tests.conftest import Kafka
from tests.helpers.services.worker_process import (
    WorkerProcess,
    add_partitions,
    isolated_settings,
    read_topic,
    recreate_topic,
    running_worker,
    wait_for,
)
from tests.helpers.traffic.invalid_payloads import payload

pytestmark = pytest.mark.kafka
HEALTHY, TRUNCATED, RETAINED, EXPIRED = range(4)


@pytest.fixture
def settings(kafka: Kafka, real_registry: Settings) -> Settings:
    # At least once: chaos/scenarios.py.
    return isolated_settings(
        kafka.bootstrap_servers, real_registry.state_dir, partitions=4, processing_guarantee="exactly-once"
    )


def produce(settings: Settings, partition: int, n: int) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    for _ in range(n):
        producer.send(settings.transactions_topic, value=payload(), partition=partition)
    producer.flush()
    producer.close()


def commit(settings: Settings, offsets: Mapping[int, int], text: str) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=settings.bootstrap, group_id=settings.consumer_group, enable_auto_commit=False
    )
    places = {TopicPartition(settings.transactions_topic, p): offset for p, offset in offsets.items()}
    consumer.assign(list(places))
    consumer.commit({tp: OffsetAndMetadata(offset, text, -1) for tp, offset in places.items()})
    consumer.close()


def delete_before(settings: Settings, partition: int, offset: int) -> None:
    with admin(settings.bootstrap) as client:
        client.delete_records({TopicPartition(settings.transactions_topic, partition): offset})


class DecidedRecord(dict[int, list[int]]):
    """By partition, the offsets that were decided, in the order of the answers; its length is that of all of them."""

    def __len__(self) -> int:
        return sum(map(len, self.values()))


def decided(settings: Settings) -> DecidedRecord:
    found = DecidedRecord()
    for record in (r for records in read_to_end(settings.bootstrap, settings.decisions_topic) for r in records):
        found.setdefault(record.partition, []).append(int(dict(record.headers)["tamiz-offset"]))
    return found


def counted(worker: WorkerProcess, name: str) -> dict[str, float]:
    found = re.findall(rf'^tamiz_{name}_total\{{fault="([a-z-]+)"\}} ([0-9.]+)$', worker.get("/metrics")[1], re.M)
    return {fault: float(value) for fault, value in found if float(value)}


def lines(worker: WorkerProcess, settings: Settings, partition: int) -> list[str]:
    """Log lines about the offset of a partition."""
    place = f"ERROR tamiz.positions: {settings.transactions_topic}-{partition}:"
    return [line.split(" ERROR ")[1] for line in worker.log.read_text().splitlines() if place in line]


def held(worker: WorkerProcess) -> float:
    return float(re.findall(r"^tamiz_partitions_paused ([0-9.]+)$", worker.get("/metrics")[1], re.M)[0])


def decisions(settings: Settings) -> list[Any]:
    return [
        msgspec.json.decode(r.value, type=Decision) for r in read_topic(settings.bootstrap, settings.decisions_topic)
    ]


#  partition      log          committed   what becomes of it by default
#  0 HEALTHY      [0, 20)      10          decided from 10 on
#  1 TRUNCATED    [0, 20)      70          held
#  2 RETAINED     [15, 20)     5           held
#  3 EXPIRED      [0, 20)      nothing     a new group: from the beginning. Later its offset is deleted: from 20 on
def test_an_offset_that_does_not_fit_its_log_pauses_only_its_partition(settings: Settings, tmp_path: Path) -> None:
    topic_id = topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic]
    for partition in range(4):
        produce(settings, partition, 20)
    delete_before(settings, RETAINED, 15)
    commit(settings, {HEALTHY: 10, TRUNCATED: 70, RETAINED: 5}, commit_metadata(topic_id))

    with running_worker(settings, tmp_path, until_ready=False) as worker:
        wait_for(lambda: len(decided(settings)) == 30, 60, lambda: f"{decided(settings)}\n{worker.tail()}")
        produce(settings, HEALTHY, 2)
        wait_for(lambda: len(decided(settings)) == 32, 60, lambda: f"{decided(settings)}\n{worker.tail()}")
        assert decided(settings) == {HEALTHY: [*range(10, 22)], EXPIRED: [*range(20)]}
        readiness = worker.readiness()
        logged = [lines(worker, settings, partition) for partition in (TRUNCATED, RETAINED)]
        assert not readiness["ready"]
        assert [len(found) for found in logged] == [1, 1]
        assert [line[0].split(": ", 1)[1] for line in logged] == readiness["waiting_for"]
        assert "70 is beyond the log's end 20" in logged[0][0]
        assert "retention deleted 10 records from 5 to 14" in logged[1][0]
        assert all("offset_reset" in line[0] for line in logged)
        assert (held(worker), counted(worker, "offset_faults")) == (2, {"beyond-end": 1, "retention": 1})
        assert counted(worker, "transactions_skipped") == {}
        assert worker.stop(signal.SIGTERM) == 0

    going_on = msgspec.structs.replace(settings, offset_reset="skip-and-count")
    with running_worker(going_on, tmp_path) as worker:
        produce(settings, TRUNCATED, 5)
        wait_for(lambda: len(decided(settings)) == 42, 60, lambda: f"{decided(settings)}\n{worker.tail()}")
        found = decided(settings)
        assert (found[TRUNCATED], found[RETAINED]) == ([*range(20, 25)], [*range(15, 20)])
        assert counted(worker, "transactions_skipped") == {"beyond-end": 20, "retention": 10}
        worker.process.send_signal(signal.SIGSTOP)  # so that retention deletes before it is read
        produce(settings, RETAINED, 1)  # answers the fetch that is under way, if one is
        produce(settings, RETAINED, 29)
        delete_before(settings, RETAINED, 40)
        worker.process.send_signal(signal.SIGCONT)
        wait_for(lambda: 49 in decided(settings)[RETAINED], 60, lambda: f"{decided(settings)}\n{worker.tail()}")
        answers = decided(settings)[RETAINED]
        fetched = [offset for offset in answers if offset < 40]
        assert answers == [*range(15, 15 + len(fetched)), *range(40, 50)]
        skipped = 40 - (15 + len(fetched))
        assert skipped > 0
        assert counted(worker, "transactions_skipped") == {"beyond-end": 20, "retention": 10 + skipped}
        assert worker.stop(signal.SIGTERM) == 0
        answered = len(decided(settings))

    with admin(settings.bootstrap) as client:
        client.delete_group_offsets(settings.consumer_group, [TopicPartition(settings.transactions_topic, EXPIRED)])
    produce(settings, EXPIRED, 3)
    with running_worker(settings, tmp_path) as worker:
        wait_for(lambda: len(decided(settings)) == answered + 3, 60, lambda: f"{decided(settings)}\n{worker.tail()}")
        assert decided(settings)[EXPIRED] == [*range(23)]
        assert counted(worker, "offset_faults") == {"expired": 1}
        assert "resuming at 20" in lines(worker, settings, EXPIRED)[0]


def test_a_topic_recreated_under_a_worker_is_decided_from_its_beginning_with_new_ids(
    settings: Settings, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(settings, offset_reset="from-beginning")
    with running_worker(settings, tmp_path) as worker:
        produce(settings, HEALTHY, 20)
        wait_for(lambda: len(decided(settings)) == 20, 60, lambda: f"{decided(settings)}\n{worker.tail()}")
        recreate_topic(settings, settings.transactions_topic)
        produce(settings, HEALTHY, 30)
        wait_for(lambda: len(decisions(settings)) == 50, 60, lambda: f"{decided(settings)}\n{worker.tail()}")
        wait_for(lambda: worker.readiness()["ready"], 30, worker.tail)
        assert counted(worker, "offset_faults")["topic-recreated"] >= 1
        assert worker.stop(signal.SIGTERM) == 0
    found = decisions(settings)
    assert len({d.decision_id for d in found}) == len(found) == 50
    panes = [
        msgspec.json.decode(r.value, type=PaneSnapshot)
        for r in read_topic(settings.bootstrap, settings.drift_panes_topic)
    ]
    topic_id = topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic]
    assert [sum(pane.rows for pane in p.panes) for p in panes if p.topic_id == topic_id][-1] == 30


#  partitions of    transactions   outputs of the worker
#  at first         4              4
#  then             5              4                         4 is held, the others are decided
#  then             5              5                         4 is decided
def test_partitions_that_are_added_are_read_once_the_outputs_have_them(settings: Settings, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(settings, processing_guarantee="at-least-once")
    outputs = (*worker_outputs(settings, ()), settings.rule_activations_topic)
    with running_worker(settings, tmp_path) as worker:
        add_partitions(settings, 5, settings.transactions_topic)
        produce(settings, HEALTHY, 2)
        produce(settings, 4, 3)
        held_line = "give it at least 5 partitions"  # until the partition is checked, readiness names other problems
        wait_for(
            lambda: [held_line in line for line in worker.readiness()["waiting_for"]] == [True],
            60,
            lambda: f"{worker.readiness()}\n{worker.tail()}",
        )
        (line,) = worker.readiness()["waiting_for"]
        assert all(topic in line for topic in outputs)
        wait_for(lambda: len(decided(settings)) == 2, 60, lambda: f"{decided(settings)}\n{worker.tail()}")
        assert decided(settings) == {HEALTHY: [0, 1]}
        add_partitions(settings, 5, *outputs)
        wait_for(
            lambda: decided(settings) == {HEALTHY: [0, 1], 4: [0, 1, 2]},
            60,
            lambda: f"{decided(settings)} {worker.readiness()}\n{worker.tail()}",
        )
        wait_for(lambda: worker.readiness()["ready"], 30, worker.tail)
