"""Plausibility checks of a bundle's manifest and trees: finite numbers, bounded sizes, references in range.

A digest only proves that a bundle is unchanged. Anybody with write access to the registry can register any bundle.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.errors import ModelIncompatibleError
from scoring.bundle.manifest import FeatureEncoding, GoldenVector, Manifest
from scoring.decision import UNREACHABLE_THRESHOLD

MAX_FEATURES = 10_000
MAX_LEVELS = 1_000_000  # of one category
MAX_GOLDEN_VECTORS = 10_000
MAX_TREES = 100_000
MAX_DEPTH = 64
MAX_TIME_MS = 4_102_444_800_000  # the year 2100


def check_manifest(manifest: Manifest) -> None:
    """Raise ModelIncompatibleError, with field and value, if training cannot have written the manifest."""
    m = manifest
    names = [f.name for f in m.features]
    if not 1 <= len(names) <= MAX_FEATURES or len(set(names)) != len(names):
        raise bundle_error("features", f"{len(names)} names, {len(set(names))} of them distinct")
    for f in m.features:
        _check_encoding(f)
    # A model without skill that a person forced may have thresholds above every score.
    max_review = UNREACHABLE_THRESHOLD if m.forced else float(np.nextafter(1.0, 2.0))
    if m.points.review > max_review or m.points.decline > UNREACHABLE_THRESHOLD:
        raise bundle_error("points", f"review {m.points.review}, decline {m.points.decline}: above every score")
    if not 0 < m.base_rate < 1 or m.rows < 1:
        raise bundle_error("base_rate and rows", f"{m.base_rate} of {m.rows}")
    if not 0 <= m.trained_from_ms <= m.trained_until_ms < MAX_TIME_MS:
        raise bundle_error("trained_from_ms and trained_until_ms", f"{m.trained_from_ms} and {m.trained_until_ms}")
    if len(m.golden) > MAX_GOLDEN_VECTORS:
        raise bundle_error("golden", f"{len(m.golden)} vectors")
    for i, vector in enumerate(m.golden):
        _check_golden(i, vector, m.features)


def check_trees(learner: Mapping[str, Any], n_features: int) -> None:
    """Raise ModelIncompatibleError if trees have invalid references, cycles or non-finite numbers.

    learner: from XGBoost's UBJSON. A row can take any path through a tree, so golden vectors do not cover them all.
    Raises KeyError, TypeError or ValueError if it does not have the structure of XGBoost's UBJSON.
    """
    booster = learner["gradient_booster"]
    params, objective = learner["learner_model_param"], learner["objective"]["name"]
    if (booster["name"], objective) != ("gbtree", "binary:logistic"):
        raise bundle_error("trees", f"{str(booster['name'])[:40]!r} for {str(objective)[:40]!r}")
    if int(params["num_class"]) > 1 or int(params["num_target"]) != 1:
        raise bundle_error("trees", f"of {params['num_class']} classes and {params['num_target']} targets")
    trees, info = booster["model"]["trees"], booster["model"]["tree_info"]
    rounds = booster["model"]["iteration_indptr"]
    if not 1 <= len(trees) <= MAX_TREES or len(info) != len(trees) or any(info):
        raise bundle_error("trees", f"{len(trees)} trees and {len(info)} groups")
    if rounds[0] != 0 or rounds[-1] != len(trees) or (np.diff(rounds) <= 0).any():
        raise bundle_error("iteration_indptr", f"{len(rounds)} rounds of {len(trees)} trees")
    for i, tree in enumerate(trees):
        if (why := _fault_of_tree(tree, n_features)) is not None:
            raise bundle_error(f"tree {i}", why)


def _fault_of_tree(tree: Mapping[str, Any], n_features: int) -> str | None:
    n = int(tree["tree_param"]["num_nodes"])
    left, right, parents, split, kind = (
        np.array(tree[name], dtype=np.int64)
        for name in ("left_children", "right_children", "parents", "split_indices", "split_type")
    )
    values, cover = (np.array(tree[name], dtype=np.float64) for name in ("split_conditions", "sum_hessian"))
    sizes = {len(a) for a in (left, right, parents, split, kind, values, cover, tree["default_left"])}
    if n < 1 or sizes != {n}:
        return f"{n} nodes, but arrays of {sorted(sizes)} elements"
    if int(tree["tree_param"]["num_deleted"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1:
        return "deleted nodes or vector leaves"
    inner = np.flatnonzero(left != -1)
    if not np.array_equal(inner, np.flatnonzero(right != -1)):
        return "a node with one child"
    children = np.concatenate([left[inner], right[inner]])
    if not np.array_equal(np.sort(children), np.arange(1, n)):
        return "a node that is not the child of exactly one other node"
    if (parents[children] != np.concatenate([inner, inner])).any():
        return "a node with the wrong parent"
    if len(inner) and not (split[inner].min() >= 0 and split[inner].max() < n_features):
        return f"a split on a feature beyond the {n_features}"
    if not np.isfinite(values[np.setdiff1d(np.arange(n), inner)]).all() or np.isnan(values).any():
        return "a leaf or a threshold that is nan or infinite"
    if not (np.isfinite(cover).all() and (cover >= 0).all()):
        return "a cover that is not a number of 0 or more"
    return _fault_of_categories(tree, kind, inner) or _fault_of_depth(left, right)


def _fault_of_depth(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> str | None:
    level, seen = np.array([0]), 0
    for _ in range(MAX_DEPTH):
        seen += len(level)
        level = level[left[level] != -1]
        level = np.concatenate([left[level], right[level]])
        if not len(level):
            return None if seen == len(left) else "nodes that are not connected to the root"
    return f"deeper than {MAX_DEPTH}"


def _fault_of_categories(
    tree: Mapping[str, Any], kind: np.ndarray[Any, Any], inner: np.ndarray[Any, Any]
) -> str | None:
    nodes, starts, lengths, members = (
        np.array(tree[name], dtype=np.int64)
        for name in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    if not np.array_equal(nodes, np.flatnonzero(kind == 1)) or not np.isin(nodes, inner).all():
        return "categories at nodes that do not split by category"
    if not np.isin(kind, (0, 1)).all():
        return "an unknown kind of split"
    if not len(nodes) == len(starts) == len(lengths):
        return "categories without a segment"
    if (starts < 0).any() or (lengths < 1).any() or (starts + lengths > len(members)).any():
        return "a segment beyond the list of categories"
    if len(members) and not (members.min() >= 0 and members.max() < MAX_LEVELS):
        return "a category that no feature has"
    return None


def _check_encoding(f: FeatureEncoding) -> None:
    if not 1 <= len(f.name) <= 500:
        raise bundle_error("features", f"a name of {len(f.name)} characters")
    with np.errstate(over="ignore"):
        mean = np.float32(f.mean)
    if not np.isfinite(mean):
        raise bundle_error(f"features.{f.name[:60]!r}.mean", str(f.mean))
    if len(f.levels) > MAX_LEVELS or len(set(f.levels)) != len(f.levels) or (f.levels and f.kind != "category"):
        raise bundle_error(f"features.{f.name[:60]!r}.levels", f"{len(f.levels)}, of a {f.kind}")


def _check_golden(i: int, vector: GoldenVector, features: tuple[FeatureEncoding, ...]) -> None:
    row = np.array(vector.features, dtype=np.float32)
    if not np.isfinite(row).all() or not 0 <= vector.score <= 1:
        raise bundle_error(f"golden vector {i}", "a feature that is not finite, or a score outside [0, 1]")
    for value, f in zip(row.tolist(), features, strict=False):
        if f.kind == "category" and not (value.is_integer() and 0 <= value <= MAX_LEVELS + 1):
            raise bundle_error(f"golden vector {i}", f"{f.name[:60]!r} is {value}, which is not a code")


def bundle_error(where: str, what: str) -> ModelIncompatibleError:
    """Error for an implausible bundle. where: the part of the bundle; what: what is wrong with it."""
    return ModelIncompatibleError(f"the bundle's {where}: {what}; it was not written by training: train again")
