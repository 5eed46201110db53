"""The feature log on a real broker: checked, trained from, and used wherever a transaction is handled again."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer, TopicPartition
from typer.testing import CliRunner

from monitoring.counting.panes import NO_TIME_MS
from monitoring.performance.shadow import CELLS
from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.records import Decision, FeatureRecord, Label
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions import logged_features
from stream_app.decisions.handler import HandlerPolicy, HandlerState, handle
from stream_app.decisions.logged_features import FeatureLogReader
from stream_app.kafka.topic_admin import admin
from stream_app.kafka.topic_reader import assigned, read_to_end
from stream_app.monitor.alert_examples import BinSearch, ids_in_bin
from stream_app.worker.champion_cache import ChampionCache
from tamiz.archive.archiver import archive
from tamiz.main import app
from tamiz.services.history_reader import read_kafka_history
from tamiz.services.rules_file import read_rules_file
from tamiz.services.tested_rulesets import find_evidence
from tests.conftest import Kafka
from tests.helpers.bundles.registry_copy import copy_registry
from tests.helpers.services.worker_process import isolated_settings, read_topic, running_worker
from tests.helpers.traffic.profiled_dataset import write_profiled
from tests.helpers.traffic.profiled_traffic import TopicRecord, busy_cards

pytestmark = pytest.mark.kafka
RECORDS = busy_cards(900, partitions=2, days=4)


@pytest.fixture(scope="module")
def decided(kafka: Kafka, simulated_registry: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Transactions of cards with a past, decided by a model with profile features that was trained on them."""
    folder = tmp_path_factory.mktemp("profiled")
    settings = isolated_settings(
        kafka.bootstrap_servers,
        copy_registry(simulated_registry, folder / "state").state_dir,
        dataset=str(write_profiled(folder)),
        label_delay_days=0,
    )
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    send(producer, settings, RECORDS)
    code, output = tamiz(settings, "train", "--from-kafka", "--backtest-days", "1", "--force", "a test", "--json")
    assert code == 0, output
    sources = json.loads(output)["profile_sources"]
    assert (sources["logged"], sources["replayed"]) == (0, len(set(ids(RECORDS))))
    # On topics of their own, as they happen: no partition lags by more than an hour of event time.
    settings = isolated_settings(
        kafka.bootstrap_servers, settings.state_dir, dataset=settings.dataset, label_delay_days=0
    )
    with (
        running_worker(settings, folder) as worker,
        assigned(settings.bootstrap, settings.feature_log_topic, from_beginning=True) as log,
    ):
        waiting = 0
        for _, group in groupby(RECORDS, key=lambda r: r.timestamp // HOUR_MS):
            sent = list(group)
            send(producer, settings, sent)
            waiting += len(ids(sent))
            deadline = time.monotonic() + 60
            while waiting > 0:
                assert time.monotonic() < deadline, worker.log.read_text()
                waiting -= sum(map(len, log.poll(timeout_ms=200).values()))
        assert worker.stop() == 0
    producer.close()
    return settings


def send(producer: KafkaProducer, settings: Settings, records: Sequence[TopicRecord]) -> None:
    """Send transactions to their partitions."""
    for record in records:
        producer.send(settings.transactions_topic, record.value, key=record.key, partition=record.partition)
    producer.flush()


def ids(records: Sequence[TopicRecord]) -> list[str]:
    """Ids of the valid transactions."""
    valid = [r.value for r in records if r.value != b"{"]
    return [msgspec.json.decode(value or b"")["transaction_id"] for value in valid]


def logged(settings: Settings) -> list[FeatureRecord]:
    read = read_to_end(settings.bootstrap, settings.feature_log_topic)
    return [msgspec.json.decode(r.value, type=FeatureRecord) for records in read for r in records]


def tamiz(settings: Settings, *arguments: str) -> tuple[int, str]:
    environment = {name: value for name, value in child_environment(settings).items() if name.startswith("TAMIZ_")}
    found = CliRunner(env=environment).invoke(app, list(arguments))
    return found.exit_code, found.stdout


def test_a_file_without_its_history_is_scored_with_a_warning(decided: Settings, tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_bytes(b"\n".join(r.value or b"" for r in RECORDS[:20] if r.value != b"{"))
    words = ["score", str(path), "--output", str(tmp_path / "decisions.csv")]
    runner = CliRunner(env={n: v for n, v in child_environment(decided).items() if n.startswith("TAMIZ_")})
    alone, after = runner.invoke(app, words), runner.invoke(app, [*words, "--history", str(path)])
    assert (alone.exit_code, after.exit_code) == (0, 0), alone.stderr + after.stderr
    assert "profiles begin empty at its first row; give earlier transactions with --history FILE" in alone.stderr
    assert "profiles begin" not in after.stderr


def test_logged_values_equal_replayed_ones(decided: Settings) -> None:
    code, output = tamiz(decided, "features", "check", "--json")
    found = json.loads(output)
    n = len(logged(decided))
    assert (code, found["transactions"], found["missing"], found["undecided"]) == (0, n, 0, 0)
    assert found["compared"] + found["incomplete"] == n
    assert found["compared"] > 0.9 * n
    assert {(f["equal"], f["different"]) for f in found["features"]} == {(found["compared"], 0)}
    code, output = tamiz(decided, "features", "check", "--from", "2020-01-02", "--until", "2020-01-03")
    assert code == 0
    assert "all equal" in output


def test_training_takes_the_logged_values(decided: Settings) -> None:
    found = read_kafka_history(decided)
    assert found.profile_sources is not None
    assert (found.profile_sources.replayed, found.profile_sources.logged) == (
        0,
        found.rows - found.rejected["not-json"],
    )
    assert np.nanmax(found.columns["id_user_count_1d"]) > 5


def test_a_logged_value_is_printed_with_its_name(decided: Settings) -> None:
    code, output = tamiz(decided, "tail", "feature-log", "--from-beginning", "--limit", "1")
    assert code == 0
    assert "id_user_count_1h 0" in output


def test_a_decision_is_reproduced_with_its_logged_values(decided: Settings) -> None:
    record = max(logged(decided), key=lambda r: np.nansum(np.frombuffer(r.values, "<f4")))
    code, output = tamiz(decided, "explain", record.transaction_id, "--json")
    found = json.loads(output)
    assert (code, found["reproduced"]) == (0, True)
    plan = ProfilePlan.of(load_dataset(decided.dataset))
    values = np.array([np.nan if v is None else v for v in found["profile_features"].values()], np.float32)
    assert tuple(found["profile_features"]) == plan.names
    assert values.tobytes() == record.values
    assert "id_user_count_1d" in tamiz(decided, "explain", record.transaction_id)[1]


def test_a_challenger_is_scored_with_the_logged_values(decided: Settings) -> None:
    code, output = tamiz(
        decided, "shadow", "--version", "1", "--from-beginning", "--limit", str(len(RECORDS)), "--json"
    )
    found = json.loads(output)
    assert (code, found["transactions"], found["unlogged"]) == (0, len(logged(decided)), 0)
    decisions = [
        msgspec.json.decode(r.value, type=Decision) for r in read_topic(decided.bootstrap, decided.decisions_topic)
    ]
    assert found["champion"] == decisions[0].model_version
    cells = np.bincount([min(int(d.score * CELLS), CELLS - 1) for d in decisions], minlength=CELLS)
    assert found["champion_scores"] == cells.tolist(), "the champion's scores are those of its decisions"


def test_logged_values_are_found_by_bisection(decided: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged_features, "SCAN_RECORDS", 16)
    plan = ProfilePlan.of(load_dataset(decided.dataset))
    records = read_topic(decided.bootstrap, decided.feature_log_topic)
    offsets = [msgspec.json.decode(r.value, type=FeatureRecord).input_offset for r in records if r.partition == 1]
    with FeatureLogReader(decided, plan) as reader:
        for offset in (offsets[300], offsets[7], offsets[8], offsets[-1]):
            assert (1, offset) in reader.read([(1, offset)], time.monotonic() + 20)
        assert (1, 10_000) not in reader.read([(1, 10_000)], time.monotonic() + 1)


def test_examples_of_an_alert_lie_in_the_bin_of_a_profile_feature(decided: Settings) -> None:
    dataset = load_dataset(decided.dataset)
    store = ChampionCache(decided, dataset)
    store.open()
    model, feature = store.current, "id_user_count_1d"
    column = model.bins.names.index(feature)
    log = logged(decided)
    place = ProfilePlan.of(dataset).names.index(feature)
    count_of = {r.transaction_id: float(np.frombuffer(r.values, "<f4")[place]) for r in log}
    transactions = read_topic(decided.bootstrap, decided.transactions_topic)
    policy = HandlerPolicy.from_settings(decided, dataset, counting=True)
    with FeatureLogReader(decided, ProfilePlan.of(dataset)) as reader:
        found = reader.read([(r.partition, r.offset) for r in transactions], time.monotonic() + 20)
        none = reader.read([(7, 0)], time.monotonic() + 1)
    coded = handle(transactions, model, policy, HandlerState(profiles=found)).coded
    assert coded is not None
    bins = model.bins.features[column].bin_of_code[coded.codes[coded.event_times_ms != NO_TIME_MS, column]]
    search = BinSearch(
        model_version=model.version,
        feature=feature,
        bin=int(np.bincount(bins).argmax()),
        since_ms=min(r.event_time_ms for r in log),
        until_ms=max(r.event_time_ms for r in log) + 1,
        offsets={},
    )
    examples = ids_in_bin(search, transactions, model, policy, found)
    once = {name for name, n in Counter(r.transaction_id for r in log).items() if n == 1}
    counts = {count_of[name] for name in once.intersection(examples)}
    others = {count_of[name] for name in once.difference(examples)}
    assert counts
    assert others
    assert counts.isdisjoint(others), "a count lies in one bin"
    assert ids_in_bin(search, transactions, model, policy, none) == []


def test_rules_are_tested_on_the_logged_values(decided: Settings, tmp_path: Path) -> None:
    # Of a transaction that was sent twice, the first one counts.
    records = {record.transaction_id: record for record in reversed(logged(decided))}
    column = ProfilePlan.of(load_dataset(decided.dataset)).names.index("id_user_count_1h")
    counts = {name: np.frombuffer(record.values, "<f4")[column] for name, record in records.items()}
    matched = {name for name, count in counts.items() if count >= 2}
    frauds = set(sorted(counts)[::7])
    now_ms = int(time.time() * 1000)
    producer = KafkaProducer(bootstrap_servers=decided.bootstrap)
    for name in counts:
        label = Label(transaction_id=name, fraud=name in frauds, reported_at_ms=now_ms)
        producer.send(decided.labels_topic, msgspec.json.encode(label))
    producer.close()
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rules]]\nid = "velocity"\nversion = 1\nwhen = "id_user_count_1h >= 2"\neffect = "review"\nreason = "many"\n'
    )
    code, output = tamiz(decided, "rules", "test", str(rules), "--json")
    assert code == 0, output
    found = json.loads(output)
    (rule,) = found["rules"]
    assert (found["transactions"], found["unlogged"], found["undecided"]) == (len(counts), 0, 0)
    outcomes = {d.transaction_id: d.outcome for d in reversed(decisions(decided))}
    declined = {name for name, outcome in outcomes.items() if outcome == "decline"}
    honest = set(counts) - declined
    assert len(matched) > 10
    assert (rule["matches"], rule["unknown"]) == (len(matched), 0)
    assert (rule["frauds"], rule["legitimate"]) == (len(matched & honest & frauds), len(matched & honest - frauds))
    assert found["labelled"] == len(honest)
    evidence = find_evidence(decided, read_rules_file(rules))
    assert evidence is not None
    assert evidence.matches == {"velocity": len(matched)}
    code, output = tamiz(decided, "rules", "test", str(rules))
    assert f"velocity version 1: shadow, review\n    matches       {len(matched)}, " in output
    assert code == 0


