"""Examples of an alert: which transactions are in the bin, and what happens if they cannot be read."""

import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.reference_profile import DEAD_LETTER
from monitoring.counting.windows import OffsetRange
from schemas.configuration.settings import load
from schemas.dataset.declaration import load_dataset
from schemas.records import DriftEvidence
from stream_app.decisions.handler import HandlerPolicy
from stream_app.monitor import alert_examples
from stream_app.monitor.alert_examples import AlertExamples, BinSearch, ids_in_bin
from tests.helpers.services.notification_servers import closed_port
from tests.helpers.traffic.invalid_payloads import payload
from tests.unit.monitoring.alerting.test_notification import ALERT as NOTIFIED
from tests.unit.stream_app.decisions.test_handler import records

EVIDENCE = DriftEvidence(
    feature="monto",
    window="1 h",
    psi=0.5,
    psi_lower_bound=0.4,
    tolerance=0.02,
    importance=0.1,
    share=1.0,
    labels=("(-inf, 1)", "[1, inf)", "missing"),
    reference=(0.5, 0.5, 0.0),
    current=(0.1, 0.9, 0.0),
)
ALERT = msgspec.structs.replace(NOTIFIED, features=("monto",), evidence=(EVIDENCE,))


@pytest.fixture(scope="module")
def model(champion_bundle: Path) -> MonitoredModel:
    return MonitoredModel.load(champion_bundle, version=1)


def found(model: MonitoredModel, feature: str, label: str, *values: bytes, **period: int) -> list[str]:
    """Ids of the values in a bin; their event time is 2020-01-05."""
    bins = model.bins.features[model.bins.names.index(feature)]
    search = BinSearch(
        model_version=1,
        feature=feature,
        bin=bins.labels.index(label),
        since_ms=period.get("since_ms", 0),
        until_ms=period.get("until_ms", 2**45),
        offsets={},
    )
    policy = HandlerPolicy.from_settings(load({}), load_dataset("card_transactions"), counting=True)
    return ids_in_bin(search, records(*values), model, policy)


def test_a_transaction_is_an_example_if_its_value_is_in_the_bin(model: MonitoredModel) -> None:
    values = [payload(genero=g) for g in ("F", "M", "--", "F")]
    assert found(model, "genero", "F", *values) == ["transactions-0-10", "transactions-1-13"]
    assert found(model, "genero", "missing", *values) == ["transactions-0-12"]
    assert found(model, "genero", "F", *values, until_ms=1_500_000_000_000) == []
    assert found(model, "genero", "F", *values, since_ms=1_700_000_000_000) == []


def test_a_dead_letter_is_an_example_of_dead_letters_only(model: MonitoredModel) -> None:
    values = [payload(), b"{", payload(monto="x")]
    assert found(model, DEAD_LETTER, "yes", *values) == ["transactions-1-11", "transactions-0-12"]
    assert found(model, DEAD_LETTER, "no", *values) == ["transactions-0-10"]
    assert len(found(model, "genero", "M", *values) + found(model, "genero", "F", *values)) == 1


def test_an_alert_without_a_broker_has_no_examples_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    missing: list[None] = []
    with closed_port() as port:
        settings = msgspec.structs.replace(load({}), bootstrap_servers=f"127.0.0.1:{port}")
        examples = AlertExamples(settings, lambda version: pytest.fail("not called"), add_none(missing))
        for _ in range(2):
            assert examples.add_to([ALERT], lambda since_ms, until_ms: {0: OffsetRange(0, 9)}) == (ALERT,)
    assert len(missing) == 2
    assert ["no Kafka broker responds" in r.message for r in caplog.records] == [True, False], "the second is not tried"


def add_none(found: list[None]) -> Any:
    return lambda: found.append(None)


def test_a_search_that_hangs_delays_an_alert_by_its_bound_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_examples, "MAX_WAIT_S", 0.1)
    released = threading.Event()
    examples = AlertExamples(load({}), lambda version: pytest.fail("not called"), add_none([]))
    monkeypatch.setattr(examples, "_find", lambda searches, found: released.wait(10))
    began = time.monotonic()
    for _ in range(20):
        assert examples.add_to([ALERT], lambda since_ms, until_ms: {}) == (ALERT,)
    assert time.monotonic() - began < 2
    released.set()


@pytest.mark.parametrize("changes", [{"change": "closed"}, {"kind": "attack"}, {"kind": "burst"}])
def test_alerts_that_need_no_search_keep_their_examples(changes: dict[str, Any]) -> None:
    alert = msgspec.structs.replace(ALERT, examples=("t-1",), **changes)
    examples = AlertExamples(load({}), lambda version: pytest.fail("not called"), lambda: pytest.fail("not missing"))
    assert examples.add_to([alert], lambda since_ms, until_ms: pytest.fail("not asked")) == (alert,)
