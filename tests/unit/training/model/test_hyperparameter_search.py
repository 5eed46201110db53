"""Hyperparameter search: only significant gains count, folds test on later rows, resampling keeps probabilities."""

import msgspec
import numpy as np
import pytest

from schemas.time_units import HOUR_MS
from scoring.features import featurize, fit_encoding
from tests.helpers.traffic.scored_fixtures import card_dataset, month
from training.data.history import History
from training.data.time_split import expanding_folds
from training.model.fit import FitConfig, Part, fit, margins, predict
from training.model.hyperparameter_search import SearchResult, random_candidate, search
from training.model.probability_calibration import fit_calibration
from training.model.resampling import resample

STUMPS = FitConfig(max_depth=1, max_rounds=2)


def search_result(history: History, config: FitConfig, trials: int) -> SearchResult:
    return search(card_dataset(), history.columns, history.fraud, history.event_time_ms, trials=trials, config=config)


def test_a_significant_gain_is_adopted() -> None:
    seen: list[tuple[int, int]] = []
    history = month()
    found = search(
        card_dataset(),
        history.columns,
        history.fraud,
        history.event_time_ms,
        trials=3,
        config=STUMPS,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert found.gain is not None
    assert found.gain.low > 0
    assert found.config == max(found.trials, key=lambda t: t.mean).config != STUMPS
    assert "adopted." in found.summary
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert found.trials[0].config == STUMPS


def test_a_gain_by_chance_is_not_adopted() -> None:
    history = month()
    shuffled = history._replace(fraud=np.random.default_rng(1).permutation(history.fraud))
    found = search_result(shuffled, FitConfig(), trials=6)
    assert max(t.mean for t in found.trials) > found.trials[0].mean
    assert found.config == FitConfig()
    assert "not adopted" in found.summary


def test_the_same_seed_draws_the_same_candidates_and_another_others() -> None:
    drawn = [[random_candidate(FitConfig(), rng) for _ in range(50)] for rng in map(np.random.default_rng, (0, 0, 1))]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {c.resampling for c in drawn[0]} == {"none", "down", "smote"}
    assert len({c.scale_pos_weight for c in drawn[0]}) == 3
    assert all(msgspec.json.decode(msgspec.json.encode(c), type=FitConfig) == c for c in drawn[0])


def test_half_of_the_candidates_weight_fraud_and_a_third_resample() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_candidate(FitConfig(), rng) for _ in range(3_000)]
    assert np.mean([c.scale_pos_weight != 1 for c in drawn]) == pytest.approx(1 / 2, abs=0.03)
    assert np.mean([c.resampling != "none" for c in drawn]) == pytest.approx(1 / 3, abs=0.03)


def test_a_history_too_short_for_folds_keeps_the_configuration_and_says_why() -> None:
    history = month()
    few = np.flatnonzero(history.fraud == 0)
    none = history._replace(
        columns=history.columns_at(few), fraud=history.fraud[few], event_time_ms=history.event_time_ms[few]
    )
    found = search_result(none, FitConfig(), trials=2)
    assert (found.config, found.gain) == (FitConfig(), None)
    assert "holds 0 frauds" in found.summary


#  fold 1   | train |- test -|
#  fold 2   |     train      |- test -|
#  fold 3   |          train          |- test -|        train ends `gap` before test begins
@pytest.mark.parametrize("gap_ms", [0, 12 * HOUR_MS])
def test_a_fold_tests_on_rows_after_all_its_training_rows(gap_ms: int) -> None:
    times = month().event_time_ms
    folds = expanding_folds(times, 3, gap_ms=gap_ms)
    for train, test in folds:
        assert times[train].max() + gap_ms <= times[test].min()
    tested = np.concatenate([fold.test for fold in folds])
    assert len(np.unique(tested)) == len(tested)
    assert len(tested) == pytest.approx(0.75 * len(times), rel=0.02)


def part_of(rows: slice) -> tuple[Part, tuple[int, ...], tuple[object, ...]]:
    history = month()
    encoding = fit_encoding(card_dataset(), history.columns)
    order = np.argsort(history.event_time_ms, kind="stable")[rows]
    matrix = featurize(encoding, history.columns_at(order))
    codes = tuple(j for j, f in enumerate(encoding) if f.kind != "number")
    return Part(matrix=matrix, fraud=history.fraud[order]), codes, encoding


def test_smote_adds_plausible_frauds_and_keeps_the_rows() -> None:
    part, codes, _ = part_of(slice(4000))
    matrix, fraud = resample(part.matrix, part.fraud, codes, "smote", 0.2, seed=3)
    n = len(part.matrix)
    assert matrix[:n].tobytes() == part.matrix.tobytes()
    assert fraud.mean() == pytest.approx(0.2, abs=0.001)
    assert (fraud[n:] == 1).all()
    frauds = part.matrix[part.fraud == 1]
    for j in range(matrix.shape[1]):
        made = matrix[n:, j]
        if j in codes:
            assert set(made.tolist()) <= set(frauds[:, j].tolist())
        else:
            width = max(1.0, float(np.abs(frauds[:, j]).max())) * 1e-4
            assert frauds[:, j].min() - width <= made.min() <= made.max() <= frauds[:, j].max() + width
    again, _ = resample(part.matrix, part.fraud, codes, "smote", 0.2, seed=3)
    assert again.tobytes() == matrix.tobytes()


@pytest.mark.parametrize("codes", [(), (0, 1)], ids=["numbers only", "categories only"])
def test_smote_works_with_numbers_or_categories_only(codes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 6, (400, 2)).astype(np.float32)
    fraud = (np.arange(400) < 20).astype(float)
    assert resample(matrix, fraud, codes, "smote", 0.3, seed=0)[1].mean() == pytest.approx(0.3, abs=0.005)


def test_down_sampling_keeps_every_fraud_and_the_order() -> None:
    part, codes, _ = part_of(slice(4000))
    matrix, fraud = resample(part.matrix, part.fraud, codes, "down", 0.25, seed=3)
    assert fraud.sum() == part.fraud.sum()
    assert fraud.mean() == pytest.approx(0.25, abs=0.001)
    where = [np.flatnonzero((part.matrix == row).all(axis=1)) for row in matrix[:40]]
    assert [int(w[0]) for w in where] == sorted(int(w[0]) for w in where)


@pytest.mark.parametrize("how", ["down", "smote"])
def test_frequent_or_single_frauds_are_not_resampled(how: str) -> None:
    matrix = np.zeros((10, 2), np.float32)
    for fraud in (np.array([1.0] * 4 + [0.0] * 6), np.array([1.0] + [0.0] * 9)):
        assert resample(matrix, fraud, (), how, 0.3, seed=0)[0] is matrix  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["down", "smote"])
def test_calibration_corrects_resampling(how: str) -> None:
    parts = [part_of(rows)[0] for rows in (slice(6000), slice(6000, 9000), slice(9000, None))]
    config = msgspec.convert({"resampling": how, "resampled_share": 0.4}, FitConfig)
    shifted = fit(parts[0], part_of(slice(1))[2], config, rounds=20)  # type: ignore[arg-type]
    assert predict(shifted, parts[2].matrix).mean() > 2 * parts[2].fraud.mean()
    calibration = fit_calibration(margins(shifted, parts[1].matrix), parts[1].fraud)
    assert calibration.is_applied
    calibrated = calibration.apply(margins(shifted, parts[2].matrix))
    assert calibrated.mean() == pytest.approx(parts[2].fraud.mean(), rel=0.35)
