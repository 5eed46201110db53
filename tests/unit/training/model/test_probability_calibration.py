"""Probability calibration corrects distorted scores, leaves calibrated ones alone, and never changes the ranking."""

from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from monitoring.counting.monitored_model import MonitoredModel
from tests.helpers.bundles.small_bundle import ENCODING, history, manifest_of, small_booster
from training.model.fit import FitConfig, Part, fit, golden_rows, margins, predict, write_bundle
from training.model.probability_calibration import (
    ProbabilityCalibration,
    fit_calibration,
    fit_sigmoid,
    scale_leaves,
)


def part(rows: slice) -> Part:
    matrix, fraud = history()
    return Part(matrix=matrix[rows], fraud=fraud[rows])


def corrected_on(booster: xgb.Booster, held_out: Part) -> tuple[xgb.Booster, ProbabilityCalibration]:
    calibration = fit_calibration(margins(booster, held_out.matrix), held_out.fraud)
    return scale_leaves(booster, calibration.slope, calibration.intercept), calibration


@pytest.fixture(scope="module")
def overfitted() -> xgb.Booster:
    """Trees that memorized their training rows: overconfident on all others."""
    eager = FitConfig(max_depth=10, learning_rate=0.5, min_child_weight=0.1, reg_lambda=0.0)
    return fit(part(slice(1500)), ENCODING, eager, rounds=300)


def test_calibrated_scores_stay_unchanged() -> None:
    later = part(slice(3000, None))
    before = margins(small_booster(), later.matrix)
    calibration = fit_calibration(before, later.fraud)
    assert not calibration.is_applied
    np.testing.assert_allclose(calibration.apply(before), predict(small_booster(), later.matrix), atol=1e-6)


def test_overconfident_scores_are_corrected(overfitted: xgb.Booster) -> None:
    corrected, calibration = corrected_on(overfitted, part(slice(1500, 3000)))
    assert calibration.is_applied
    assert calibration.slope < 0.6
    later = part(slice(3000, None))
    before, after = predict(overfitted, later.matrix), predict(corrected, later.matrix)
    assert log_loss(later.fraud, after) < log_loss(later.fraud, before) - 0.1
    assert after.mean() == pytest.approx(later.fraud.mean(), abs=0.02)
    assert roc_auc_score(later.fraud, after) == pytest.approx(roc_auc_score(later.fraud, before), abs=1e-4)


def test_the_intercept_corrects_class_weights() -> None:
    learned, chosen, later = part(slice(2000)), part(slice(2000, 3000)), part(slice(3000, None))
    weighted = fit(learned, ENCODING, FitConfig(scale_pos_weight=20.0), rounds=60)
    assert predict(weighted, later.matrix).mean() > 2 * later.fraud.mean()
    corrected, calibration = corrected_on(weighted, chosen)
    assert calibration.intercept < -1.5
    assert predict(corrected, later.matrix).mean() == pytest.approx(later.fraud.mean(), abs=0.03)


def test_the_sigmoid_is_the_maximum_likelihood_fit() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(-2, 1.5, 20_000)
    fraud = (rng.random(20_000) < expit(0.6 * z - 0.8)).astype(float)
    reference = LogisticRegression(C=1e9).fit(z[:, None], fraud)
    assert fit_sigmoid(z, fraud) == pytest.approx((reference.coef_[0, 0], reference.intercept_[0]), abs=2e-3)
    assert fit_sigmoid(z, fraud) == pytest.approx((0.6, -0.8), abs=0.06)


@pytest.mark.parametrize("fraud", [np.array([0.0, 0, 0, 1, 1, 1]), np.array([1.0, 1, 1, 0, 0, 0])])
def test_separated_and_reversed_classes_keep_the_slope_positive_and_finite(fraud: np.ndarray) -> None:
    slope, intercept = fit_sigmoid(np.array([-3.0, -2, -1, 1, 2, 3]), fraud)
    assert 0 < slope <= 100
    assert np.isfinite(intercept)


def test_scaled_leaves_keep_contributions_that_sum_to_the_score(tmp_path: Path) -> None:
    matrix, _ = history()
    booster = small_booster()
    scaled = scale_leaves(booster, 0.7, -1.3)
    expected = 0.7 * margins(booster, matrix) - 1.3
    np.testing.assert_allclose(margins(scaled, matrix), expected, atol=1e-5)
    model = write_bundle(
        tmp_path, scaled, manifest_of(matrix, scaled), golden_rows(ENCODING, matrix, predict(scaled, matrix))
    )
    np.testing.assert_allclose(model.contributions(matrix).sum(axis=1), logit(model.score(matrix)), atol=1e-4)
    loaded = MonitoredModel.load(tmp_path, version=1)
    alone = [loaded.score(matrix[i : i + 1])[0] for i in range(50)]
    assert loaded.score(matrix)[:50].tolist() == alone
