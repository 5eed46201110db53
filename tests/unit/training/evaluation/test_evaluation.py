"""Metrics against scikit-learn, intervals against their nominal coverage."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from sklearn import metrics as sk

from scoring.decision import OperatingPoints
from training.evaluation.bootstrap import bootstrap_replicates, paired_difference, resample_weights, roc_band
from training.evaluation.evaluation import Evaluation, evaluate
from training.evaluation.metrics import DECISION_METRICS, METRICS, RANKING_METRICS, CostMatrix, measure, rank

POINTS = OperatingPoints(review=0.06, decline=0.3)


def labels_and_scores(n=3000, shift=1.5, seed=0, decimals=None):
    """Labels with 3 % fraud, and scores that separate the classes by `shift` standard deviations."""
    rng = default_rng(seed)
    labels = (rng.random(n) < 0.03).astype(float)
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + shift * labels - 3.5)))
    return labels, scores if decimals is None else scores.round(decimals)


def evaluated(labels, scores, **more) -> Evaluation:
    return evaluate(labels, scores, **({"points": POINTS, "f2_threshold": 0.05, "resamples": 200} | more))


def sklearn_metrics(labels, scores):
    alert = scores >= POINTS.review
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    return {
        "roc_auc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        "ks": (tpr - fpr).max(),
        "recall_at_fpr_0.001": tpr[fpr <= 0.001].max(),
        "recall_at_fpr_0.01": tpr[fpr <= 0.01].max(),
        "recall_at_fpr_0.05": tpr[fpr <= 0.05].max(),
        "log_loss": sk.log_loss(labels, scores, labels=[0, 1]),
        "brier": sk.brier_score_loss(labels, scores),
        "accuracy": sk.accuracy_score(labels, alert),
        "precision": sk.precision_score(labels, alert, zero_division=np.nan),
        "recall": sk.recall_score(labels, alert),
        "f1": sk.f1_score(labels, alert),
        "f2": sk.fbeta_score(labels, alert, beta=2),
    }


@pytest.mark.parametrize("decimals", [None, 2, 0], ids=["distinct", "tied", "all but equal"])
def test_weights_of_one_give_what_scikit_learn_gives(decimals):
    labels, scores = labels_and_scores(decimals=decimals)
    ours = measure(rank(labels, scores, points=POINTS, costs=CostMatrix()))
    for name, theirs in sklearn_metrics(labels, scores).items():
        assert ours[name][0] == pytest.approx(theirs, abs=1e-12, nan_ok=True), name
    assert set(ours) == set(METRICS)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=40))
def test_any_small_sample_agrees_with_scikit_learn(rows):
    labels = np.array([float(fraud) for fraud, _ in rows])
    scores = np.array([score / 10 for _, score in rows])
    if not 0 < labels.sum() < len(labels):
        labels[0], labels[1] = 0.0, 1.0
    ours = measure(rank(labels, scores, points=POINTS, costs=CostMatrix()))
    for name, theirs in sklearn_metrics(labels, scores).items():
        assert ours[name][0] == pytest.approx(theirs, abs=1e-9, nan_ok=True), name


def test_weights_mean_repeated_rows():
    labels, scores = labels_and_scores(n=400, decimals=2)
    weights = next(resample_weights(400, 3, seed=5))
    ranked = rank(labels, scores, points=POINTS, costs=CostMatrix())
    for at, counts in enumerate(weights.astype(int)):
        repeated = rank(np.repeat(labels, counts), np.repeat(scores, counts), points=POINTS, costs=CostMatrix())
        for name, value in measure(repeated).items():
            assert measure(ranked, weights)[name][at] == pytest.approx(value[0]), name


def test_f2_counts_recall_twice_as_much_and_not_three_times():
    labels = np.repeat([1.0, 0.0, 1.0, 0.0], [30, 70, 20, 880])  # tp, fp, fn, tn
    scores = np.repeat([0.9, 0.9, 0.1, 0.1], [30, 70, 20, 880])
    f2 = measure(rank(labels, scores, points=OperatingPoints(review=0.5, decline=0.95)), names=("f2",))["f2"][0]
    assert f2 == pytest.approx(5 * 30 / (5 * 30 + 4 * 20 + 70))
    assert f2 != pytest.approx(sk.fbeta_score(labels, scores >= 0.5, beta=3))


def test_the_cost_matrix_prices_every_outcome():
    costs = CostMatrix(missed_fraud_share=1, missed_fraud_fixed=15, review=5, wrong_decline=50, unknown_amount=500)
    labels, scores = [1, 1, 1, 0, 0, 0], [0.01, 0.02, 0.1, 0.01, 0.1, 0.9]
    amounts = [100, np.nan, 300, 10, 10, 10]
    ranked = rank(labels, scores, points=POINTS, costs=costs, amounts=amounts)
    missed, unknown, reviewed, declined = 100 + 15, 500 + 15, 2 * 5, 50
    assert measure(ranked)["cost_per_transaction"][0] == pytest.approx((missed + unknown + reviewed + declined) / 6)


def test_intervals_cover_the_true_value_at_their_nominal_rate():
    truth = {
        name: value[0]
        for name, value in measure(rank(*labels_and_scores(n=400_000, seed=99)), names=tuple(RANKING_METRICS)).items()
    }
    names = ("roc_auc", "average_precision", "log_loss", "brier")
    held = dict.fromkeys(names, 0)
    for seed in range(60):
        evaluation = evaluated(*labels_and_scores(n=1500, seed=seed))
        for name in names:
            metric = evaluation.metric(name)
            held[name] += metric.low <= truth[name] <= metric.high
    assert all(51 <= count <= 60 for count in held.values()), held  # 57 expected; under 51 has a chance of 1 %


def test_shuffled_labels_give_an_interval_of_the_roc_auc_that_covers_one_half():
    labels, scores = labels_and_scores(shift=3)
    auc = evaluated(default_rng(1).permutation(labels), scores).metric("roc_auc")
    assert auc.low < 0.5 < auc.high


def test_a_seed_repeats_an_evaluation_to_the_last_bit():
    assert evaluated(*labels_and_scores(), seed=3) == evaluated(*labels_and_scores(), seed=3)
    assert evaluated(*labels_and_scores(), seed=3) != evaluated(*labels_and_scores(), seed=4)


def test_resampling_keeps_the_number_of_rows_in_every_chunk():
    chunks = list(resample_weights(700_000, 3, seed=0))
    assert [chunk.shape for chunk in chunks] == [(1, 700_000)] * 3
    assert all(chunk.sum() == 700_000 for chunk in chunks)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.zeros(100), "0 fraud rows"),
        (np.ones(100), "0 legitimate rows"),
        (np.arange(100) < 5, "5 fraud rows"),
        (np.full(100, np.nan), "0 fraud rows"),
        (np.empty(0), "0 legitimate rows"),
    ],
    ids=["no fraud", "all fraud", "five frauds", "nothing known yet", "no rows"],
)
def test_too_few_rows_of_a_class_leave_metrics_undefined_with_a_reason(labels, reason):
    evaluation = evaluated(labels, np.linspace(0, 1, len(labels)))
    assert {metric.value for metric in evaluation.metrics} == {None}
    assert all(reason in metric.reason for metric in evaluation.metrics)
    assert msgspec.json.decode(msgspec.json.encode(evaluation), type=Evaluation) == evaluation


def test_a_review_point_that_nothing_reaches_has_no_precision():
    evaluation = evaluated(*labels_and_scores(), points=OperatingPoints(review=1.01, decline=1.01))
    assert evaluation.metric("precision").value is None
    assert "review point" in evaluation.metric("precision").reason
    assert evaluation.metric("f2").value == 0
    assert "precision" not in evaluation.metric_values()


def test_rows_whose_label_is_not_known_yet_are_left_out():
    labels, scores = labels_and_scores()
    late = np.append(labels, np.full(50, np.nan)), np.append(scores, np.full(50, 0.5))
    assert evaluated(*late) == msgspec.structs.replace(evaluated(labels, scores), unlabelled=50)


def test_the_threshold_table_and_the_confusions_add_up():
    labels, scores = labels_and_scores(shift=5)
    evaluation = evaluated(labels, scores, amounts=np.full(len(labels), 100.0))
    assert [row.threshold for row in evaluation.thresholds][::12] == [0.4, 0.97]
    assert evaluation.at_f2.threshold == 0.05
    for counts in (evaluation.at_review, evaluation.at_f2):
        tn, fp, fn, tp = sk.confusion_matrix(labels, scores >= counts.threshold).ravel()
        assert (counts.true_positives, counts.false_positives, counts.true_negatives, counts.false_negatives) == (
            tp,
            fp,
            tn,
            fn,
        )
    row = evaluation.thresholds[2]
    alert = scores >= row.threshold
    assert row.alerts == alert.sum()
    assert row.f2 == pytest.approx(sk.fbeta_score(labels, alert, beta=2))
    assert row.false_positive_rate == pytest.approx(alert[labels == 0].mean())
    assert row.cost == pytest.approx(5 * alert.sum() + 115 * labels[~alert].sum())


def test_metric_values_have_prefixed_names():
    values = evaluated(*labels_and_scores()).metric_values("test_")
    assert values["test_roc_auc_low"] < values["test_roc_auc"] < values["test_roc_auc_high"]
    assert all(np.isfinite(number) for number in values.values())


def test_a_paired_interval_is_narrower_than_two_separate_ones():
    labels, a = labels_and_scores(shift=1.5)
    b = np.clip(a * default_rng(1).normal(1, 0.02, len(a)), 0, 1)
    paired = paired_difference(labels, a, b, "roc_auc", resamples=300)
    alone = evaluated(labels, a).metric("roc_auc")
    assert paired.low <= 0 <= paired.high
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)


def test_a_paired_difference_has_the_sign_of_the_first_over_the_second():
    labels, good = labels_and_scores(shift=2)
    noise = default_rng(2).random(len(labels))
    assert paired_difference(labels, good, noise, "average_precision", resamples=200).low > 0
    assert paired_difference(labels, noise, good, "average_precision", resamples=200).high < 0
    points = (OperatingPoints(review=0.06, decline=0.5), OperatingPoints(review=0.9, decline=0.95))
    cost = paired_difference(
        labels, good, noise, "cost_per_transaction", points=points, costs=CostMatrix(), resamples=200
    )
    assert cost.high < 0
    with pytest.raises(ValueError, match="fraud and legitimate"):
        paired_difference(np.zeros(9), good[:9], noise[:9])


def test_the_roc_band_holds_the_curve():
    ranked = rank(*labels_and_scores())
    rates = np.linspace(0, 1, 51)
    low, high = roc_band(ranked, rates)
    fpr, tpr, _ = sk.roc_curve(ranked.fraud, ranked.scores)
    curve = np.interp(rates, fpr, tpr)
    assert (low <= curve + 0.02).all()
    assert (curve - 0.02 <= high).all()


@pytest.mark.parametrize(
    ("labels", "scores", "error"),
    [
        ([0, 1], [0.1], "one shape"),
        ([0, 2], [0.1, 0.2], "0 or 1"),
        ([0, 1], [0.1, np.nan], "finite"),
    ],
    ids=["shapes", "labels", "scores"],
)
def test_invalid_labels_and_scores_are_refused(labels, scores, error):
    with pytest.raises(ValueError, match=error):
        rank(labels, scores)


def test_decision_metrics_need_operating_points():
    ranked = rank(*labels_and_scores(n=50))
    for name in DECISION_METRICS:
        with pytest.raises(ValueError, match="operating points"):
            measure(ranked, names=(name,))
    assert bootstrap_replicates(ranked, ("brier",), resamples=5)["brier"].shape == (5,)
