"""`tamiz shadow` compares a challenger with the champion and publishes no decision."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kafka import KafkaProducer

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.performance.shadow import Shadow
from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from scoring.input.cleaning import clean_payloads
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings
from tests.helpers.traffic.scored_fixtures import month, train_model

DATASET = load_dataset("card_transactions")


def test_a_model_agrees_with_itself(champion_bundle: Path, real_payloads: list[bytes]) -> None:
    model = MonitoredModel.load(champion_bundle, 1)
    shadow = Shadow(model, model)
    for start in (0, 1000):
        values = [*real_payloads[start : start + 1000], b"no JSON"]
        shadow.update(clean_payloads(DATASET, values, max_payload_bytes=65_536))
    report = shadow.report()
    assert (report.transactions, report.rejected) == (2000, 2)
    assert (report.agreement, report.mean_difference) == (1.0, 0.0)
    assert report.champion_scores == report.challenger_scores
    assert sum(report.champion_scores) == 2000


def test_differences_between_two_models_are_counted_by_outcome(
    champion_bundle: Path, real_payloads: list[bytes], tmp_path: Path
) -> None:
    champion, other = MonitoredModel.load(champion_bundle, 1), train_model(tmp_path, month(), version=2)
    shadow = Shadow(champion, other)
    shadow.update(clean_payloads(DATASET, real_payloads[:3000], max_payload_bytes=65_536))
    report = shadow.report()
    assert sum(map(sum, report.outcomes)) == 3000
    assert report.agreement is not None
    assert 0 < report.agreement < 1
    assert report.agreement == sum(report.outcomes[i][i] for i in range(3)) / 3000
    assert report.champion_scores != report.challenger_scores


def test_without_transactions_the_report_is_empty(champion_bundle: Path) -> None:
    model = MonitoredModel.load(champion_bundle, 1)
    assert Shadow(model, model).report().agreement is None


@pytest.mark.kafka
def test_the_command_compares_the_records_of_the_topic(
    kafka: Kafka, real_registry: Settings, real_payloads: list[bytes], tmp_path: Path
) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, real_registry.state_dir)
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap)
    for value in real_payloads[:500]:
        producer.send(settings.transactions_topic, value=value)
    producer.close()
    command = [sys.executable, "-m", "tamiz", "shadow", "--json", "--from-beginning", "--limit", "500"]
    done, refused = (
        subprocess.run(c, env=child_environment(settings), cwd=tmp_path, capture_output=True, text=True, timeout=120)
        for c in ([*command, "--version", "1"], command)
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["transactions"], report["agreement"]) == (500, 1.0)
    assert refused.returncode == 2
    assert "no challenger; name a version with --version" in refused.stderr