def decisions(settings: Settings) -> list[Decision]:
    read = read_to_end(settings.bootstrap, settings.decisions_topic)
    return [msgspec.json.decode(r.value, type=Decision) for records in read for r in records]


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


def test_a_decision_that_kafka_no_longer_holds_is_reproduced_with_its_archived_values(
    decided: Settings, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(decided, archive_root=str(tmp_path / "archive"))
    read = read_topic(settings.bootstrap, settings.feature_log_topic)  # in partition 0, with malformed records
    mine = [msgspec.json.decode(r.value, type=FeatureRecord) for r in read if r.partition == 1]
    record = max(mine, key=lambda r: np.nansum(np.frombuffer(r.values, "<f4")))
    archived = archive(settings, now_ms=int(time.time() * 1000) + 2 * DAY_MS)
    decisions = read_topic(settings.bootstrap, settings.decisions_topic)
    assert sum(f.records for f in archived.files if f.topic == settings.decisions_topic) == len(decisions)
    partitions = [TopicPartition(t, p) for t in (settings.decisions_topic, settings.feature_log_topic) for p in (0, 1)]
    with admin(settings.bootstrap) as client:
        client.delete_records(dict.fromkeys(partitions, -1))
    code, output = tamiz(settings, "explain", record.transaction_id, "--json")
    found = json.loads(output)
    assert (code, found["archived"], found["reproduced"]) == (0, True, True)
    values = np.array([np.nan if v is None else v for v in found["profile_features"].values()], np.float32)
    assert values.tobytes() == record.values
    with admin(settings.bootstrap) as client:
        client.delete_records({TopicPartition(settings.transactions_topic, p): -1 for p in (0, 1)})
    code, output = tamiz(settings, "explain", record.transaction_id)
    assert code == 0
    assert "gone: " in output
    assert "id_user_count_1d" in output
