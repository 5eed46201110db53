"""The feature log on a real broker: a worker's values are those of a replay, and a forged one is found."""

import json

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.records import FeatureRecord
from stream_app.kafka.topic_reader import read_to_end
from tamiz.main import app
from tamiz.services.history_reader import read_kafka_history
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings, read_topic, running_worker, wait_for
from tests.helpers.traffic.profiled_dataset import write_profiled
from tests.helpers.traffic.profiled_traffic import busy_cards

pytestmark = pytest.mark.kafka
RECORDS = busy_cards(900, partitions=2)


@pytest.fixture(scope="module")
def decided(kafka: Kafka, simulated_registry: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Transactions of cards with a past, decided by a worker."""
    folder = tmp_path_factory.mktemp("profiled")
    settings = isolated_settings(
        kafka.bootstrap_servers, simulated_registry.state_dir, dataset=str(write_profiled(folder))
    )
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap, linger_ms=5)
    for record in RECORDS:
        producer.send(settings.transactions_topic, record.value, key=record.key, partition=record.partition)
    producer.flush()
    producer.close()
    accepted = sum(record.value != b"{" for record in RECORDS)
    with running_worker(settings, folder) as worker:
        wait_for(lambda: len(logged(settings)) >= accepted, 60, worker.log.read_text)
        assert worker.stop() == 0
    return settings


def logged(settings: Settings) -> list[FeatureRecord]:
    read = read_to_end(settings.bootstrap, settings.feature_log_topic)
    return [msgspec.json.decode(r.value, type=FeatureRecord) for records in read for r in records]


def tamiz(settings: Settings, *arguments: str) -> tuple[int, str]:
    environment = {name: value for name, value in child_environment(settings).items() if name.startswith("TAMIZ_")}
    found = CliRunner(env=environment).invoke(app, list(arguments))
    return found.exit_code, found.stdout


def test_logged_values_equal_replayed_ones(decided: Settings) -> None:
    code, output = tamiz(decided, "features", "check", "--json")
    found = json.loads(output)
    n = len(logged(decided))
    assert (code, found["transactions"], found["compared"], found["missing"]) == (0, n, n, 0)
    assert {(f["equal"], f["different"]) for f in found["features"]} == {(n, 0)}
    code, output = tamiz(decided, "features", "check", "--from", "2020-01-03", "--until", "2020-01-04")
    assert code == 0
    assert "all equal" in output


def test_training_takes_the_logged_values(decided: Settings) -> None:
    found = read_kafka_history(msgspec.structs.replace(decided, label_delay_days=0))
    assert found.profile_sources is not None
    assert (found.profile_sources.replayed, found.profile_sources.incomplete) == (0, 0)
    assert np.nanmax(found.columns["id_user_count_1d"]) > 5


def test_a_logged_value_is_printed_with_its_name(decided: Settings) -> None:
    code, output = tamiz(decided, "tail", "feature-log", "--from-beginning", "--limit", "1")
    assert code == 0
    assert "id_user_count_1h 0" in output


def test_a_forged_value_is_found_and_malformed_records_are_skipped(decided: Settings) -> None:
    first = next(r for r in read_topic(decided.bootstrap, decided.feature_log_topic) if r.partition == 0)
    record = msgspec.json.decode(first.value, type=FeatureRecord)
    values = np.frombuffer(record.values, "<f4").copy()
    values[0] = 77
    forged = msgspec.structs.replace(record, values=values.tobytes())
    junk = [b"", b"{", b"[1]", msgspec.json.encode(msgspec.structs.replace(record, values=b"\0" * 7))]
    producer = KafkaProducer(bootstrap_servers=decided.bootstrap)
    for value in (*junk, msgspec.json.encode(forged)):
        producer.send(decided.feature_log_topic, value, partition=0)
    producer.flush()
    producer.close()
    code, output = tamiz(decided, "features", "check", "--json")
    different = [f for f in json.loads(output)["features"] if f["different"]]
    assert (code, [f["feature"] for f in different]) == (1, ["id_user_count_1h"])
    assert different[0]["example"]["logged"] == 77.0
    assert different[0]["example"]["transaction_id"] == record.transaction_id
    assert tamiz(decided, "features", "check")[0] == 1


def test_a_data_set_without_profiles_has_nothing_to_check(decided: Settings) -> None:
    plain = msgspec.structs.replace(decided, dataset="card_transactions")
    assert not load_dataset(plain.dataset).profiles
    code, _ = tamiz(plain, "features", "check")
    assert code != 0
