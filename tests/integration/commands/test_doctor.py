"""The doctor: each check over a table of facts, and the whole of it on a badly configured cluster."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata
from typer.testing import CliRunner

from schemas.configuration.child_environment import as_environment
from schemas.configuration.kafka_config import Secret
from schemas.configuration.settings import Settings, load
from schemas.files.private_files import is_private_secret
from schemas.time_units import DAY_MS
from schemas.topics import topic_table, with_own_topics
from stream_app.kafka.topic_admin import create_topics
from stream_app.offsets.offset_validation import commit_metadata
from tamiz.doctor.check_result import Finding
from tamiz.doctor.examination import examine
from tamiz.doctor.facts import (
    ClusterFacts,
    Facts,
    GroupFacts,
    MachineFacts,
    Position,
    RegistryFacts,
    TopicFacts,
    Unknown,
)
from tamiz.doctor.host_facts import registry_facts
from tamiz.main import app
from tests.conftest import Kafka
from tests.helpers.bundles.small_bundle import small_bundle
from tests.unit.schemas.test_sanitizer import acts
from training.registry import mlflow_registry, version_transitions

NOW_MS = 1_800_000_000_000
ALL = frozenset({"READ", "WRITE", "DESCRIBE"})
SETTINGS = load({})
replace = msgspec.structs.replace


def healthy(settings: Settings = SETTINGS) -> Facts:
    return Facts(
        cluster=ClusterFacts(
            brokers=1,
            topics={
                t.name: TopicFacts(
                    id="i",
                    partitions=t.partitions,
                    replicas=1,
                    in_sync=1,
                    operations=ALL,
                    config={"compression.type": "producer", **t.config},
                    newest_ms=NOW_MS,
                )
                for t in topic_table(settings)
            },
            group=GroupFacts(
                positions={p: Position(committed=5, first=0, end=9, topic_id="i") for p in range(4)}, operations=ALL
            ),
            broker_config={"offsets.retention.minutes": "10080"},
            clock_ahead_s=0.1,
        ),
        registry=RegistryFacts(champion=2, inconsistency=None, dataset="card_transactions"),
        machine=MachineFacts(
            codecs=dict.fromkeys(("gzip", "snappy", "lz4", "zstd"), True),
            state_exists=True,
            state_private=True,
            pages_refused=None,
            users_private=True,
            free_bytes=1 << 40,
            outdated=(),
        ),
        now_ms=NOW_MS,
    )


def topic(name: str, **changes: Any) -> Callable[[Facts], Facts]:
    def change(facts: Facts) -> Facts:
        assert isinstance(facts.cluster, ClusterFacts)
        found = facts.cluster.topics[name]
        given = dict(changes)
        if "config" in given and isinstance(given["config"], dict):
            assert not isinstance(found.config, Unknown)
            given["config"] = {**found.config, **given["config"]}
        return cluster(topics={**facts.cluster.topics, name: replace(found, **given)})(facts)

    return change


def part(name: str, **changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, **{name: replace(getattr(facts, name), **changes)})


def cluster(**changes: Any) -> Callable[[Facts], Facts]:
    return part("cluster", **changes)


def at(committed: int, topic_id: str = "i") -> GroupFacts:
    place = Position(committed=committed, first=3, end=9, topic_id=topic_id)
    return GroupFacts(positions=dict.fromkeys(range(4), place), operations=ALL)


def bad(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(f.check, f.subject, f.status) for f in found if f.status != "ok"]


def test_a_healthy_installation_has_no_findings() -> None:
    assert bad(examine(SETTINGS, healthy())) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(topic("decisions", partitions=3), ("partitions", "decisions", "warning"), id="partitions"),
        pytest.param(topic("redrives", partitions=3), ("partitions", "redrives", "problem"), id="order of one"),
        pytest.param(
            topic("transactions", config={"max.message.bytes": "8000000"}),
            ("record size", "dead-letters", "warning"),
            id="input larger than dead letters",
        ),
        pytest.param(
            topic("dead-letters", config={"max.message.bytes": "1000"}),
            ("record size", "dead-letters", "problem"),
            id="no dead letter fits",
        ),
        pytest.param(
            topic("drift-panes", config={"max.message.bytes": "1000000"}),
            ("record size", "drift-panes", "warning"),
            id="panes",
        ),
        pytest.param(
            topic("transactions", config={"retention.ms": str(DAY_MS)}),
            ("retention", "transactions", "problem"),
            id="retention shorter than training",
        ),
        pytest.param(
            topic("decisions", config={"retention.ms": str(DAY_MS)}),
            ("retention", "decisions", "problem"),
            id="retention shorter than lookback",
        ),
        pytest.param(
            topic("feature-log", config={"retention.ms": str(100 * DAY_MS)}),
            ("retention", "feature-log", "warning"),
            id="retention shorter than a dispute",
        ),
        pytest.param(
            topic("labels", config={"retention.bytes": "1000"}), ("retention", "labels", "warning"), id="by size"
        ),
        pytest.param(
            topic("drift-panes", config={"retention.ms": str(9 * DAY_MS)}),
            ("retention", "drift-panes", "warning"),
            id="no month of panes",
        ),
        pytest.param(
            topic("transactions", config={"cleanup.policy": "compact"}),
            ("cleanup policy", "transactions", "problem"),
            id="compacted input",
        ),
        pytest.param(
            topic("redrives", config={"cleanup.policy": "delete"}),
            ("cleanup policy", "redrives", "problem"),
            id="table not compacted",
        ),
        pytest.param(topic("labels", config={"compression.type": "lz4"}), None, id="a codec that is read"),
        pytest.param(
            topic("labels", config={"min.insync.replicas": "2"}),
            ("replication", "labels", "problem"),
            id="cannot be written",
        ),
        pytest.param(
            topic("labels", replicas=3, in_sync=3), ("replication", "labels", "warning"), id="one copy would do"
        ),
        pytest.param(
            topic("labels", replicas=3, in_sync=2, config={"min.insync.replicas": "2"}),
            ("replication", "labels", "warning"),
            id="a replica trails",
        ),
        pytest.param(
            topic("labels", config={"unclean.leader.election.enable": "true"}),
            ("replication", "labels", "warning"),
            id="unclean election",
        ),
        pytest.param(
            topic("decisions", operations=frozenset({"READ"})), ("rights", "decisions", "warning"), id="no write"
        ),
        pytest.param(
            topic("decisions", operations=frozenset({"DESCRIBE"})), ("rights", "decisions", "problem"), id="no rights"
        ),
        pytest.param(
            topic("transactions", operations=frozenset({"DESCRIBE"})),
            ("rights", "transactions", "problem"),
            id="no input for worker and monitor",
        ),
        pytest.param(topic("labels", operations=None), ("rights", "labels", "not checked"), id="rights not known"),
        pytest.param(
            topic("labels", config=Unknown("refused")), ("topic configuration", "", "not checked"), id="config refused"
        ),
        pytest.param(topic("labels", newest_ms=NOW_MS + 120_000), ("timestamps", "labels", "problem"), id="future"),
        pytest.param(cluster(clock_ahead_s=-8.0), ("broker clock", "", "warning"), id="skew"),
        pytest.param(cluster(clock_ahead_s=900.0), ("broker clock", "", "problem"), id="much skew"),
        pytest.param(cluster(clock_ahead_s=Unknown("x")), ("broker clock", "", "not checked"), id="no clock"),
        pytest.param(cluster(group=at(10)), ("committed offsets", "", "problem"), id="beyond the end"),
        pytest.param(cluster(group=at(2)), ("committed offsets", "", "problem"), id="expired"),
        pytest.param(cluster(group=at(5, "other")), ("committed offsets", "", "problem"), id="topic recreated"),
        pytest.param(cluster(group=Unknown("refused")), ("committed offsets", "", "not checked"), id="group refused"),
        pytest.param(
            cluster(broker_config={"offsets.retention.minutes": "60"}),
            ("retention of committed offsets", "", "problem"),
            id="offsets are forgotten",
        ),
        pytest.param(
            cluster(brokers=3, broker_config={"offsets.topic.replication.factor": "1"}),
            ("offsets.topic.replication.factor", "", "warning"),
            id="one copy of offsets",
        ),
        pytest.param(
            lambda facts: replace(facts, cluster=Unknown("no Kafka broker responds")),
            ("cluster", "", "problem"),
            id="no cluster",
        ),
        pytest.param(
            lambda facts: replace(facts, registry=Unknown("away")), ("registry", "", "problem"), id="no registry"
        ),
        pytest.param(part("registry", champion=None), ("champion", "", "problem"), id="no champion"),
        pytest.param(part("registry", inconsistency="odd"), ("promotion", "", "problem"), id="not by a promotion"),
        pytest.param(part("registry", dataset=Unknown("no")), ("champion", "", "problem"), id="cannot be served"),
        pytest.param(
            part("machine", state_private=False), ("permissions of the state folder", "", "warning"), id="readable"
        ),
        pytest.param(
            part("machine", free_bytes=1000), ("disk space of the state folder", "", "problem"), id="disk full"
        ),
        pytest.param(part("machine", pages_refused="no users"), ("pages", "", "problem"), id="pages open"),
        pytest.param(part("machine", outdated=("faust is 1",)), ("libraries", "", "problem"), id="libraries"),
        pytest.param(
            part("machine", codecs={"lz4": False, "gzip": True}), ("compression", "decisions", "warning"), id="codec"
        ),
    ],
)
def test_each_risk_is_named_with_its_remedy(
    change: Callable[[Facts], Facts], expected: tuple[str, str, str] | None
) -> None:
    found = examine(SETTINGS, change(healthy()))
    assert (expected is None and bad(found) == []) or expected in bad(found)
    assert [f for f in found if f.status in ("warning", "problem") and not f.remedy] == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bootstrap_servers": "kafka.example:9092"}, ("Kafka's connection", "problem")),
        ({"bootstrap_servers": "127.0.0.1:9092,[::1]:9092"}, None),
        ({"mlflow_tracking_uri": "http://mlflow.example:5000"}, ("the registry's connection", "warning")),
        ({"webhook_url": Secret("http://hook.example/x")}, ("webhook_url", "problem")),
        ({"opsgenie_url": "http://opsgenie.example"}, ("opsgenie_url", "problem")),
        ({"smtp_host": "mail.example", "smtp_security": "none"}, ("smtp_security", "problem")),
        ({"processing_guarantee": "exactly-once"}, ("rights on transactional ids", "not checked")),
    ],
)
def test_each_exposure_is_named(changes: dict[str, Any], expected: tuple[str, str] | None) -> None:
    found = bad(examine(replace(SETTINGS, **changes), healthy()))
    assert [(check, status) for check, _, status in found] == ([expected] if expected else [])


def test_a_check_that_fails_does_not_stop_the_others() -> None:
    odd = topic("labels", config={"retention.ms": "soon", "max.message.bytes": "much"})(healthy())
    found = examine(SETTINGS, topic("redrives", partitions=3)(odd))
    failed = [f for f in found if f.seen.startswith("the check failed")]
    assert {f.check for f in failed} == {"record sizes", "retention"}
    assert ("partitions", "redrives", "problem") in bad(found)


@pytest.mark.kafka
def test_a_badly_configured_cluster_is_reported_line_by_line(kafka: Kafka, real_registry: Settings) -> None:
    mark = uuid4().hex[:8]
    own = with_own_topics(real_registry, f"{mark}-")
    settings = replace(own, bootstrap_servers=kafka.bootstrap_servers, consumer_group=f"doctor-{mark}", partitions=2)
    worse: dict[str, Any] = {
        "transactions": {
            "retention.ms": str(DAY_MS),
            "max.message.bytes": "8000000",
            "message.timestamp.after.max.ms": str(DAY_MS),
        },
        "decisions": {"cleanup.policy": "compact"},
        "dead-letters": {"max.message.bytes": "1000"},
        "labels": {"min.insync.replicas": "3"},
    }
    topics = [t for t in topic_table(settings) if t.role != "model-events"]
    create_topics(settings.bootstrap, [t for t in topics if t.role not in worse and t.role != "redrives"], 1)
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap)
    for t in topics:
        if t.role in worse or t.role == "redrives":
            config = {**t.config, **worse.get(t.role, {})}
            admin.create_topics([NewTopic(t.name, 3 if t.role == "redrives" else 2, 1, topic_configs=config)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    ahead_ms = int(time.time() * 1000) + 1_800_000
    producer.send(settings.transactions_topic, b"{}", partition=0, timestamp_ms=ahead_ms).get(30)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=settings.consumer_group)
    for partition, offset, noted in ((0, 50, ""), (1, 0, commit_metadata("hT2xNq8vR1iQz5aYb0cDeg"))):
        place = TopicPartition(settings.transactions_topic, partition)
        consumer.commit({place: OffsetAndMetadata(offset, noted, -1)})
    consumer.close(autocommit=False)

    command = [sys.executable, "-m", "tamiz", "doctor", "--json"]
    result = subprocess.run(command, env=as_environment(settings), capture_output=True, text=True, timeout=60)
    assert result.returncode == 1, result.stderr
    found = {(f["check"], f["subject"].removeprefix(f"{mark}-"), f["status"]) for f in json.loads(result.stdout)}
    assert {
        ("topics", "", "problem"),
        ("partitions", "redrives", "problem"),
        ("record size", "dead-letters", "problem"),
        ("retention", "transactions", "problem"),
        ("cleanup policy", "decisions", "problem"),
        ("replication", "labels", "problem"),
        ("timestamps", "transactions", "problem"),
        ("committed offsets", "", "problem"),
        ("broker clock", "", "ok"),
        ("champion", "", "ok"),
        ("rights", "decisions", "ok"),
        ("libraries", "", "ok"),
    } <= found
    assert "partitions 1: the topic was recreated since" in result.stdout


def test_an_unreachable_service_is_a_finding_and_the_rest_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMIZ_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("TAMIZ_MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("TAMIZ_STATE_DIR", str(tmp_path))
    tmp_path.chmod(0o755)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("COLUMNS", "300")  # no cell is wrapped
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1, result.output
    assert acts(result.stdout) == []
    for seen in ("no Kafka broker", "registry", "chmod 700", "2 problem"):
        assert seen in " ".join(result.stdout.split()), result.stdout


def test_the_registry_is_checked_read_only_and_a_replaced_champion_is_named(tmp_path: Path) -> None:
    empty = load({"TAMIZ_STATE_DIR": str(tmp_path / "empty")})
    facts = registry_facts(empty)
    assert isinstance(facts, RegistryFacts)
    assert (facts.champion, (tmp_path / "empty").exists()) == (None, False)

    settings = load({"TAMIZ_STATE_DIR": str(tmp_path / "state"), "TAMIZ_MODEL_NAME": "o'brien"})
    small_bundle(tmp_path / "bundle")
    (tmp_path / "evaluation").mkdir()
    mlflow_registry.register(
        settings,
        tmp_path / "bundle",
        report=tmp_path / "evaluation",
        metrics={},
        params={},
        tags={"gate_status": "skill"},
    )
    version_transitions.promote(settings, 1, "the first")
    assert [v.status for v in version_transitions.versions(settings)] == ["champion"]
    (kept,) = (settings.state_dir / "artifacts").rglob("bundle/manifest.json")
    kept.write_bytes(kept.read_bytes() + b" ")
    facts = registry_facts(settings)
    assert isinstance(facts, RegistryFacts)
    assert isinstance(facts.dataset, Unknown)
    assert "the history of promotions has" in facts.dataset.reason


def test_a_password_over_plain_http_is_a_problem() -> None:
    address = {"TAMIZ_MLFLOW_TRACKING_URI": "http://ana:secret@registry.example:5000"}
    found = bad(examine(load(address), healthy()))
    assert ("the registry's connection", "", "problem") in found


def test_a_secret_readable_by_our_group_only_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "users"
    secret.touch()
    owner = secret.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)  # as in a pod, where root owns it
    for mode, private in ((0o400, True), (0o440, True), (0o444, False), (0o460, False)):
        secret.chmod(mode)
        assert is_private_secret(secret) is private
    monkeypatch.setattr("os.geteuid", lambda: owner)
    secret.chmod(0o440)
    assert not is_private_secret(secret)
