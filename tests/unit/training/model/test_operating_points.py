"""Operating points on rows whose optimal points are known."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from sklearn.metrics import fbeta_score

from schemas.configuration.settings import load
from schemas.errors import ConfigError
from scoring.decision import OUTCOMES, outcome_codes
from training.evaluation.metrics import CostMatrix, losses, outcome_costs, rank
from training.model.operating_points import (
    UNREACHABLE_THRESHOLD,
    PointPolicy,
    choose_points,
    f2_optimum,
    points_by_budget,
    score_at_budget,
)


def calibrated_rows(n=4000, seed=0):
    """Labels drawn from probabilities with mean 3 % and a long tail; and these probabilities."""
    rng = default_rng(seed)
    scores = rng.beta(0.06, 1.94, n)
    return (rng.random(n) < scores).astype(float), scores


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=30))
def test_the_f2_optimum_is_the_best_of_all_thresholds(rows):
    labels = np.array([float(fraud) for fraud, _ in rows])
    scores = np.array([score / 8 for _, score in rows])
    threshold = f2_optimum(rank(labels, scores))
    if not labels.any():
        assert threshold == UNREACHABLE_THRESHOLD
        return
    best = max(fbeta_score(labels, scores >= t, beta=2, zero_division=0) for t in np.unique(scores))
    assert fbeta_score(labels, scores >= threshold, beta=2) == pytest.approx(best)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(1, 300)), min_size=1, max_size=25),
    wrong_decline=st.sampled_from([0.0, 2.0, 20.0, 200.0]),
)
def test_the_cost_policy_finds_the_cheapest_pair(rows, wrong_decline):
    labels = np.array([float(fraud) for fraud, _, _ in rows])
    scores = np.array([score / 6 for _, score, _ in rows])
    amounts = np.array([float(amount) for _, _, amount in rows])
    if not labels.any():
        labels[0] = 1.0
    costs = CostMatrix(wrong_decline=wrong_decline, review=5, missed_fraud_fixed=0)
    policy = PointPolicy(method="cost", costs=costs, max_alerts=1.0, min_declines=1)

    def cost(review, decline):
        points = msgspec.structs.replace(chosen.points, review=review, decline=decline)
        return outcome_costs(labels, scores, points, costs, losses(costs, len(labels), amounts)).sum()

    chosen = choose_points(labels, scores, policy, amounts)
    candidates = [*np.unique(scores), UNREACHABLE_THRESHOLD]
    cheapest = min(cost(r, d) for r in candidates for d in candidates if r <= d)
    assert cost(chosen.points.review, chosen.points.decline) == pytest.approx(cheapest)


def test_the_f2_policy_works_where_no_score_is_near_one_half():
    labels, scores = calibrated_rows()
    scores = scores / 4  # still ordered, never above 0.25
    chosen = choose_points(labels, scores, PointPolicy(method="f2"))
    assert 0 < chosen.points.review < 0.25
    assert chosen.points.review == chosen.f2_threshold
    assert np.mean(scores >= chosen.points.review) <= 0.2


def test_the_f2_policy_declines_where_alerts_are_mostly_fraud():
    labels, scores = calibrated_rows()
    chosen = choose_points(labels, scores, PointPolicy(method="f2"))
    assert chosen.points.review < chosen.points.decline < 1
    assert labels[scores >= chosen.points.decline].mean() > 0.5
    noise = choose_points(default_rng(1).permutation(labels), scores, PointPolicy(method="f2"))
    assert noise.points.decline == UNREACHABLE_THRESHOLD
    assert "decline never" in noise.reason


def test_without_skill_f2_stops_at_the_alert_limit():
    labels, scores = calibrated_rows()
    chosen = choose_points(default_rng(1).permutation(labels), scores, PointPolicy(method="f2", max_alerts=0.1))
    assert np.mean(scores >= chosen.points.review) <= 0.1
    assert "without that limit" in chosen.reason
    assert np.mean(scores >= chosen.f2_threshold) > 0.1


def test_the_cost_policy_declines_only_on_enough_rows():
    labels, scores = calibrated_rows()
    chosen = choose_points(labels, scores, PointPolicy(method="cost", min_declines=15))
    assert chosen.points.review <= chosen.points.decline
    assert chosen.points.decline == UNREACHABLE_THRESHOLD or np.sum(scores >= chosen.points.decline) >= 15


def test_the_budget_is_kept_also_with_ties():
    labels, scores = calibrated_rows()
    for given_scores in (scores, scores.round(2), scores.round(1)):
        policy = PointPolicy(method="budget", review_budget=0.05, decline_budget=0.01)
        chosen = choose_points(labels, given_scores, policy)
        codes = outcome_codes(given_scores, chosen.points)
        assert np.mean(codes >= 1) <= 0.05
        assert np.mean(codes == 3) <= 0.01
    assert points_by_budget(scores, review=0.01, decline=0.05).decline == score_at_budget(scores, 0.01)


def test_fixed_points_are_taken_as_they_are():
    chosen = choose_points(
        *calibrated_rows(), PointPolicy(method="fixed", review_threshold=0.9, decline_threshold=UNREACHABLE_THRESHOLD)
    )
    assert (chosen.points.review, chosen.points.decline) == (0.9, UNREACHABLE_THRESHOLD)
    assert chosen.reason == "Fixed: review from 0.9000, decline from 1.0100."


@pytest.mark.parametrize("method", ["f2", "cost", "budget"])
def test_a_challenge_replaces_reviews_within_its_budget_and_changes_no_other_outcome(method):
    labels, scores = calibrated_rows()
    without = choose_points(labels, scores, PointPolicy(method=method))
    policy = PointPolicy(method=method, challenge_budget=0.01)
    chosen = choose_points(labels, scores, policy)
    before, after = outcome_codes(scores, without.points), outcome_codes(scores, chosen.points)
    challenged = after == OUTCOMES.index("challenge")
    assert without.points.challenge is None
    assert "hallenge" not in without.reason
    assert (before[challenged] == OUTCOMES.index("review")).all()
    assert (before[~challenged] == after[~challenged]).all()
    assert challenged.mean() <= 0.01
    if method == "budget":
        assert challenged.any()
        assert f"{challenged.sum()} of the alerted rows are challenged" in chosen.reason


def test_a_fixed_challenge_point_is_taken_as_it_is():
    policy = PointPolicy(method="fixed", challenge_threshold=0.7)
    assert choose_points(*calibrated_rows(), policy).points.challenge == 0.7


@pytest.mark.parametrize("method", ["f2", "cost", "budget"])
def test_equal_scores_alert_nobody(method):
    labels, scores = calibrated_rows()
    chosen = choose_points(labels, np.full_like(scores, 0.03), PointPolicy(method=method))
    assert chosen.points.review > 0.03
    assert "all scores are equal" in chosen.reason


@pytest.mark.parametrize("method", ["f2", "cost"])
def test_without_fraud_the_budget_decides_and_the_reason_says_so(method):
    _, scores = calibrated_rows()
    chosen = choose_points(np.zeros(len(scores)), scores, PointPolicy(method=method))
    assert chosen.points == points_by_budget(scores)
    assert chosen.reason.startswith(f"No fraud among the 4000 held-out rows: budget instead of {method}. Budget:")
    assert chosen.f2_threshold == UNREACHABLE_THRESHOLD


def test_rows_without_a_label_do_not_take_part():
    labels, scores = calibrated_rows()
    more = np.append(labels, np.full(500, np.nan)), np.append(scores, np.full(500, 0.99))
    assert choose_points(*more, PointPolicy(method="f2")) == choose_points(labels, scores, PointPolicy(method="f2"))
    with pytest.raises(ValueError, match="known label"):
        choose_points([np.nan], [0.5], PointPolicy())


def test_the_settings_choose_the_policy() -> None:
    environ = {"TAMIZ_THRESHOLD_POLICY": "fixed", "TAMIZ_REVIEW_THRESHOLD": "0.6", "TAMIZ_COST_REVIEW": "7"}
    policy = PointPolicy.from_settings(load(environ))
    assert (policy.method, policy.review_threshold, policy.decline_threshold, policy.costs.review) == (
        "fixed",
        0.6,
        0.9,
        7.0,
    )
    assert PointPolicy.from_settings(load({})) == PointPolicy()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TAMIZ_CHALLENGE_BUDGET", "0.5"),
        ("TAMIZ_CHALLENGE_BUDGET", "0.001"),
        ("TAMIZ_CHALLENGE_THRESHOLD", "0.95"),
        ("TAMIZ_DECLINE_BUDGET", "0.5"),
        ("TAMIZ_REVIEW_THRESHOLD", "0.95"),
        ("TAMIZ_THRESHOLD_POLICY", "luck"),
    ],
)
def test_points_out_of_order_are_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        PointPolicy.from_settings(load({variable: value}))
    assert "\n" not in str(refused.value)
    assert value in str(refused.value)
