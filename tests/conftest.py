"""Fixtures that several test files share."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.settings import load
from stream_app.broker import broker_or_embedded

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
