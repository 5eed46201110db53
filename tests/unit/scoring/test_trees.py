"""The compiled walk over trees has the bits of XGBoost's predictor, for any matrix."""

from typing import Any

import msgspec
import numpy as np
import pytest
import xgboost as xgb

from schemas.errors import ModelIncompatibleError
from scoring.arrays import Floats, Matrix
from scoring.bundle.ubjson import read_ubjson
from scoring.trees import TreeArrays, read_trees, score_rows

HOSTILE = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, -0.5, 0.5, 2.7, 31, 32, 63, 64, 127, 128, 1e4, 2**24 - 1, 2**24, 1e10,
     2**31, 2**32, 2**63, -(2.0**63), 3e38, -3e38, 1e-45, -1e-45],
    dtype=np.float32,
)  # fmt: skip
ROWS = 500  # several blocks, the last one incomplete


def trees_of(booster: xgb.Booster) -> TreeArrays:
    return read_trees(read_ubjson(bytes(booster.save_raw("ubj")))["learner"])


def random_model(rng: np.random.Generator, **params: Any) -> tuple[xgb.Booster, Matrix]:
    """A model of numbers and categories with missing values, and its training rows."""
    width, n_codes = int(rng.integers(1, 12)), int(rng.choice([2, 9, 63, 64, 65, 200, 700]))
    is_category = rng.random(width) < rng.choice([0, 0.4, 1])
    n = int(rng.choice([30, 3_000]))
    matrix = np.where(is_category, rng.integers(0, n_codes, (n, width)), rng.normal(size=(n, width)).round(1))
    matrix = np.where(rng.random((n, width)) < rng.choice([0, 0.1, 0.6]), np.nan, matrix).astype(np.float32)
    labels = rng.random(n) < 1 / (1 + np.exp(-np.nan_to_num(matrix).sum(axis=1) % 5 + 2))
    rows = xgb.DMatrix(
        matrix, labels, feature_types=["c" if c else "q" for c in is_category], enable_categorical=True, nthread=1
    )
    settings = {
        "objective": "binary:logistic", "nthread": 1, "seed": int(rng.integers(1000)), "tree_method": "hist",
        "max_depth": int(rng.integers(0, 13)) or 1, "min_child_weight": 0.01, "subsample": 0.8,
        "eta": float(rng.choice([0.1, 1.0, 30.0])), "max_cat_to_onehot": int(rng.choice([1, 5, 1000])),
        "grow_policy": str(rng.choice(["depthwise", "lossguide"])), **params,
    }  # fmt: skip
    booster = xgb.train(settings, rows, int(rng.choice([1, 2, 30])))
    return booster, matrix


