"""Promotion: gate and comparison decide who becomes champion, and the log keeps every transition."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from schemas.promotion_log import Change, VersionTransition
from tests.helpers.bundles.small_bundle import small_bundle
from tests.helpers.traffic.scored_fixtures import PLAN, month, train_model
from training.evaluation.backtest_window import last_days
from training.evaluation.bootstrap import Interval
from training.evaluation.skill_gate import GateResult
from training.evaluation.version_comparison import Comparison, MetricComparison
from training.registry import mlflow_registry, version_transitions
from training.registry.promotion import (
    Champion,
    PromotionDecision,
    apply_decision,
    compare_with_champion,
    evaluate_challenger,
    promote_manually,
)
from training.registry.version_transitions import champion_line

SKILL = GateResult(status="skill", reasons=("ROC AUC is above 0.5",))
NO_SKILL = GateResult(status="no skill", reasons=("ROC AUC is not significantly above 0.5",))
LEAKAGE = GateResult(status="suspected leakage", reasons=("city alone has a ROC AUC of 1",))
UNEVALUATED = GateResult(status="not enough matured labels", reasons=("3 frauds",))


def against(
    auc: tuple[float, float],
    ap: tuple[float, float] = (-0.1, 0.1),
    *,
    cards: tuple[float, float] = (-0.1, 0.1),
    value: tuple[float, float] = (-0.1, 0.1),
    days: int = 7,
    forced: bool = False,
) -> Champion:
    """The champion, version 1, with the interval of the challenger's difference from it."""
    differences = {"roc_auc": auc, "average_precision": ap, "card_precision": cards, "value_detected": value}
    metrics = tuple(
        MetricComparison(metric=name, this=0.8, other=0.7, difference=Interval(sum(bounds) / 2, *bounds))
        for name, bounds in differences.items()
    )
    compared = Comparison(version=2, other=1, n=3000, frauds=90, metrics=metrics, reviews_per_day=50, days=days)
    return Champion(version=1, forced=forced, comparison=compared)


FEW_LABELS = Champion(
    version=1,
    forced=False,
    comparison=Comparison(
        version=2, other=1, n=40, frauds=3, metrics=(), reviews_per_day=50, days=7, reason="3 frauds among 40 rows"
    ),
)
INCOMPARABLE = Champion(version=1, forced=False, comparison=None, incomparable="it reads the data set 'boxes'")


@pytest.mark.parametrize(
    ("gate", "champion", "status"),
    [
        pytest.param(SKILL, None, "promoted", id="skill, and no champion yet"),
        pytest.param(NO_SKILL, None, "retained", id="no skill, and no champion yet"),
        pytest.param(LEAKAGE, None, "retained", id="a feature is the label, and no champion yet"),
        pytest.param(SKILL, against((0.01, 0.09)), "promoted", id="significantly better"),
        pytest.param(SKILL, against((-0.01, 0.09)), "retained", id="perhaps better"),
        pytest.param(SKILL, against((0.0, 0.0)), "retained", id="the same model again"),
        pytest.param(SKILL, against((0.01, 0.09), (-0.3, -0.1)), "retained", id="better ranking, worse at the top"),
        pytest.param(SKILL, against((0.01, 0.09), cards=(-0.3, -0.1)), "retained", id="finds fewer cards"),
        pytest.param(SKILL, against((0.01, 0.09), value=(-0.3, -0.1)), "retained", id="finds less value"),
        pytest.param(
            SKILL, against((0.01, 0.09), cards=(-0.3, 0.1), value=(-0.3, 0.0)), "promoted", id="perhaps fewer"
        ),
        pytest.param(SKILL, against((0.01, 0.09), cards=(-0.3, -0.1), days=5), "promoted", id="fewer, on too few days"),
        pytest.param(NO_SKILL, against((0.01, 0.09)), "retained", id="better than the champion, yet without skill"),
        pytest.param(UNEVALUATED, against((0.01, 0.09)), "not enough matured labels", id="too few labels for the gate"),
        pytest.param(SKILL, FEW_LABELS, "not enough matured labels", id="too few labels for the comparison"),
        pytest.param(SKILL, INCOMPARABLE, "awaiting approval", id="cannot be compared"),
        pytest.param(SKILL, against((-0.01, 0.09), forced=True), "promoted", id="against a forced one without skill"),
        pytest.param(SKILL, against((-0.2, -0.1), forced=True), "retained", id="worse than a forced one"),
    ],
)
def test_only_a_proven_gain_makes_a_champion(gate: GateResult, champion: Champion | None, status: str) -> None:
    decision = evaluate_challenger(gate, champion)
    assert decision.status == status
    assert "\n" not in decision.summary
    assert decision.summary.endswith(".")


