"""Training history from Kafka: the same rows as from a file, labels joined, each transaction once."""

import csv
import json
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from schemas.errors import TrainingError
from schemas.record_parts import OmittedHeaders, TruncatedBytes, Unreadable
from schemas.records import Label
from schemas.time_units import DAY_MS
from schemas.topics import topic_table
from scoring.input.cleaning import clean_payloads
from stream_app.kafka.topic_admin import create_topics
from tamiz.main import app
from tamiz.services.history_reader import read_kafka_history
from tamiz.simulation import payload_formats
from tamiz.simulation.simulator import Traffic, simulate
from tests.conftest import Kafka
from training.data import topic_history
from training.data.history import History, read_history
from training.data.topic_history import TopicHistory

DATASET = load_dataset("card_transactions")
FIRST_MS = 1_577_836_800_000  # 2020-01-01


class StoredRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = FIRST_MS
    key: bytes | None = None


def payload(i: int, fraud: bool | None = None, **changes: Any) -> bytes:
    """A transaction of day i // 20; by default every 20th is fraud."""
    row = {"ID_USER": i % 50, "monto": 10.0 + i, "fecha": f"2020-01-{1 + i // 20:02d}", "hora": i % 24}
    row |= {"linea_tc": 70_000, "interes_tc": 50, "dcto": 0, "cashback": 1.5, "is_prime": False}
    return json.dumps(row | {"fraude": i % 20 == 0 if fraud is None else fraud} | changes).encode()


def unlabelled(i: int) -> bytes:
    return payload(i, fraude=None)


