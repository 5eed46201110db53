"""The retrain policy: which drift requests a training, and how often. Times are hours."""

import pytest

from monitoring.alerting.incidents import Incident
from monitoring.alerting.retrain_policy import RetrainRequest, RetrainState, evaluate_policy
from monitoring.drift.evidence import FeatureEvidence
from schemas.time_units import HOUR_MS

DAY = 24


def evidence(feature: str, bound: float, importance: float = 0.2) -> FeatureEvidence:
    return FeatureEvidence(
        feature=feature,
        alarmed=True,
        window="24 h",
        psi=bound,
        psi_lower_bound=bound,
        tolerance=0.02,
        reference=(0.5, 0.5),
        current=(0.6, 0.4),
        labels=("low", "missing"),
        importance=importance,
    )


def incident(kind: str) -> Incident:
    return Incident(
        incident_id=1,
        opened_at_ms=0,
        features=("monto",),
        kind=kind,  # type: ignore[arg-type]
        severity="critical",
        summary="",
    )


SCORE = [evidence("score", 0.15)]
INPUTS = [evidence("monto", 0.12), evidence("hour", 0.11)]
CALM = [evidence("score", 0.05), evidence("monto", 0.3)]


def asked(*evaluations: tuple[float, list[FeatureEvidence]], **also: object) -> list[RetrainRequest | None]:
    """The request of each evaluation; evaluations: hour and the 24 h window's evidence."""
    watch, found = RetrainState(), []
    for hour, seen in evaluations:
        watch, request = evaluate_policy(
            watch,
            seen,
            also.get("incidents", ()),
            round(hour * HOUR_MS),
            model="cards",
            model_version=3,
            **{k: v for k, v in also.items() if k != "incidents"},
        )  # type: ignore[arg-type]
        found.append(request)
    return found


#  hour       0 ........ 5 ........ 6
#  score     .15        .15        .15
#                                  request
@pytest.mark.parametrize(("seen", "cause"), [(SCORE, "score-drift"), (INPUTS, "input-drift")], ids=["score", "inputs"])
def test_drift_that_lasts_asks_for_training_once(seen: list[FeatureEvidence], cause: str) -> None:
    found = asked((0, seen), (5, seen), (6, seen), (7, seen), (100, seen))
    assert [r is not None for r in found] == [False, False, True, False, False]
    assert found[2] is not None
    assert found[2].cause == cause
    assert found[2].correlation_id == f"cards-{cause}-{6 * HOUR_MS}"
    assert found[2].features == tuple(e.feature for e in seen)


def test_drift_that_pauses_begins_anew() -> None:
    assert asked((0, SCORE), (5, CALM), (6, SCORE), (11, SCORE)) == [None] * 4


@pytest.mark.parametrize(
    "seen",
    [[evidence("monto", 0.5)], [evidence("monto", 0.5), evidence("hour", 0.5, importance=0.01)], CALM],
    ids=["one input", "one important input", "score below the bound"],
)
def test_a_single_input_is_not_worth_a_training(seen: list[FeatureEvidence]) -> None:
    assert asked((0, seen), (48, seen)) == [None, None]


def test_a_performance_alarm_asks_at_once() -> None:
    found = asked((3, CALM), performance_alarm="recall fell from 0.61 to 0.44 on 812 matured labels")
    assert found[0] is not None
    assert (found[0].cause, found[0].reason[:11]) == ("performance", "recall fell")


@pytest.mark.parametrize("alarm", [None, "recall fell"])
def test_a_data_incident_vetoes(alarm: str | None) -> None:
    assert asked((0, SCORE), (48, SCORE), incidents=[incident("data")], performance_alarm=alarm) == [None, None]
    assert asked((0, SCORE), (48, SCORE), incidents=[incident("shift")])[1] is not None


def test_what_looks_like_an_attack_is_left_to_people() -> None:
    assert asked((0, SCORE), (48, SCORE), suspected_attack=True) == [None, None]


def test_after_a_cool_off_lasting_drift_asks_again_as_a_new_loop() -> None:
    found = asked((0, SCORE), (6, SCORE), (6 + 7 * DAY, SCORE))
    assert [r is not None for r in found] == [False, True, True]
    assert found[1] is not None
    assert found[2] is not None
    assert found[1].correlation_id != found[2].correlation_id
