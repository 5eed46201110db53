"""Topics on a real cluster: created once with the configuration of the table, and listed."""

import json
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings, load
from schemas.errors import BrokerError
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.topics import Topic, topic_table
from stream_app.kafka.replay import connected
from stream_app.kafka.topic_admin import admin, create_topics, partition_counts
from stream_app.kafka.topic_reader import first_timestamp_ms, read_to_end
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, tmp_path, partitions=3)


def tamiz(settings: Settings, *arguments: str) -> str:
    command = [sys.executable, "-m", "tamiz", *arguments]
    environ = child_environment(settings) | {"COLUMNS": "300"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout


def test_topics_are_created_with_the_tables_partitions_and_visible_at_once(settings: Settings) -> None:
    wanted = {topic.name: topic.partitions for topic in topic_table(settings)}
    assert partition_counts(settings.bootstrap, [*wanted, "not-there"]) == wanted


def test_topics_retain_what_training_reads() -> None:
    settings = load({"TAMIZ_RETRAIN_LOOKBACK_DAYS": "120"})
    kept = {t.role: int(t.config["retention.ms"]) for t in topic_table(settings) if "retention.ms" in t.config}
    assert min(kept["transactions"], kept["labels"]) >= settings.retrain_lookback_days * DAY_MS


def test_decisions_and_logged_values_are_kept_for_a_dispute_and_no_shorter_than_training_reads() -> None:
    def kept_days(**environ: str) -> dict[str, int]:
        table = topic_table(load(environ))
        return {t.role: int(t.config["retention.ms"]) // DAY_MS for t in table if "retention.ms" in t.config}

    assert (kept_days()["decisions"], kept_days()["feature-log"]) == (400, 400)
    shorter = kept_days(TAMIZ_DECISION_RETENTION_DAYS="14", TAMIZ_RETRAIN_LOOKBACK_DAYS="60")
    assert (shorter["decisions"], shorter["feature-log"]) == (14, 60)


def test_a_topic_is_read_from_a_time_on(settings: Settings) -> None:
    topic, hour_ms = settings.decisions_topic, int(time.time()) * 1000 - HOUR_MS
    assert first_timestamp_ms(settings.bootstrap, topic) is None
    with connected(settings.bootstrap) as producer:
        for partition, minute in ((0, 5), (0, 6), (0, 7), (1, 6), (2, 2)):
            sent_ms = hour_ms + minute * MINUTE_MS
            producer.send(topic, value=b"%d" % minute, partition=partition, timestamp_ms=sent_ms)
    assert first_timestamp_ms(settings.bootstrap, topic) == hour_ms + 2 * MINUTE_MS
    since_ms = hour_ms + 6 * MINUTE_MS
    found = [r for records in read_to_end(settings.bootstrap, topic, since_ms=since_ms) for r in records]
    assert sorted((r.partition, r.value) for r in found) == [(0, b"6"), (0, b"7"), (1, b"6")]


@pytest.mark.parametrize(("replicas", "in_step"), [("1", None), ("3", "2")])
def test_with_replicas_two_of_them_must_acknowledge(replicas: str, in_step: str | None) -> None:
    topics = topic_table(load({"TAMIZ_REPLICATION_FACTOR": replicas}))
    assert {t.config.get("min.insync.replicas") for t in topics} == {in_step}


def test_topics_are_created_with_the_tables_configuration(settings: Settings) -> None:
    topics = topic_table(settings)
    with admin(settings.bootstrap) as client:
        described = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, t.name) for t in topics])
    set_there = {
        name: {
            key: found["value"] for key, found in configs.items() if found["config_source"] == "DYNAMIC_TOPIC_CONFIG"
        }
        for name, configs in described["topic"].items()
    }
    assert set_there == {t.name: t.config for t in topics}


def test_an_existing_topic_is_not_changed(settings: Settings) -> None:
    again = msgspec.structs.replace(settings, partitions=9)
    assert create_topics(again.bootstrap, topic_table(again), 1) == []
    assert partition_counts(again.bootstrap, [again.transactions_topic]) == {again.transactions_topic: 3}


def test_more_replicas_than_the_cluster_has_brokers_are_refused_with_the_topics_name(kafka: Kafka) -> None:
    topic = Topic(role="r", name="too-many-replicas", key="none", record="text", direction="in", partitions=1)
    with pytest.raises(BrokerError, match="too-many-replicas"):
        create_topics(kafka.bootstrap_servers, [topic], 99)


def test_the_command_lists_created_and_unchanged_topics(settings: Settings) -> None:
    more = settings.transactions_topic + "-more"
    changed = msgspec.structs.replace(settings, partitions=4, existing_transactions_topic=more)
    printed = tamiz(changed, "topics", "create").splitlines()
    assert f"{changed.transactions_topic}: created" in printed
    assert f"{changed.decisions_topic}: exists, unchanged; partitions: 3, by the settings: 4" in printed
    assert f"{changed.redrives_topic}: exists" in printed


def test_the_list_is_for_machines_too(settings: Settings) -> None:
    listed = json.loads(tamiz(settings, "topics", "list", "--json"))
    assert [(row["role"], row["topic"], row["partitions"]) for row in listed] == [
        (topic.role, topic.name, topic.partitions) for topic in topic_table(settings)
    ]


def test_the_list_names_missing_topics_and_the_retention_of_each(settings: Settings) -> None:
    missing = msgspec.structs.replace(settings, existing_labels_topic=settings.labels_topic + "-not-there")
    lines = {line.split()[1]: line for line in tamiz(missing, "topics", "list").splitlines() if line.startswith("│")}
    assert "missing" in lines["labels"]
    assert f"{settings.retrain_lookback_days} days" in lines["transactions"]
    assert "compacted: last record per key" in lines["redrives"]