def test_the_decision_names_the_metric_that_is_worse_and_all_that_were_compared() -> None:
    summary = evaluate_challenger(SKILL, against((0.01, 0.09), cards=(-0.3, -0.1))).summary
    assert summary == (
        "It is significantly worse than the champion, version 1 in card precision@50: ROC AUC 0.8000 against 0.7000 "
        "(difference +0.0100 to +0.0900), average precision 0.8000 against 0.7000 (difference -0.1000 to +0.1000), "
        "card precision@50 0.8000 against 0.7000 (difference -0.3000 to -0.1000), value detected at 50 reviews a day "
        "0.8000 against 0.7000 (difference -0.1000 to +0.1000), on the same 3,000 rows."
    )
    few_days = evaluate_challenger(SKILL, against((0.01, 0.09), days=5)).summary
    assert "card precision" not in few_days
    assert "value detected" not in few_days


def test_the_lower_bound_must_exceed_the_margin() -> None:
    assert evaluate_challenger(SKILL, against((0.02, 0.09)), margin=0.01).status == "promoted"
    assert evaluate_challenger(SKILL, against((0.02, 0.09)), margin=0.02).status == "retained"


@pytest.mark.parametrize("champion", [None, against((0.01, 0.09)), against((0.0, 0.1), forced=True)])
def test_by_approval_what_would_be_promoted_waits_for_a_person(champion: Champion | None) -> None:
    assert evaluate_challenger(SKILL, champion, by_approval=True).status == "awaiting approval"
    assert evaluate_challenger(NO_SKILL, champion, by_approval=True).status == "retained"


#  promoted 1, 2, 3;  back: 2;  back: 1;  promoted 4;  back: 1
def transition(change: Change, version: int) -> VersionTransition:
    return VersionTransition(change=change, version=version, previous=None, reason="", evidence=None, by="a", at="")


