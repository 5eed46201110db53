"""Fixtures that several test files share."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from schemas.configuration.settings import Settings, load
from tamiz.dev_broker.embedded_broker import broker_or_embedded
from tamiz.simulation.payload_formats import write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train
from training.registry.mlflow_registry import champion, download_bundle

REAL_CSV = Path(__file__).parent.parent.parent / "shared" / "data" / "card_transactions.csv"


@pytest.fixture(scope="session")
def real_csv() -> Path:
    """The real card data set; it is not ours to publish, so whoever lacks it skips the tests that need it."""
    if not REAL_CSV.is_file():
        pytest.skip("the real data set stands beside the project, not in it")
    return REAL_CSV


@dataclass(frozen=True)
class Kafka:
    """A broker to test on."""

    bootstrap_servers: str


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A real Kafka: the embedded one, or the cluster that TAMIZ_BOOTSTRAP_SERVERS names."""
    with broker_or_embedded(load()) as bootstrap:
        yield Kafka(bootstrap)


@pytest.fixture(scope="session")
def real_payloads(real_csv: Path) -> list[bytes]:
    """The real rows as a producer sends them: JSON objects of texts, in the file's order."""
    with real_csv.open(encoding="utf-8-sig", newline="") as file:
        return [json.dumps(row).encode() for row in csv.DictReader(file, delimiter=";")]


@pytest.fixture(scope="session")
def trained(real_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose local registry has a champion, trained on the real file."""
    settings = msgspec.structs.replace(load({}), state_dir=tmp_path_factory.mktemp("state"))
    train(settings, real_csv, force="the real labels are noise, and tests need a champion")
    return settings


@pytest.fixture(scope="session")
def skilled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose local registry has a champion that earned it, on 29 simulated days with a signal."""
    settings = msgspec.structs.replace(load({}), state_dir=tmp_path_factory.mktemp("skilled"))
    past = Traffic(rows=20_000, seed=1, signal=True)
    write(past, simulate(past), settings.state_dir / "history.csv")
    assert train(settings, settings.state_dir / "history.csv").champion
    return settings


@pytest.fixture(scope="session")
def champion_bundle(trained: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That champion's bundle."""
    folder = tmp_path_factory.mktemp("champion")
    version = champion(trained)
    assert version is not None
    return download_bundle(trained, version, folder)
