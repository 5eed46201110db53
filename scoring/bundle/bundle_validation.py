"""Whether a bundle's manifest and trees can be what training makes: numbers finite, sizes bounded, references in range.

A digest shows only that a bundle is what its writer wrote. Who may write to the registry may write anything.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.errors import ModelIncompatibleError
from scoring.bundle.manifest import FeatureEncoding, GoldenVector, Manifest
from scoring.decision import NEVER

MAX_FEATURES = 10_000
MAX_LEVELS = 1_000_000  # of one category
MAX_GOLDEN = 10_000
MAX_TREES = 100_000
MAX_DEPTH = 64
MAX_TIME_MS = 4_102_444_800_000  # the year 2100


def check_manifest(manifest: Manifest) -> None:
    """Raise ModelIncompatibleError, in one line with field and value, when a manifest is none that training writes."""
    m = manifest
    names = [f.name for f in m.features]
    if not 1 <= len(names) <= MAX_FEATURES or len(set(names)) != len(names):
        raise implausible("features", f"{len(names)} names, {len(set(names))} of them distinct")
    for f in m.features:
        _check_encoding(f)
    # A model without skill, served by a person's word, may alert nobody.
    if m.points.review > (NEVER if m.forced else float(np.nextafter(1.0, 2.0))) or m.points.decline > NEVER:
        raise implausible("points", f"review {m.points.review}, decline {m.points.decline}: above every score")
    if not 0 < m.base_rate < 1 or m.rows < 1:
        raise implausible("base_rate and rows", f"{m.base_rate} of {m.rows}")
    if not 0 <= m.trained_from_ms <= m.trained_until_ms < MAX_TIME_MS:
        raise implausible("trained_from_ms and trained_until_ms", f"{m.trained_from_ms} and {m.trained_until_ms}")
    if len(m.golden) > MAX_GOLDEN:
        raise implausible("golden", f"{len(m.golden)} vectors")
    for i, vector in enumerate(m.golden):
        _check_golden(i, vector, m.features)


def check_trees(learner: Mapping[str, Any], n_features: int) -> None:
    """Raise ModelIncompatibleError when trees refer beyond themselves, run in circles or hold what is no number.

    learner: of XGBoost's own JSON. A row takes any way through a tree, not only those of the golden vectors.
    Raises KeyError, TypeError or ValueError, too, when it is not built as XGBoost's JSON is.
    """
    booster = learner["gradient_booster"]
    params, objective = learner["learner_model_param"], learner["objective"]["name"]
    if (booster["name"], objective) != ("gbtree", "binary:logistic"):
        raise implausible("trees", f"{str(booster['name'])[:40]!r} for {str(objective)[:40]!r}")
    if int(params["num_class"]) > 1 or int(params["num_target"]) != 1:
        raise implausible("trees", f"of {params['num_class']} classes and {params['num_target']} targets")
    trees, info = booster["model"]["trees"], booster["model"]["tree_info"]
    rounds = booster["model"]["iteration_indptr"]
    if not 1 <= len(trees) <= MAX_TREES or len(info) != len(trees) or any(info):
        raise implausible("trees", f"{len(trees)} trees and {len(info)} groups")
    if rounds[0] != 0 or rounds[-1] != len(trees) or (np.diff(rounds) <= 0).any():
        raise implausible("iteration_indptr", f"{len(rounds)} rounds of {len(trees)} trees")
    for i, tree in enumerate(trees):
        if (why := _fault_of_tree(tree, n_features)) is not None:
            raise implausible(f"tree {i}", why)


def _fault_of_tree(tree: Mapping[str, Any], n_features: int) -> str | None:
    n = int(tree["tree_param"]["num_nodes"])
    left, right, parents, split, kind = (
        np.array(tree[name], dtype=np.int64)
        for name in ("left_children", "right_children", "parents", "split_indices", "split_type")
    )
    values, cover = (np.array(tree[name], dtype=np.float64) for name in ("split_conditions", "sum_hessian"))
    sizes = {len(a) for a in (left, right, parents, split, kind, values, cover, tree["default_left"])}
    if n < 1 or sizes != {n}:
        return f"{n} nodes, described {sorted(sizes)} times"
    if int(tree["tree_param"]["num_deleted"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1:
        return "deleted nodes or vectors as leaves"
    inner = np.flatnonzero(left != -1)
    if not np.array_equal(inner, np.flatnonzero(right != -1)):
        return "a node with one child"
    children = np.concatenate([left[inner], right[inner]])
    if not np.array_equal(np.sort(children), np.arange(1, n)):
        return "a node that is no child of exactly one other"
    if (parents[children] != np.concatenate([inner, inner])).any():
        return "a node that names another parent"
    if len(inner) and not (split[inner].min() >= 0 and split[inner].max() < n_features):
        return f"a split on a feature beyond the {n_features}"
    if not np.isfinite(values[np.setdiff1d(np.arange(n), inner)]).all() or np.isnan(values).any():
        return "a leaf or a threshold that is nan or infinite"
    if not (np.isfinite(cover).all() and (cover >= 0).all()):
        return "a cover that is no number"
    return _fault_of_categories(tree, kind, inner) or _fault_of_depth(left, right)


def _fault_of_depth(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> str | None:
    level, seen = np.array([0]), 0
    for _ in range(MAX_DEPTH):
        seen += len(level)
        level = level[left[level] != -1]
        level = np.concatenate([left[level], right[level]])
        if not len(level):
            return None if seen == len(left) else "nodes that the root does not reach"
    return f"deeper than {MAX_DEPTH}"


def _fault_of_categories(
    tree: Mapping[str, Any], kind: np.ndarray[Any, Any], inner: np.ndarray[Any, Any]
) -> str | None:
    nodes, starts, lengths, members = (
        np.array(tree[name], dtype=np.int64)
        for name in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    if not np.array_equal(nodes, np.flatnonzero(kind == 1)) or not np.isin(nodes, inner).all():
        return "categories at other nodes than those that split by them"
    if not np.isin(kind, (0, 1)).all():
        return "a kind of split that there is not"
    if not len(nodes) == len(starts) == len(lengths):
        return "categories without a place"
    if (starts < 0).any() or (lengths < 1).any() or (starts + lengths > len(members)).any():
        return "categories beyond their list"
    if len(members) and not (members.min() >= 0 and members.max() < MAX_LEVELS):
        return "a category that no feature has"
    return None


def _check_encoding(f: FeatureEncoding) -> None:
    if not 1 <= len(f.name) <= 500:
        raise implausible("features", f"a name of {len(f.name)} characters")
    if not np.isfinite(f.mean):
        raise implausible(f"features.{f.name[:60]!r}.mean", str(f.mean))
    if len(f.levels) > MAX_LEVELS or len(set(f.levels)) != len(f.levels) or (f.levels and f.kind != "category"):
        raise implausible(f"features.{f.name[:60]!r}.levels", f"{len(f.levels)}, of a {f.kind}")


def _check_golden(i: int, vector: GoldenVector, features: tuple[FeatureEncoding, ...]) -> None:
    row = np.array(vector.features, dtype=np.float32)
    if not np.isfinite(row).all() or not 0 <= vector.score <= 1:
        raise implausible(f"golden vector {i}", "a feature or a score that is no number of its kind")
    for value, f in zip(row.tolist(), features, strict=False):
        if f.kind == "category" and not (value.is_integer() and 0 <= value <= MAX_LEVELS + 1):
            raise implausible(f"golden vector {i}", f"{f.name[:60]!r} is {value}, which is no code")


def implausible(where: str, what: str) -> ModelIncompatibleError:
    """The error for a bundle that training does not write: where, and what is wrong."""
    return ModelIncompatibleError(
        f"the bundle's {where}: {what}; training writes no such bundle, train the model again"
    )
