"""The skill gate passes models with skill and no others."""

import numpy as np
import pytest
from numpy.random import default_rng

from scoring.decision import OperatingPoints
from training.evaluation.evaluation import evaluate
from training.evaluation.leakage import Leak
from training.evaluation.skill_gate import evaluate_skill

POINTS = OperatingPoints(review=0.06, decline=0.3)


def gate(labels, scores):
    return evaluate_skill(evaluate(labels, scores, points=POINTS, f2_threshold=0.05, resamples=300))


def noise(seed, n=2000):
    rng = default_rng(seed)
    return (rng.random(n) < 0.03).astype(float), rng.random(n)


def test_a_model_that_ranks_fraud_above_legitimate_rows_passes():
    labels, scores = noise(0)
    result = gate(labels, np.clip(0.6 * scores + 0.3 * labels, 0, 1))
    assert result.has_skill
    assert result.summary.startswith("The model has skill: ROC AUC 0.")
    assert "is significantly above the base rate" in result.summary


def test_scores_of_noise_are_refused_nearly_always():
    passes = sum(gate(*noise(seed)).has_skill for seed in range(40))
    assert passes <= 3  # 1 in 40 is the level; 4 of 40 by chance are 2 %


@pytest.mark.parametrize(
    "make",
    [lambda y, s: np.full_like(s, 0.03), lambda y, s: 0.5 - 0.4 * y + 0.01 * s],
    ids=["all scores equal", "ranks the wrong way"],
)
def test_a_model_without_skill_must_not_decide(make):
    labels, scores = noise(1)
    refused = gate(labels, make(labels, scores))
    assert refused.status == "no skill"
    assert not refused.has_skill
    assert "must not decide" in refused.summary
    assert "not significantly above 0.5" in refused.reasons[0]


def test_skill_that_a_leak_may_explain_is_no_proof():
    labels, scores = noise(0)
    leak = Leak(feature="city", roc_auc=0.9971, by="value")
    evaluation = evaluate(labels, np.clip(0.6 * scores + 0.3 * labels, 0, 1), points=POINTS, f2_threshold=0.05)
    withheld = evaluate_skill(evaluation, (leak,))
    assert (withheld.status, withheld.has_skill) == ("suspected leakage", False)
    assert "city (ROC AUC 0.9971 by its value)" in withheld.summary
    assert "--force" in withheld.summary


@pytest.mark.parametrize(
    "labels", [np.zeros(500), np.full(500, np.nan), np.empty(0)], ids=["no fraud", "unknown", "none"]
)
def test_too_few_matured_labels_are_a_result_of_their_own(labels):
    waiting = gate(labels, np.full(len(labels), 0.5))
    assert waiting.status == "not enough matured labels"
    assert not waiting.has_skill
    assert "0 fraud rows" in waiting.summary