def hostile_rows(rng: np.random.Generator, matrix: Matrix) -> Matrix:
    rows = matrix[rng.integers(0, len(matrix), ROWS)]
    drawn = rng.choice(HOSTILE, rows.shape)
    drawn = np.where(rng.random(rows.shape) < 0.2, rng.integers(-2, 800, rows.shape), drawn)
    drawn[ROWS // 2 :] = np.nan_to_num(drawn[ROWS // 2 :], nan=1.0, posinf=np.inf, neginf=-np.inf)
    rows = np.where(rng.random(rows.shape) < rng.choice([0, 0.1, 0.9]), drawn, rows).astype(np.float32)
    rows[: ROWS // 8] = np.nan_to_num(rows[: ROWS // 8], posinf=np.inf, neginf=-np.inf)  # whole blocks without NaN
    return np.ascontiguousarray(rows)


def predicted(booster: xgb.Booster, matrix: Matrix) -> Floats:
    return np.asarray(booster.inplace_predict(matrix, validate_features=False), dtype=np.float64)


def check(seed: int, **params: Any) -> None:
    rng = np.random.default_rng(seed)
    booster, matrix = random_model(rng, **params)
    trees = trees_of(booster)
    for rows in (matrix[:200], hostile_rows(rng, matrix)):
        expected = predicted(booster, rows)
        assert score_rows(trees, rows).tobytes() == expected.tobytes(), seed
        alone = np.concatenate([score_rows(trees, rows[i : i + 1]) for i in range(0, len(rows), 7)])
        assert alone.tobytes() == expected[::7].tobytes(), seed


@pytest.mark.parametrize("seed", range(12))
def test_random_trees_score_hostile_rows_as_xgboost_does(seed: int) -> None:
    check(seed)


def test_trees_that_grow_in_parallel_are_all_added() -> None:
    check(1, num_parallel_tree=4, subsample=0.5)


def test_a_thousand_trees_are_added_in_their_order() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(300, 4)).astype(np.float32)
    settings = {"objective": "binary:logistic", "nthread": 1, "max_depth": 3, "eta": 0.3, "min_child_weight": 0.001}
    booster = xgb.train(settings, xgb.DMatrix(matrix, rng.integers(0, 2, 300)), 1_000)
    trees = trees_of(booster)
    assert len(trees.roots) == 1_000
    assert score_rows(trees, matrix).tobytes() == predicted(booster, matrix).tobytes()


def with_leaf(booster: xgb.Booster, base_score: float, leaf: float) -> tuple[xgb.Booster, TreeArrays]:
    """A model of one tree, whose left leaf returns its threshold: `leaf`; the right one 0."""
    model = msgspec.json.decode(booster.save_raw("json"))
    model["learner"]["learner_model_param"]["base_score"] = f"[{base_score:.9E}]"
    model["learner"]["gradient_booster"]["model"]["trees"][0]["split_conditions"][1:] = [leaf, 0.0]
    changed = xgb.Booster({"nthread": 1})
    changed.load_model(bytearray(msgspec.json.encode(model)))
    return changed, trees_of(changed)


@pytest.fixture(scope="module")
def stump() -> xgb.Booster:
    matrix = np.array([[0.0], [1.0]] * 8, np.float32)
    settings = {"objective": "binary:logistic", "nthread": 1, "max_depth": 1, "min_child_weight": 0, "base_score": 0.5}
    return xgb.train(settings, xgb.DMatrix(matrix, matrix[:, 0]), 1)


EXTREME = (0.0, -0.0, 1e-45, 88.6, 88.7, 88.70001, 88.8, 103.9, 104.0, 1e3, 3.4e38, 16.635532, 17.328679)


def test_margins_become_probabilities_with_the_same_bits(stump: xgb.Booster) -> None:
    rows = np.zeros((1, 1), np.float32)
    for margin in (*EXTREME, *(-m for m in EXTREME), *np.random.default_rng(0).normal(scale=30, size=300)):
        booster, trees = with_leaf(stump, 0.5, float(np.float32(margin)))
        assert score_rows(trees, rows).tobytes() == predicted(booster, rows).tobytes(), margin


@pytest.mark.parametrize(
    "base", [0.0, 1e-7, 1e-6, 1.0000001e-6, 1e-3, 0.0123456789, 0.3, 0.5, 0.999, 0.999998, 0.999999, 0.9999991, 1.0]
)
def test_the_base_score_is_added_first_with_the_same_bits(stump: xgb.Booster, base: float) -> None:
    booster, trees = with_leaf(stump, base, 0.1)
    rows = np.array([[0.0], [1.0]], np.float32)
    assert score_rows(trees, rows).tobytes() == predicted(booster, rows).tobytes()


def learner_of(booster: xgb.Booster) -> dict[str, Any]:
    return dict(read_ubjson(bytes(booster.save_raw("ubj")))["learner"])


def test_children_that_are_not_adjacent_are_refused(stump: xgb.Booster) -> None:
    learner = learner_of(stump)
    learner["gradient_booster"]["model"]["trees"][0]["right_children"][0] = 1
    with pytest.raises(ModelIncompatibleError, match="does not follow the left one"):
        read_trees(learner)


def test_a_feature_that_is_split_in_both_ways_is_refused() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(500, 1)).astype(np.float32)
    booster = xgb.train({"max_depth": 3, "nthread": 1}, xgb.DMatrix(matrix, rng.random(500)), 1)
    learner = learner_of(booster)
    tree = learner["gradient_booster"]["model"]["trees"][0]
    tree["split_type"][1], tree["categories_nodes"], tree["categories"] = 1, np.array([1]), np.array([0])
    tree["categories_segments"], tree["categories_sizes"] = np.array([0]), np.array([1])
    with pytest.raises(ModelIncompatibleError, match="by category and by threshold"):
        read_trees(learner)