def records(payloads: list[bytes], partitions: int = 3) -> list[StoredRecord]:
    return [StoredRecord("t", i % partitions, i // partitions, value) for i, value in enumerate(payloads)]


def folded(
    found: list[StoredRecord], labels: tuple[Label, ...] = (), *, batch: int = 100, delay_days: int = 0, **bounds: int
) -> History:
    history = TopicHistory(
        DATASET,
        **{"from_ms": None, "until_ms": None, "max_payload_bytes": 65_536} | bounds,  # type: ignore[arg-type]
    )
    for start in range(0, len(found), batch):
        history.update(found[start : start + batch])
    for label in labels:
        history.update_label(label)
    return history.history("t", delay_days * DAY_MS)


def label(transaction_id: str, fraud: bool | None, at: int = 0) -> Label:
    return Label(transaction_id=transaction_id, fraud=fraud, reported_at_ms=at)


def test_records_give_one_history_however_the_partitions_interleave() -> None:
    found = records([payload(i) for i in range(400)])
    by_partition = sorted(found, key=lambda r: (r.partition, r.offset))
    one, other = folded(found), folded(by_partition, batch=7)
    assert one.sha256 == other.sha256
    assert one.event_time_ms.tolist() == other.event_time_ms.tolist()
    assert (one.rows, int(one.fraud.sum()), one.rejected) == (400, 20, {})


def test_labels_are_joined_by_the_id_that_the_decision_has() -> None:
    found = records([unlabelled(i) for i in range(300)])
    found[0] = found[0]._replace(headers=(("tamiz-transaction-id", b"mine"),))
    known = [label(f"t-{r.partition}-{r.offset}", fraud=False) for r in found[1:]]
    history = folded(found, (*known, label("mine", fraud=True), label("of somebody else", fraud=True)))
    assert (history.rows, history.unlabelled, history.fraud.tolist()) == (300, 0, [1.0] + [0.0] * 299)


def test_the_last_reported_label_counts_before_that_of_the_payload() -> None:
    found = records([payload(i) for i in range(300)], partitions=1)
    ruled = (label("t-0-7", True, at=5), label("t-0-7", False, at=3), label("t-0-20", False, at=1))
    fraud = folded(found, ruled).fraud
    assert fraud[[0, 7, 20, 40]].tolist() == [1, 1, 0, 1]


def test_the_label_of_a_reviewer_who_is_not_sure_leaves_an_earlier_label_and_the_unlabelled_as_they_are() -> None:
    found = records([payload(i) for i in range(250)] + [unlabelled(i) for i in range(50)])
    known = (label("t-0-7", True, at=5), label("t-0-7", None, at=9), label("t-0-260", None, at=9))
    assert folded(found, known).fraud.tolist() == folded(found, known[:1]).fraud.tolist()
    assert folded(found, known).unlabelled == 50


def test_transactions_without_a_label_are_omitted_and_counted() -> None:
    history = folded(records([payload(i) for i in range(250)] + [unlabelled(i) for i in range(50)]))
    assert (history.rows, history.unlabelled, len(history.fraud)) == (300, 50, 250)


def test_a_repeated_transaction_counts_once() -> None:
    found = records([payload(i) for i in range(300)], partitions=1)
    broken = StoredRecord("t", 0, 300, b"{", ())
    redriven = StoredRecord("t", 0, 301, payload(5), (("tamiz-transaction-id", b"t-0-300"),))
    again = StoredRecord("t", 0, 302, payload(5, monto=9.0), (("tamiz-transaction-id", b"t-0-5"),))
    history = folded([*found, broken, redriven, again])
    assert (history.rows, history.rejected, len(history.fraud)) == (302, {"not-json": 1}, 301)
    assert 9.0 not in history.columns["monto"]


def test_the_interval_of_event_times_includes_its_start_only() -> None:
    found = records([payload(i, hora=0) for i in range(600)])
    found.append(StoredRecord("t", 0, 1000, b"{", timestamp=FIRST_MS))
    history = folded(found, from_ms=FIRST_MS + 2 * DAY_MS, until_ms=FIRST_MS + 20 * DAY_MS)
    days = (history.event_time_ms - FIRST_MS) // DAY_MS
    assert (days.min(), days.max(), history.rows, history.rejected) == (2, 19, 360, {})


def test_labels_younger_than_the_delay_are_not_used() -> None:
    found = records([payload(i, hora=0) for i in range(600)])
    history = folded(found, delay_days=9)
    assert (len(history.fraud), history.unlabelled) == (21 * 20, 9 * 20)
    with pytest.raises(TrainingError, match=r"not enough matured labels: 20 rows .* 580 are younger"):
        folded(found, delay_days=29)


def test_an_empty_interval_is_reported() -> None:
    with pytest.raises(TrainingError, match="lies in the time range"):
        folded(records([payload(i) for i in range(300)]), from_ms=2 * FIRST_MS)


@pytest.fixture(scope="module")
def topics(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path]:
    """A simulated month on a topic, half of its labels in the payloads and half on theirs; and the same as a file."""
    unique = uuid.uuid4().hex[:8]
    settings = msgspec.structs.replace(
        load({}),
        bootstrap_servers=kafka.bootstrap_servers,
        existing_transactions_topic=f"history-transactions-{unique}",
        existing_labels_topic=f"history-labels-{unique}",
        state_dir=tmp_path_factory.mktemp("state"),
    )
    create_topics(settings.bootstrap, [t for t in topic_table(settings) if t.name.endswith(unique)], 1)
    traffic = Traffic(rows=6_000, seed=8, signal=True)
    path = tmp_path_factory.mktemp("file") / "month.csv"
    payload_formats.write(traffic, simulate(traffic), path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    for i, row in enumerate(rows):
        fraud = row["fraude"] == "TRUE"
        if i % 2:
            row = row | {"fraude": None}  # type: ignore[dict-item]
            known = msgspec.json.encode(label(f"id-{i}", fraud))
            producer.send(settings.labels_topic, key=b"id-%d" % i, value=known)
        headers = [("tamiz-transaction-id", b"id-%d" % i)]
        producer.send(
            settings.transactions_topic, key=row["ID_USER"].encode(), value=json.dumps(row).encode(), headers=headers
        )
    producer.send(settings.labels_topic, value=b"no label")
    producer.flush()
    producer.close()
    return settings, path


@pytest.mark.kafka
def test_a_topic_and_a_file_train_the_same_model(
    topics: tuple[Settings, Path], caplog: pytest.LogCaptureFixture
) -> None:
    settings, path = topics
    seen: dict[str, tuple[int, int]] = {}
    found = read_kafka_history(settings, progress=lambda step, done, of: seen.update({step: (done, of)}))
    written = read_history(path, DATASET)
    assert seen == {
        f"reading {settings.transactions_topic}": (6000, 6000),
        f"reading {settings.labels_topic}": (3001, 3001),
    }
    assert "not a valid record" in caplog.text
    assert (found.rows, found.unlabelled, found.rejected) == (written.rows, 0, {})

    def rows(history: History) -> list[tuple[Any, ...]]:
        columns = (np.nan_to_num(c) if c.dtype.kind == "f" else c for c in history.columns.values())
        texts = [c.astype(str).tolist() for c in (*columns, history.fraud, history.event_time_ms)]
        return sorted(zip(*texts, strict=True))

    assert rows(found) == rows(written)
    assert read_kafka_history(settings).sha256 == found.sha256


@pytest.mark.kafka
def test_the_command_trains_on_the_topics_with_the_label_delay(topics: tuple[Settings, Path]) -> None:
    settings, path = topics
    environment = {
        "TAMIZ_STATE_DIR": str(settings.state_dir),
        "TAMIZ_BOOTSTRAP_SERVERS": settings.bootstrap,
        "TAMIZ_EXISTING_TRANSACTIONS_TOPIC": settings.transactions_topic,
        "TAMIZ_EXISTING_LABELS_TOPIC": settings.labels_topic,
        "TAMIZ_LABEL_DELAY_DAYS": "1",
        "MLFLOW_TRACKING_URI": None,
    }
    runner = CliRunner(env=environment)
    times = read_history(path, DATASET).event_time_ms
    result = runner.invoke(app, ["train", "--from-kafka", "--until", "2020-01-28", "--json"])
    assert result.exit_code == 0, result.output
    done = json.loads(result.stdout)
    bound = FIRST_MS + 27 * DAY_MS
    assert done["rows"] == int((times < bound).sum())
    assert done["unlabelled"] == int(((times < bound) & (times > times[times < bound].max() - DAY_MS)).sum())
    assert done["parts"]["gap"] > 0
    assert sum(done["parts"].values()) == done["rows"] - done["unlabelled"]
    again = json.loads(runner.invoke(app, ["train", "--reproduce", done["run_id"], "--json"]).stdout)
    assert again["reproduction"]["same"]
    assert (again["rows"], again["parts"]) == (done["rows"], done["parts"])
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    overruled = label("id-10", fraud=True, at=1)
    producer.send(settings.labels_topic, key=b"id-10", value=msgspec.json.encode(overruled))
    producer.close()
    refused = runner.invoke(app, ["train", "--reproduce", done["run_id"]])
    assert refused.exit_code != 0
    assert "labels have arrived" in str(refused.exception)
    for wrong in (["train"], ["train", str(path), "--from-kafka"], ["train", "--from-kafka", "--labels", str(path)]):
        assert runner.invoke(app, wrong).exit_code == 2


def test_records_that_a_worker_rejects_are_not_used_for_training() -> None:
    good = records([payload(i) for i in range(400)])
    refused = [
        good[0]._replace(partition=9, offset=0, key=b"k" * 5_000),
        good[1]._replace(partition=9, offset=1, headers=(("tamiz-transaction-id", b"\xff"),)),
        good[2]._replace(partition=9, offset=2, headers=(OmittedHeaders.of(7),)),  # type: ignore[arg-type]
        good[3]._replace(partition=9, offset=3, value=TruncatedBytes.truncate(payload(3), 1_000)),
        good[4]._replace(partition=9, offset=4, value=Unreadable.with_reason("damaged", 4)),
    ]
    found = folded([*good, *refused])
    assert len(found.fraud) == 400
    assert sum(found.rejected.values()) == 5
    assert found.sha256 == folded(good).sha256


def test_a_record_that_causes_an_internal_error_does_not_end_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    good = records([payload(i) for i in range(400)])
    poison = good[7].value

    def clean(dataset: Any, payloads: Any, **options: Any) -> Any:
        if poison in payloads:
            raise RuntimeError("a fault of ours")
        return clean_payloads(dataset, payloads, **options)

    monkeypatch.setattr(topic_history, "clean_payloads", clean)
    assert len(folded(good).fraud) == 399