def test_rolling_back_walks_down_the_line_of_champions() -> None:
    log = [transition("promoted", 1), transition("retained", 9), transition("promoted", 2), transition("promoted", 3)]
    assert champion_line(log) == [1, 2, 3]
    assert champion_line([*log, transition("rolled-back", 2)]) == [1, 2]
    assert champion_line(
        [*log, *(transition("rolled-back", version) for version in (2, 1)), transition("promoted", 4)]
    ) == [
        1,
        4,
    ]
    assert champion_line([*log, transition("promoted", 1)]) == [1, 2, 3, 1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    small_bundle(folder / "bundle")
    (folder / "evaluation").mkdir()
    return folder / "bundle"


@pytest.fixture
def settings(tmp_path: Path, bundle: Path) -> Settings:
    """Three versions: 1 and 2 have skill, 3 has none."""
    settings = Settings(state_dir=tmp_path, model_name="small")
    for gate_status in ("skill", "skill", "no skill"):
        mlflow_registry.register(
            settings,
            bundle,
            report=bundle.parent / "evaluation",
            metrics={},
            params={},
            tags={"gate_status": gate_status},
        )
    return settings


def test_every_transition_is_logged_with_actor_time_reason_and_evidence(settings: Settings) -> None:
    decision = PromotionDecision(status="promoted", summary="It is better.")
    apply_decision(settings, 1, decision)
    apply_decision(
        settings,
        2,
        PromotionDecision(status="retained", summary="It is not better."),
        correlation_id="a-loop",
        by="retrainer",
    )
    promote_manually(settings, 2, "we know better")
    version_transitions.rollback(settings, "it alerted on everything")
    version_transitions.reject(settings, 2, "never again")
    logged = version_transitions.history(settings)
    assert [(m.change, m.version, m.previous) for m in logged] == [
        ("promoted", 1, None),
        ("retained", 2, 1),
        ("promoted", 2, 1),
        ("rolled-back", 1, 2),
        ("rejected", 2, 1),
    ]
    assert (logged[0].evidence, logged[1].correlation_id, logged[1].by) == ("It is better.", "a-loop", "retrainer")
    assert logged[4].reason == "never again"
    assert [m.at for m in logged] == sorted(m.at for m in logged)
    assert mlflow_registry.champion(settings) == 1
    assert [(v.version, v.status) for v in version_transitions.versions(settings)] == [
        (3, "registered"),
        (2, "rejected"),
        (1, "champion"),
    ]


def test_the_challenger_is_challenger_until_it_is_promoted_or_rejected(settings: Settings) -> None:
    def status(version: int) -> str:
        return next(v.status for v in version_transitions.versions(settings) if v.version == version)

    wait = PromotionDecision(status="awaiting approval", summary="It waits.")
    for version in (1, 2):
        apply_decision(settings, version, wait)
        assert status(version) == "challenger"
    promote_manually(settings, 2, "it convinced us")
    assert (status(1), status(2)) == ("registered", "champion")
    apply_decision(settings, 1, wait)
    version_transitions.reject(settings, 1, "it did not")
    assert (status(1), status(2)) == ("rejected", "champion")


def test_a_version_without_skill_is_not_promoted_manually_either(settings: Settings) -> None:
    with pytest.raises(ModelUnavailableError, match=r"version 3 did not pass the skill gate \(no skill\) .*--force"):
        promote_manually(settings, 3, "please")
    with pytest.raises(ModelUnavailableError, match="no version 7"):
        promote_manually(settings, 7, "a typing error")
    assert (mlflow_registry.champion(settings), version_transitions.history(settings)) == (None, [])


def test_without_a_champion_before_there_is_nothing_to_roll_back_to(settings: Settings) -> None:
    with pytest.raises(ModelUnavailableError, match="nothing to roll back to"):
        version_transitions.rollback(settings, "?")
    version_transitions.promote(settings, 1, "the first")
    with pytest.raises(ModelUnavailableError, match="nothing to roll back to"):
        version_transitions.rollback(settings, "?")
    with pytest.raises(ModelUnavailableError, match="is champion and cannot be rejected"):
        version_transitions.reject(settings, 1, "?")
    assert [m.version for m in version_transitions.history(settings)] == [1]


def test_two_models_are_compared_on_the_rows_of_the_last_week(tmp_path: Path) -> None:
    history = month()
    week = last_days(history.event_time_ms)
    good, bad = tmp_path / "good", tmp_path / "bad"
    challenger = train_model(good, history, 2)
    noise = np.random.default_rng(0).permutation(history.fraud)
    train_model(bad, history._replace(fraud=noise), 1)
    settings = Settings(state_dir=tmp_path / "state", model_name="simulated")
    assert compare_with_champion(settings, challenger, history, week, PLAN) == (None, None)
    (tmp_path / "evaluation").mkdir()
    mlflow_registry.register(settings, bad, report=tmp_path / "evaluation", metrics={}, params={}, tags={})
    version_transitions.promote(settings, 1, "the first")
    champion, other = compare_with_champion(settings, challenger, history, week, PLAN)
    assert champion is not None
    assert champion.comparison is not None
    assert (champion.version, champion.comparison.n, other and other.version) == (1, len(week.all_rows), 1)
    assert evaluate_challenger(SKILL, champion).status == "promoted"
    by_day = {m.metric: m.difference.low > 0 for m in champion.comparison.metrics[-3:]}
    assert by_day == {"card_precision": True, "transaction_precision": True, "value_detected": True}
    assert champion.comparison.days == 7
    few_labels = np.where(np.arange(len(history.fraud)) % 50 == 0, history.fraud, np.nan)
    few, _ = compare_with_champion(settings, challenger, history._replace(fraud=few_labels), week, PLAN)
    assert evaluate_challenger(SKILL, few).status == "not enough matured labels"


def test_a_champion_of_another_data_set_is_left_to_a_person(tmp_path: Path) -> None:
    history = month()
    settings = Settings(state_dir=tmp_path / "state", model_name="simulated")
    folder = tmp_path / "bundle"
    challenger = train_model(folder, history, 2)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest | {"dataset": "boxes"}))
    (tmp_path / "evaluation").mkdir()
    mlflow_registry.register(settings, folder, report=tmp_path / "evaluation", metrics={}, params={}, tags={})
    version_transitions.promote(settings, 1, "the first")
    champion, other = compare_with_champion(settings, challenger, history, last_days(history.event_time_ms), PLAN)
    assert other is None
    decision = evaluate_challenger(SKILL, champion)
    assert (decision.status, "boxes" in decision.summary) == ("awaiting approval", True)
