"""Cross-fitting: rounds, calibration and points come from scores of rows that the scoring trees have not seen."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from schemas.errors import TrainingError
from schemas.time_units import DAY_MS
from scoring.features import featurize
from tests.helpers.traffic.scored_fixtures import card_dataset, month
from training.data.history import History
from training.data.time_split import block_folds
from training.model.cross_fit import CrossFit, cross_fit
from training.model.cross_validation import CrossValidation, best_rounds, cross_validate, make_folds
from training.model.fit import FitConfig, predict
from training.model.operating_points import PointPolicy

QUICK = FitConfig(max_rounds=60, early_stopping_rounds=10, max_depth=3)


def fitted(history: History, gap_ms: int = 0) -> CrossFit:
    return cross_fit(
        card_dataset(),
        history.columns,
        history.fraud,
        history.event_time_ms,
        config=QUICK,
        points=PointPolicy(),
        gap_ms=gap_ms,
    )


def validated(history: History, blocks: int = 3) -> CrossValidation:
    splits = block_folds(history.event_time_ms, blocks)
    return cross_validate(make_folds(card_dataset(), history.columns, history.fraud, splits), QUICK)


def test_the_chosen_rounds_have_the_lowest_loss_of_all_folds_together() -> None:
    found = validated(month(6_000))
    losses = [
        sum(
            float(np.sum(np.logaddexp(0, m) - fold.test.fraud * m))
            for k, fold in enumerate(found.folds)
            for m in [found.margins(k, rounds)]
        )
        for rounds in range(1, len(found.losses) + 1)
    ]
    np.testing.assert_allclose(found.losses.sum(axis=1), losses, rtol=1e-6)
    assert found.rounds == int(np.argmin(losses)) + 1
    assert len(losses) == min(QUICK.max_rounds, found.rounds + QUICK.early_stopping_rounds)


def test_a_fold_has_no_vote_on_its_own_rounds() -> None:
    found = validated(month(6_000))
    for k in range(3):
        changed = found._replace(losses=found.losses.copy())
        changed.losses[:, k] = np.arange(len(found.losses))[::-1]
        assert changed.rounds_without(k) == found.rounds_without(k)
    assert best_rounds(found.losses[:, :1]) == found._replace(losses=found.losses[:, :1]).rounds_without(0)


def test_out_of_fold_scores_are_no_better_than_they_are_on_new_rows() -> None:
    history, later = month(12_000), month(12_000, seed=4)
    found = fitted(history)
    assert sorted(found.held_out.tolist()) == list(range(12_000))
    known = roc_auc_score(history.fraud[found.held_out], found.scores)
    seen = roc_auc_score(history.fraud, predict(found.booster, found.matrix))
    new = roc_auc_score(later.fraud, _scores(found, later))
    assert seen > new + 0.02
    assert known == pytest.approx(new, abs=0.03)


def test_the_operating_points_hold_on_new_rows() -> None:
    found = fitted(month(12_000))
    scores = _scores(found, month(12_000, seed=4))
    policy = PointPolicy()
    assert np.mean(scores >= found.choice.points.review) == pytest.approx(policy.review_budget, rel=0.4)


def test_the_same_rows_give_the_same_model_byte_for_byte() -> None:
    one, two = (fitted(month(3_000)) for _ in range(2))
    assert one.booster.save_raw("ubj") == two.booster.save_raw("ubj")
    assert (one.choice, one.calibration) == (two.choice, two.calibration)


def test_frauds_of_one_moment_cannot_be_cross_validated() -> None:
    history = month(3_000)
    fraud = np.zeros(3_000)
    fraud[np.argsort(history.event_time_ms, kind="stable")[-5:]] = 1
    with pytest.raises(TrainingError, match="the 5 frauds in 3000 rows lie too close together in time"):
        fitted(history._replace(fraud=fraud), gap_ms=30 * DAY_MS)


def _scores(found: CrossFit, history: History) -> np.ndarray:
    return predict(found.booster, featurize(found.encoding, history.columns))
