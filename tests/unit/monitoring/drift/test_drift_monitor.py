"""From transactions to alerts: no alert without drift, an alert with the right cause for each kind of drift."""

from collections import Counter

import msgspec
import pytest

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.drift.drift_monitor import DriftEvaluation
from monitoring.drift.reference import DriftReference, load_reference
from schemas.configuration.settings import Settings
from schemas.time_units import DAY_MS, HOUR_MS
from tamiz.simulation.drift_injection import ATTACKED_CARDS
from tests.helpers.traffic.drift_simulation import (
    ROWS_PER_DAY,
    SHIFT_DAY,
    SHIFT_MS,
    alerts_of,
    records_of,
    requests_of,
    simulate_monitoring,
    traffic,
)
from training.registry.mlflow_registry import download_bundle


@pytest.fixture(scope="module")
def champion(
    simulated_registry: Settings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MonitoredModel, DriftReference]:
    folder = download_bundle(simulated_registry, 1, tmp_path_factory.mktemp("bundle"))
    return MonitoredModel.load(folder, 1), load_reference(folder)


Champion = tuple[MonitoredModel, DriftReference]


def evaluations(champion: Champion, kind: str | None, strength: float | None = None) -> list[DriftEvaluation]:
    return simulate_monitoring(records_of(traffic(kind, strength)), *champion)


@pytest.fixture(scope="module")
def quiet(champion: Champion) -> list[DriftEvaluation]:
    return evaluations(champion, None)


@pytest.fixture(scope="module")
def shifted(champion: Champion) -> list[DriftEvaluation]:
    return evaluations(champion, "mean-shift")


def test_where_nothing_moves_nothing_is_said(quiet: list[DriftEvaluation]) -> None:
    assert len(quiet) > 500
    assert alerts_of(quiet) == []
    assert requests_of(quiet) == []


def test_a_shifted_amount_is_heard_within_a_day_as_one_incident_with_its_follower(
    shifted: list[DriftEvaluation],
) -> None:
    opened = [a for a in alerts_of(shifted) if a.change == "opened"]
    assert (opened[0].features, opened[0].kind) == (("monto",), "shift")
    assert {f for a in opened[1:] for f in a.features} <= {"dcto"}, "a share of the amount, too: nothing else moved"
    assert SHIFT_MS < opened[0].happened_at_ms < SHIFT_MS + DAY_MS
    assert opened[0].incident_id == f"m-1-monto-{opened[0].opened_at_ms}"
    assert {a.incident_id for a in alerts_of(shifted) if "cashback" in a.features} == {opened[0].incident_id}


def test_an_alert_can_be_drawn_and_followed_up(shifted: list[DriftEvaluation]) -> None:
    alert = alerts_of(shifted)[0]
    (evidence,) = alert.evidence
    assert len(evidence.labels) == len(evidence.reference) == len(evidence.current)
    assert sum(evidence.reference) == pytest.approx(1)
    assert sum(evidence.current) == pytest.approx(1)
    assert 0 < evidence.share <= 1
    assert 0 < evidence.importance < 1
    assert alert.examples == (), "the shell adds them: they are read from `transactions`"
    assert "monto moved" in alert.summary


def test_a_shift_that_lasts_asks_for_one_training(shifted: list[DriftEvaluation]) -> None:
    (request,) = requests_of(shifted)
    assert request.cause == "input-drift"
    assert alerts_of(shifted)[0].incident_id in request.incidents
    assert {"monto", "cashback"} <= set(request.features)
    assert request.requested_at_ms >= SHIFT_MS + 6 * HOUR_MS
    assert request.until_ms - request.from_ms == 90 * DAY_MS


@pytest.mark.parametrize("kind", ["missing", "lost-decimals", "new-category"])
def test_a_broken_pipeline_is_a_data_incident_and_never_retrains(champion: Champion, kind: str) -> None:
    found = evaluations(champion, kind)
    assert {a.kind for a in alerts_of(found)} == {"data"}
    assert requests_of(found) == []


def test_an_attack_by_a_few_cards_alerts_people_and_never_retrains(champion: Champion) -> None:
    found = evaluations(champion, "attack", 0.15)
    assert "attack" in {a.kind for a in alerts_of(found)}
    assert "critical" in {a.severity for a in alerts_of(found) if a.kind == "attack"}
    assert requests_of(found) == []
    of_attack = [a for a in alerts_of(found) if a.kind == "attack"]
    cards = Counter(r.key.decode() for r in records_of(traffic("attack", 0.15)))
    assert set(of_attack[-1].cards) == {card for card, _ in cards.most_common(ATTACKED_CARDS)}


def test_dead_letters_beyond_the_usual_are_a_data_incident(champion: Champion) -> None:
    records = [
        r._replace(value=b"{") if i > SHIFT_DAY * ROWS_PER_DAY and i % 20 == 0 else r
        for i, r in enumerate(records_of(traffic(days=SHIFT_DAY + 2)))
    ]
    (alert,) = (a for a in alerts_of(simulate_monitoring(records, *champion)) if a.change == "opened")
    assert (alert.features, alert.kind) == (("dead-letter",), "data")


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_however_many_workers_count_the_reports_are_the_same(champion: Champion, workers: int) -> None:
    records = records_of(traffic("mean-shift", days=SHIFT_DAY + 1))[: (SHIFT_DAY + 1) * ROWS_PER_DAY]
    assert wire(simulate_monitoring(records, *champion, workers=workers, seed=workers)) == wire(
        simulate_monitoring(records, *champion)
    )


def wire(evaluations: list[DriftEvaluation]) -> list[bytes]:
    """But for what is not of the counted minutes alone: late rows, cursors and decisions so far."""
    return [
        msgspec.json.encode(
            msgspec.structs.replace(e.report, late=0, performance=None, skew_ms=0, skewed=(), burst_share=0.0)
        )
        for e in evaluations
    ]
