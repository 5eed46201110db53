"""Fixtures that several test files share."""

import csv
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import msgspec
import pytest

from schemas.configuration.settings import Settings, load
from tamiz.dev_broker.embedded_broker import broker_or_embedded
from tamiz.simulation.payload_formats import write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train
from training.registry.mlflow_registry import champion, download_bundle

# A broker of a test lives for minutes: optimising compilation costs it more than it gains.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# The duration of an example depends on the load of the machine.
hypothesis.settings.register_profile("any-load", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any-load")

REAL_CSV = Path(__file__).parent.parent.parent / "shared" / "data" / "card_transactions.csv"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that the short ones fill the gaps at the end: files that use a broker, then trainings.

    With `--dist loadfile --no-loadscope-reorder`, processes take the files in this order.
    """
    with_broker = {item.path for item in items if item.get_closest_marker("kafka")}

    def rank(item: pytest.Item) -> int:
        if item.path in with_broker:
            return 0
        return 1 if "tests/unit/training/" in item.nodeid else 2

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo the logging set-up of commands that a test runs in this process: their stream is closed afterwards."""
    root, kafka_log = logging.getLogger(), logging.getLogger("kafka")
    handlers, levels = root.handlers[:], (root.level, kafka_log.level)
    yield
    for handler in root.handlers[:]:
        if handler not in handlers and not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
    root.setLevel(levels[0])
    kafka_log.setLevel(levels[1])


@pytest.fixture(scope="session")
def real_csv() -> Path:
    """The real card data set. It may not be published; tests that need it are skipped without it."""
    if not REAL_CSV.is_file():
        pytest.skip("the real data set is not part of the project")
    return REAL_CSV


@dataclass(frozen=True)
class Kafka:
    """Address of the broker for tests."""

    bootstrap_servers: str


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A real Kafka: the embedded one, or the cluster that TAMIZ_BOOTSTRAP_SERVERS names."""
    with broker_or_embedded(load()) as bootstrap:
        yield Kafka(bootstrap)


@pytest.fixture(scope="session")
def real_payloads(real_csv: Path) -> list[bytes]:
    """The real rows as a producer sends them: JSON objects of strings, in the file's order."""
    with real_csv.open(encoding="utf-8-sig", newline="") as file:
        return [json.dumps(row).encode() for row in csv.DictReader(file, delimiter=";")]


@pytest.fixture(scope="session")
def real_registry(real_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a local registry with a champion that was trained on the real file and forced."""
    settings = msgspec.structs.replace(load({}), state_dir=tmp_path_factory.mktemp("state"))
    train(settings, real_csv, force="the real labels are noise, and tests need a champion")
    return settings


@pytest.fixture(scope="session")
def simulated_registry(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a local registry with a champion that passed the skill gate, on 29 simulated days with a signal."""
    settings = msgspec.structs.replace(load({}), state_dir=tmp_path_factory.mktemp("simulated"))
    past = Traffic(rows=20_000, seed=1, signal=True)
    write(past, simulate(past), settings.state_dir / "history.csv")
    assert train(settings, settings.state_dir / "history.csv").champion
    return settings


@pytest.fixture(scope="session")
def champion_bundle(real_registry: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the champion in `real_registry`."""
    folder = tmp_path_factory.mktemp("champion")
    version = champion(real_registry)
    assert version is not None
    return download_bundle(real_registry, version, folder)
