"""`tamiz archive` on a real broker: whole days, in a folder and on S3, also after a kill."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from moto.server import ThreadedMotoServer
from pyarrow import parquet
from typer.testing import CliRunner

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.errors import ConfigError
from schemas.records import Decision, FeatureRecord
from schemas.rules import RuleActivation
from schemas.time_units import DAY_MS, HOUR_MS, MINUTE_MS
from stream_app.kafka.topic_admin import admin
from tamiz.archive.archive_search import ArchiveSearch
from tamiz.archive.archive_store import ArchiveError
from tamiz.archive.archiver import ArchiveResult, archive
from tamiz.archive.manifest import ArchiveManifest, start_ms
from tamiz.main import app
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, read_topic, recreate_topic, wait_for

pytestmark = pytest.mark.kafka
FIRST_DAY = datetime.now(UTC).date() - timedelta(days=8)
FIRST_MS = start_ms(FIRST_DAY)
DAYS = 6
NOW_MS = FIRST_MS + DAYS * DAY_MS + HOUR_MS  # an hour after the end of the last day
PER_DAY = 20  # decisions of a partition


def decision(number: int) -> Decision:
    return Decision(
        decision_id=f"d-{number}",
        transaction_id=f"t-{number}",
        score=0.25,
        outcome="review",
        model_outcome="approve",
        decided_by="rule",
        exploration_share=None,
        ruleset=3,
        threshold=0.2,
        model="m",
        model_version=1,
        event_time_ms=FIRST_MS,
    )


def send(settings: Settings, partition: int, time_ms: int, number: int, **changes: Any) -> None:
    """A decision and its logged values, with a record time."""
    features = FeatureRecord(
        transaction_id=f"t-{number}",
        event_time_ms=FIRST_MS,
        input_offset=number,
        profiles="p",
        complete=True,
        values=b"\x00\x00\x80?",
    )
    with_headers = [("ce_id", f"d-{number}".encode()), ("tamiz-offset", b"%d" % number)]
    record = {"key": b"card", "value": msgspec.json.encode(decision(number)), "headers": with_headers} | changes
    producer = PRODUCERS[settings.bootstrap]
    producer.send(settings.decisions_topic, partition=partition, timestamp_ms=time_ms, **record)
    value = msgspec.json.encode(features)
    producer.send(settings.feature_log_topic, key=b"card", value=value, partition=partition, timestamp_ms=time_ms)


PRODUCERS: dict[str, KafkaProducer] = {}


@pytest.fixture(autouse=True)
def producer(kafka: Kafka) -> Iterator[KafkaProducer]:
    with_broker = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=5)
    PRODUCERS[kafka.bootstrap_servers] = with_broker
    yield with_broker
    with_broker.close()


def empty_settings(kafka: Kafka, folder: Path) -> Settings:
    settings = isolated_settings(kafka.bootstrap_servers, folder / "state", archive_root=str(folder / "archive"))
    with admin(settings.bootstrap) as client:  # the records are old, and the broker deletes by record time
        topics = settings.decisions_topic, settings.feature_log_topic, settings.rule_activations_topic
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, t, {"retention.ms": "-1"}) for t in topics])
    return settings


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    """An installation with six days of decisions."""
    settings = empty_settings(kafka, tmp_path)
    for i in range(DAYS * PER_DAY):
        for partition in range(2):
            send(settings, partition, FIRST_MS + i * DAY_MS // PER_DAY, i)
    PRODUCERS[settings.bootstrap].flush()
    return settings


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of an archive in a folder, by its path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows_of(settings: Settings, found: ArchiveResult, topic: str) -> list[tuple[Any, ...]]:
    """Partition, offset, time, key, value and headers of all archived records of a topic, in their order."""
    rows = []
    for file in found.files:
        if file.topic.endswith(topic) and file.records:
            path = next(
                Path(settings.archive_root or "").glob(f"{topic}/day={file.day}/{file.partition:05d}.*.parquet")
            )
            for row in parquet.read_table(path).to_pylist():
                headers = [(header["name"], header["value"]) for header in row["headers"]]
                time_ms = round(row["timestamp"].timestamp() * 1000)
                rows.append((file.partition, row["offset"], time_ms, row["key"], row["value"], headers))
    return sorted(rows, key=lambda row: row[:2])


def on_topic(settings: Settings, topic: str) -> list[tuple[Any, ...]]:
    records = read_topic(settings.bootstrap, topic)
    return [(r.partition, r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]


def tamiz(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    environment = {name: value for name, value in child_environment(settings).items() if name.startswith("TAMIZ_")}
    found = CliRunner(env=environment).invoke(app, list(arguments))
    return found.exit_code, found.stdout, found.stderr


def test_each_record_is_archived_once_under_its_day_as_it_was_on_the_topic(settings: Settings) -> None:
    stamp = RuleActivation(
        from_offset=17,
        topic_id="t",
        group="g",
        ruleset=3,
        rules_offset=4,
        rules_topic_id="r",
        lists_offset=0,
        lists_topic_id="l",
    )
    sent_ms = FIRST_MS + DAY_MS + HOUR_MS
    PRODUCERS[settings.bootstrap].send(
        settings.rule_activations_topic, value=msgspec.json.encode(stamp), partition=1, timestamp_ms=sent_ms
    ).get(30)
    found = archive(settings, now_ms=NOW_MS)
    assert rows_of(settings, found, "rule-activations") == on_topic(settings, settings.rule_activations_topic)
    assert [f.last_input_offset for f in found.files if f.records == 1] == [17]
    assert rows_of(settings, found, "decisions") == on_topic(settings, settings.decisions_topic)
    assert rows_of(settings, found, "feature-log") == on_topic(settings, settings.feature_log_topic)
    mine = [f for f in found.files if (f.topic, f.partition) == (settings.decisions_topic, 1)]
    assert [f.day for f in mine] == [FIRST_DAY + timedelta(days=n) for n in range(DAYS)]
    assert {f.records for f in mine} == {PER_DAY}
    assert all(one.next_offset == following.first_offset for one, following in pairwise(mine))
    path = next(Path(settings.archive_root or "").glob(f"decisions/day={FIRST_DAY}/00001.*.parquet"))
    (row, *_) = parquet.read_table(path).to_pylist()
    assert (row["outcome"], row["decided_by"], row["ruleset"], row["matches"]) == ("review", "rule", 3, [])


def test_a_run_adds_the_days_that_have_closed_since_and_a_repeated_one_adds_nothing(settings: Settings) -> None:
    soon = FIRST_MS + 4 * DAY_MS + 10 * MINUTE_MS  # the fourth day may still get records
    assert archive(settings, now_ms=soon).until == FIRST_DAY + timedelta(days=2)
    before = files_of(Path(settings.archive_root or ""))
    found = archive(settings, now_ms=NOW_MS)
    assert {f.day for f in found.files} == {FIRST_DAY + timedelta(days=n) for n in (3, 4, 5)}
    after = files_of(Path(settings.archive_root or ""))
    assert {name: after[name] for name in before} == before
    assert archive(settings, now_ms=NOW_MS).files == ()
    assert files_of(Path(settings.archive_root or "")) == after
    code, output, _ = tamiz(settings, "archive", "--json")  # by now: days without a record since
    assert code == 0
    assert {f["records"] for f in json.loads(output)["files"]} == {0}


def test_a_killed_run_is_continued_and_gives_what_an_uninterrupted_one_gives(
    settings: Settings, tmp_path: Path
) -> None:
    stopped = msgspec.structs.replace(settings, archive_root=str(tmp_path / "stopped"))
    process = subprocess.Popen([sys.executable, "-m", "tamiz", "archive"], env=child_environment(stopped))
    wait_for(lambda: len(list(tmp_path.glob("stopped/*/*/*.json"))) >= 5, 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    partial = files_of(tmp_path / "stopped")
    archive(stopped)
    whole = msgspec.structs.replace(settings, archive_root=str(tmp_path / "whole"))
    archive(whole)
    expected = files_of(tmp_path / "whole")
    assert len(partial) < len(expected), "the run was to be killed in the middle"
    assert {n: v for n, v in files_of(tmp_path / "stopped").items() if ".uploading." not in n} == expected


def test_an_object_store_gets_the_same_files_and_one_that_is_away_ends_the_run_in_one_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(settings, now_ms=NOW_MS - 3 * DAY_MS)
    expected = files_of(tmp_path / "archive")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tamiz",
        "AWS_SECRET_ACCESS_KEY": "of the tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="evidence")
    on_s3 = msgspec.structs.replace(settings, archive_root="s3://evidence/archive")
    archive(on_s3, now_ms=NOW_MS - 4 * DAY_MS)
    archive(on_s3, now_ms=NOW_MS - 3 * DAY_MS)
    keys = [o["Key"] for o in client.list_objects_v2(Bucket="evidence")["Contents"]]
    stored = {k: client.get_object(Bucket="evidence", Key=k)["Body"].read() for k in keys}
    assert {k.removeprefix("archive/"): value for k, value in stored.items()} == expected
    assert [d.value for d in ArchiveSearch(on_s3).find_decisions(["d-50"], None, None)] == 2 * [
        msgspec.json.encode(decision(50))
    ]
    server.stop()
    with pytest.raises(ArchiveError, match="archive_root s3://evidence/archive: "):
        archive(on_s3, now_ms=NOW_MS + DAY_MS)


def test_hostile_records_and_times_are_archived_too_and_stop_nothing(kafka: Kafka, tmp_path: Path) -> None:
    settings = empty_settings(kafka, tmp_path)
    first = b'{"no": "decision"}'
    send(settings, 0, int(time.time() * 1000), 1, value=first, headers=[], key=None)  # from the future
    send(settings, 0, FIRST_MS + HOUR_MS, 2)
    send(settings, 0, FIRST_MS + 2 * DAY_MS, 3)
    send(settings, 0, FIRST_MS, 4)  # late: written after a record of a later day
    send(settings, 0, FIRST_MS + 2 * DAY_MS, 5, value=None, headers=[("tamiz-offset", b"9" * 30)])
    PRODUCERS[settings.bootstrap].flush()
    found = archive(settings, now_ms=NOW_MS)
    mine = {f.day: f for f in found.files if (f.topic, f.partition) == (settings.decisions_topic, 0)}
    assert [(f.first_offset, f.next_offset) for f in mine.values()] == [(0, 2), (2, 2), (2, 5), (5, 5), (5, 5), (5, 5)]
    assert [f.last_input_offset for f in mine.values()] == [2, 2, 4, 4, 4, 4]
    assert rows_of(settings, found, "decisions") == on_topic(settings, settings.decisions_topic)
    assert len(found.files) == 2 * DAYS, "a partition that never had a record has no file"
    assert found.faults == ()


def test_records_that_retention_deletes_too_early_are_counted_and_reported(settings: Settings) -> None:
    archive(settings, now_ms=NOW_MS - 4 * DAY_MS)  # two days
    with admin(settings.bootstrap) as client:
        client.delete_records({TopicPartition(settings.decisions_topic, 0): 3 * PER_DAY + 5})
    found = archive(settings, now_ms=NOW_MS)
    (fault,) = found.faults
    assert f"{settings.decisions_topic}, partition 0: retention deleted 25 offsets from 40 on before" in fault
    mine = [f for f in found.files if (f.topic, f.partition) == (settings.decisions_topic, 0)]
    assert [(f.missing, f.records) for f in mine] == [(25, 0), (0, 15), (0, 20), (0, 20)]
    assert archive(settings, now_ms=NOW_MS).faults == ()


def test_a_topic_that_was_made_anew_is_archived_beside_the_old_one(settings: Settings) -> None:
    archive(settings, now_ms=NOW_MS)
    before = files_of(Path(settings.archive_root or ""))
    recreate_topic(settings, settings.decisions_topic)
    send(settings, 1, FIRST_MS + 5 * DAY_MS, 777)
    PRODUCERS[settings.bootstrap].flush()
    found = archive(settings, now_ms=NOW_MS)
    assert [(f.partition, f.first_offset, f.records) for f in found.files] == [(1, 0, 1)]
    after = files_of(Path(settings.archive_root or ""))
    assert {name: after[name] for name in before} == before
    (both,) = [list(ArchiveSearch(settings).find_decisions(["d-777"], None, None))]
    assert [r.value for r in both] == [msgspec.json.encode(decision(777))]


def test_a_truncated_log_is_refused_in_one_line_and_other_partitions_go_on(settings: Settings, tmp_path: Path) -> None:
    archive(settings, now_ms=NOW_MS - DAY_MS)
    newest = max(tmp_path.glob("archive/decisions/*/00000.*.json"))
    manifest = msgspec.json.decode(newest.read_bytes(), type=ArchiveManifest)
    newest.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, next_offset=10_000)))
    code, output, _ = tamiz(settings, "archive", "--json")
    found = msgspec.json.decode(output, type=ArchiveResult)
    assert code == 1
    (fault,) = found.faults
    assert "partition 0: the archive has offsets up to 10,000, but the log ends at 120: it was truncated" in fault
    assert {(f.topic, f.partition) for f in found.files if f.records} == {
        (settings.decisions_topic, 1),
        (settings.feature_log_topic, 0),
        (settings.feature_log_topic, 1),
    }
    assert tamiz(settings, "archive")[2].count(fault) == 1


def test_a_damaged_file_is_refused_by_its_checksum(settings: Settings, tmp_path: Path) -> None:
    archive(settings, now_ms=NOW_MS)
    path = next(tmp_path.glob(f"archive/decisions/day={FIRST_DAY}/00000.*.parquet"))
    path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2"))
    with pytest.raises(ArchiveError, match=rf"decisions/day={FIRST_DAY}/00000\..*parquet is damaged: its SHA-256 is"):
        list(ArchiveSearch(settings).find_decisions(["d-1"], None, FIRST_DAY))


def test_the_place_in_an_id_leads_to_its_file_and_the_day_limits_the_search(settings: Settings) -> None:
    archive(settings, now_ms=NOW_MS)
    steps: list[str] = []
    search = ArchiveSearch(settings, lambda step, done, of: steps.append(step))
    found = next(search.find_decisions(["d-70"], (1, 70), None))
    assert (found.partition, found.offset, steps) == (1, 70, [])
    assert search.find_features(found, 70) is not None
    assert list(search.find_decisions(["d-70"], None, FIRST_DAY)) == []
    assert len(list(search.find_decisions(["d-70"], None, FIRST_DAY + timedelta(days=3)))) == 2
    assert len(steps) == 2


def test_without_a_place_to_archive_to_the_command_names_the_setting(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"archive_root \(TAMIZ_ARCHIVE_ROOT\) is not set"):
        archive(msgspec.structs.replace(settings, archive_root=None))
