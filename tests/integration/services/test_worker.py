"""The worker as a process on a real broker: each record is answered, for any payload and any kind of stop."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from pyarrow import parquet

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.pane_codec import panes_of
from monitoring.counting.panes import PartitionPanes
from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import TamizError
from schemas.extras import UNUSED_BY_SERVICES
from schemas.records import PaneSnapshot
from schemas.time_units import DAY_MS, MINUTE_MS
from stream_app.decisions import dead_letters
from stream_app.decisions.decision_explanation import explain
from stream_app.decisions.handler import HandlerPolicy, handle
from stream_app.kafka.topic_admin import admin, topic_ids
from stream_app.worker.champion_cache import ChampionCache
from tamiz.archive.archive_search import ArchiveSearch
from tamiz.archive.archiver import archive
from tamiz.batch.batch_scoring import score_file
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, read_topic, running_worker, wait_for
from tests.helpers.traffic.invalid_payloads import INVALID_PAYLOADS, payload
from training.pipeline import train
from training.registry import mlflow_registry
from training.registry.model_loader import registered_model

pytestmark = pytest.mark.kafka
MAX_RESIDENT_BYTES = 280 * 1024 * 1024  # of a worker that is ready; 250 MB on a quiet machine


def produce(settings: Settings, values: Iterable[bytes | None], **more: Any) -> list[Any]:
    """Send payloads, keyed by their place, and wait until all are acknowledged; their metadata."""
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap, linger_ms=5, max_request_size=2_000_000)
    try:
        topic = settings.transactions_topic
        futures = [producer.send(topic, key=b"%d" % (i % 50), value=value, **more) for i, value in enumerate(values)]
        return [future.get(60) for future in futures]
    finally:
        producer.close()


def steadily(values: Sequence[bytes], worker: subprocess.Popen[bytes], per_second: int = 2_000) -> Iterator[bytes]:
    """The payloads; the last ones are sent after the worker has ended, so that it stops in the middle."""
    start = time.monotonic()
    for i, value in enumerate(values):
        while i > (time.monotonic() - start) * per_second:
            time.sleep(0.005)
        if i == len(values) - 2_000:
            worker.wait(120)
        yield value


def flowing(settings: Settings) -> bool:
    """Whether there is a decision already."""
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap)
    try:
        topic = settings.decisions_topic
        return any(consumer.end_offsets([TopicPartition(topic, p) for p in range(settings.partitions)]).values())
    finally:
        consumer.close()


def read_decisions(settings: Settings, at_least: int) -> list[dict[str, Any]]:
    records = read_topic(settings.bootstrap, settings.decisions_topic, at_least=at_least)
    return [json.loads(r.value) | {"partition": r.partition, "headers": dict(r.headers)} for r in records]


def places(settings: Settings, metadata: Sequence[Any]) -> list[str]:
    topic_id = topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic]
    assert len(topic_id) == 22
    return [f"{m.topic}-{m.partition}-{m.offset}@{topic_id[:8]}" for m in metadata]


@pytest.fixture
def settings(kafka: Kafka, real_registry: Settings) -> Settings:
    return isolated_settings(kafka.bootstrap_servers, real_registry.state_dir)


def test_the_real_file_comes_back_whole_in_order_without_dead_letters_and_as_a_batch_decides_it(
    settings: Settings, real_csv: Path, real_payloads: list[bytes], tmp_path: Path
) -> None:
    with running_worker(settings, tmp_path) as worker:
        sent = places(settings, produce(settings, real_payloads))
        decisions = read_decisions(settings, len(sent))
        assert worker.stop() == 0, worker.tail()
    assert len(decisions) == 26_975
    assert Counter(d["transaction_id"] for d in decisions) == Counter(sent)
    assert read_topic(settings.bootstrap, settings.dead_letters_topic) == []
    for partition in range(settings.partitions):
        offsets = [int(d["headers"]["tamiz-offset"]) for d in decisions if d["partition"] == partition]
        assert offsets == sorted(offsets)
    score_file(real_csv, tmp_path / "batch.parquet", load_dataset(settings.dataset), registered_model(settings))
    in_place = {d["transaction_id"]: d for d in decisions}
    batch = parquet.read_table(tmp_path / "batch.parquet").to_pydict()
    for name in ("matches", "reasons"):
        batch[name] = [json.loads(text or "[]") for text in batch[name]]
    for name in batch.keys() - {"row", "transaction_id", "decision_id"}:  # the file declares no ids
        assert [in_place[place].get(name, []) for place in sent] == batch[name], name


def test_broken_payloads_become_dead_letters_and_the_batch_around_them_is_decided(
    settings: Settings, tmp_path: Path
) -> None:
    values = [v for broken in INVALID_PAYLOADS.values() for v in (payload(), broken.payload)]
    with running_worker(settings, tmp_path) as worker:
        produce(settings, values, headers=[("traceparent", b"00-aa-bb-01")])
        decisions = read_decisions(settings, len(INVALID_PAYLOADS))
        letters = read_topic(settings.bootstrap, settings.dead_letters_topic, at_least=len(INVALID_PAYLOADS))
        assert worker.readiness()["ready"]
        metrics = worker.get("/metrics")[1]
    assert len(decisions) == len(letters) == len(INVALID_PAYLOADS)
    assert Counter(r.value for r in letters) == Counter(b.payload for b in INVALID_PAYLOADS.values())
    decoded = [dead_letters.read(r.headers) for r in letters]
    assert Counter((t.code, t.field) for t in decoded if t) == Counter(
        (b.code, b.field) for b in INVALID_PAYLOADS.values()
    )
    assert [r for r in letters if ("traceparent", b"00-aa-bb-01") not in r.headers] == []
    assert 'tamiz_dead_letters_total{code="not-json"}' in metrics


def test_sigterm_in_mid_stream_loses_nothing_and_repeats_nothing(
    settings: Settings, real_payloads: list[bytes], tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as pool, running_worker(settings, tmp_path) as first:
        producing = pool.submit(produce, settings, steadily(real_payloads[:12_000], first.process))
        wait_for(lambda: flowing(settings), 60, first.tail)
        assert first.stop(signal.SIGTERM) == 0, first.tail()
        sent = places(settings, producing.result())
    decided_by_first = len(read_topic(settings.bootstrap, settings.decisions_topic))
    assert 0 < decided_by_first < len(sent), "the worker was to be stopped in mid-stream"
    with running_worker(settings, tmp_path):
        decisions = read_decisions(settings, len(sent))
    assert Counter(d["transaction_id"] for d in decisions) == Counter(sent)


def test_a_killed_workers_work_is_done_again_under_the_same_decision_ids(
    settings: Settings, real_payloads: list[bytes], tmp_path: Path
) -> None:
    with ThreadPoolExecutor() as pool, running_worker(settings, tmp_path) as first:
        producing = pool.submit(produce, settings, steadily(real_payloads[:12_000], first.process))
        wait_for(lambda: flowing(settings), 60, first.tail)
        first.stop(signal.SIGKILL)
        sent = places(settings, producing.result())
    with running_worker(settings, tmp_path) as second:
        wait_for(
            lambda: len({d["transaction_id"] for d in read_decisions(settings, 1)}) == len(sent), 90, lambda: "lost"
        )
        assert second.stop() == 0, second.tail()  # in order: decisions and panes of a batch are not sent as one
    by_id: dict[str, set[str]] = {}
    for decision in read_decisions(settings, len(sent)):
        by_id.setdefault(decision["transaction_id"], set()).add(json.dumps(decision["decision_id"]))
    assert set(by_id) == set(sent)
    assert {len(ids) for ids in by_id.values()} == {1}
    assert published_counts(settings) == counted_offline(settings)


Counts = dict[tuple[int, int], tuple[int, list[int]]]  # partition, minute -> rows, counts by code


def published_counts(settings: Settings) -> Counts:
    """Final content of `drift-panes`: the last pane of each minute."""
    bins = champion(settings).bins
    records = read_topic(settings.bootstrap, settings.drift_panes_topic)
    panes = [p for r in records for p in panes_of(msgspec.json.decode(r.value, type=PaneSnapshot), bins)]
    return {(p.partition, p.start_ms): (p.rows, p.counts.tolist()) for p in panes}


def counted_offline(settings: Settings) -> Counts:
    """The same counts in one pass over the transactions, without a worker."""
    model = champion(settings)
    policy = HandlerPolicy.from_settings(settings, load_dataset(settings.dataset), counting=True)
    records = read_topic(settings.bootstrap, settings.transactions_topic)
    found: Counts = {}
    for partition in range(settings.partitions):
        mine = [r for r in records if r.partition == partition]
        coded = handle(mine, model, policy).coded
        assert coded is not None
        fold = PartitionPanes(model.bins, partition, settings.allowed_lateness_minutes * MINUTE_MS)
        fold.update(*coded, np.array([r.offset for r in mine]))
        counted = fold.snapshot()
        for pane in (*counted.closed, *counted.open):
            found[partition, pane.start_ms] = pane.rows, pane.counts.tolist()
    return found


def champion(settings: Settings) -> MonitoredModel:
    store = ChampionCache(settings, load_dataset(settings.dataset))
    store.open()
    return store.current


def test_a_second_worker_takes_its_share_and_nothing_is_lost(
    settings: Settings, real_payloads: list[bytes], tmp_path: Path
) -> None:
    with running_worker(settings, tmp_path) as first, running_worker(settings, tmp_path) as second:
        wait_for(
            lambda: (
                first.readiness().get("partitions") != second.readiness().get("partitions")
                and len(second.readiness().get("partitions", ())) == 1
            ),
            60,
            second.tail,
        )
        sent = places(settings, produce(settings, real_payloads[:5_000]))
        decisions = read_decisions(settings, len(sent))
    assert Counter(d["transaction_id"] for d in decisions) == Counter(sent)


def test_a_new_champion_takes_over_while_the_worker_runs(
    settings: Settings, real_csv: Path, real_payloads: list[bytes], tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(settings, state_dir=tmp_path / "state", registry_poll_seconds=1)
    train(settings, real_csv, force="a test needs a champion")
    with running_worker(settings, tmp_path) as worker:
        produce(settings, real_payloads[:100])
        read_decisions(settings, 100)
        train(settings, real_csv, force="a test needs a champion")
        wait_for(lambda: worker.readiness()["model_version"] == 2, 30, worker.tail)
        produce(settings, real_payloads[:100])
        versions = Counter(d["model_version"] for d in read_decisions(settings, 200))
    assert versions == {1: 100, 2: 100}


def test_with_the_registry_away_the_last_champion_serves_from_disk(settings: Settings, tmp_path: Path) -> None:
    with running_worker(settings, tmp_path) as worker:
        version = worker.readiness()["model_version"]
    away = msgspec.structs.replace(settings, mlflow_tracking_uri="http://127.0.0.1:9")
    with running_worker(away, tmp_path) as worker:
        assert worker.readiness()["model_version"] == version
        assert "the registry is unreachable" in worker.log.read_text()
        # With a registry server, as in production, a worker loads nothing of MLflow, which loads Protobuf.
        loaded = Path(f"/proc/{worker.process.pid}/maps").read_text()
        assert [
            library
            for library in (*UNUSED_BY_SERVICES, "google/_upb", "scipy/special", "scipy/linalg")
            if f"/{library}/" in loaded
        ] == []
        assert psutil.Process(worker.process.pid).memory_info().rss < MAX_RESIDENT_BYTES


def test_the_pages_show_a_worker_that_loaded_no_library_of_training(settings: Settings, tmp_path: Path) -> None:
    with running_worker(settings, tmp_path) as worker:
        assert worker.get("/livez")[0] == 200
        status, body = worker.get("/readyz")
        assert status == 200
        assert json.loads(body) == {
            "ready": True,
            "waiting_for": [],
            "model": settings.model_name,
            "model_version": mlflow_registry.champion(settings),
            "forced": True,
            "recorded": True,
            "registry_inconsistency": None,
            "partitions": [0, 1],
            "ruleset": None,
            "ruleset_refused": None,
        }
        metrics = worker.get("/metrics")[1]
        assert "tamiz_partitions_assigned 2.0" in metrics
        loaded = Path(f"/proc/{worker.process.pid}/maps").read_text()
        assert "/xgboost/" in loaded
        assert [library for library in UNUSED_BY_SERVICES if f"/{library}/" in loaded] == []
        assert "tamiz_model_forced 1.0" in metrics
        assert 'tamiz_decisions_total{outcome="decline"} 0.0' in metrics
        assert worker.get("/tables")[0] == 404


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"model_name": "nobody"}, ["no champion", "nobody", "tamiz train"], id="no champion"),
        pytest.param({"topic_prefix": "not-there-"}, ["not-there-", "tamiz topics create"], id="no topic"),
        pytest.param({"bootstrap_servers": "127.0.0.1:9"}, ["127.0.0.1:9", "tamiz broker"], id="no broker"),
        pytest.param({"dataset": "nothing"}, ["nothing", ".toml"], id="no data set"),
    ],
)
def test_what_a_worker_cannot_start_with_is_one_readable_line(
    settings: Settings, changes: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    wrong = msgspec.structs.replace(settings, startup_timeout_seconds=0, **changes)
    done = subprocess.run(
        [sys.executable, "-m", "tamiz", "worker"],
        env=child_environment(wrong),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("tamiz: ")]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert [word for word in words if word not in lines[0]] == []
    assert "Traceback" not in done.stderr


def test_a_decision_is_explained_by_making_it_again_bit_for_bit(
    settings: Settings, real_payloads: list[bytes], tmp_path: Path
) -> None:
    with running_worker(settings, tmp_path):
        produce(settings, real_payloads[:3_000])
        highest = max(read_decisions(settings, 3_000), key=lambda decision: decision["score"])
    explanation = explain(settings, highest["decision_id"])
    assert explanation.reproduced
    assert explanation.decision.transaction_id == explanation.origin == highest["transaction_id"]
    assert explanation.transaction.encode() in real_payloads
    assert explain(settings, highest["transaction_id"]) == explanation
    with pytest.raises(TamizError, match="no decision and no transaction with id 'nobody'"):
        explain(settings, "nobody")
    archived = msgspec.structs.replace(settings, archive_root=str(tmp_path / "archive"))
    in_two_days = int(time.time() * 1000) + 2 * DAY_MS
    assert archive(archived, now_ms=in_two_days).faults == ()
    delete_all(settings, settings.decisions_topic)
    search = ArchiveSearch(archived)
    again = explain(archived, highest["transaction_id"], archive=search)
    assert again == msgspec.structs.replace(explanation, archived=True)
    delete_all(settings, settings.transactions_topic)
    alone = explain(archived, highest["decision_id"], archive=search)
    assert (alone.decision, alone.transaction, alone.reproduced) == (explanation.decision, None, None)
    assert f"{settings.transactions_topic}-" in (alone.gone or "")
    assert "no longer on the topic" in (alone.gone or "")
    with pytest.raises(TamizError, match=r"no transaction with id 'nobody' in .* and the archive .* on 2020-01-01"):
        explain(archived, "nobody", day=date(2020, 1, 1), archive=search)


def delete_all(settings: Settings, topic: str) -> None:
    """Delete every record of a topic, as retention does."""
    with admin(settings.bootstrap) as client:
        client.delete_records(dict.fromkeys((TopicPartition(topic, p) for p in range(settings.partitions)), -1))
