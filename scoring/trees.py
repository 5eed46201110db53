"""Trees as flat arrays, and a compiled walk over them: bit-equal to XGBoost's prediction, without its cost per call.

The walk adds the same float32 leaves in the same order as XGBoost's `inplace_predict`, and applies the same sigmoid
with the C library's `expf`, so its scores have the same bits. It has no branches: a leaf is its own right child, so
every row takes as many steps in a tree as the tree is deep.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types

from scoring.arrays import Array, Floats, Matrix
from scoring.bundle.bundle_validation import bundle_error
from scoring.compilation import compiled, compiled_inline

ROWS_PER_BLOCK = 64  # a block's rows and one tree fit into the first-level cache
WORD_BITS = 64
MAX_EXPONENT = 88.7  # XGBoost's limit: beyond it, `expf` overflows
MIN_BASE_SCORE = np.float32(1e-6)  # XGBoost's limit, and below 1
_expf = types.ExternalFunction("expf", types.float32(types.float32))
_logf = types.ExternalFunction("logf", types.float32(types.float32))


class TreeArrays(NamedTuple):
    """The trees of a model, concatenated. Arrays of one element per node, unless stated otherwise."""

    roots: Array  # uint32, index of the first node of each tree
    depths: Array  # int32, steps from the root of each tree to its deepest leaf
    by_category: Array  # bool, whether a tree splits by category
    feature: Array  # uint32, column of the matrix
    threshold: Array  # float32: a smaller value goes left. NaN at leaves; infinite at splits by category
    left: Array  # uint32, index of the left child; the right one follows. At a leaf: its own index - 1
    missing_right: Array  # bool, whether a missing value goes right
    categories: Array  # uint32, index in `category_bits` of the categories that go right; 0: none
    value: Array  # float32, of a leaf
    category_bits: Array  # uint64, `words` elements per set of categories
    words: int  # a power of two
    is_category: Array  # bool, of each feature
    base_score: np.float32  # probability before the first tree


def read_trees(learner: Mapping[str, Any]) -> TreeArrays:
    """Arrays of trees that `scoring.bundle.bundle_validation.check_trees` has checked. learner: from XGBoost's UBJSON.

    Raises ModelIncompatibleError if training does not write such trees.
    """
    params = learner["learner_model_param"]
    trees: Sequence[Mapping[str, Any]] = learner["gradient_booster"]["model"]["trees"]
    sizes = [len(tree["left_children"]) for tree in trees]
    roots = np.cumsum([0, *sizes])[:-1]
    left, right, feature, kind = (
        np.concatenate([tree[name] for tree in trees])
        for name in ("left_children", "right_children", "split_indices", "split_type")
    )
    missing_left, value = (
        np.concatenate([tree[name] for tree in trees]) for name in ("default_left", "split_conditions")
    )
    inner, splits_category = left != -1, kind == 1
    if (right[inner] != left[inner] + 1).any():
        raise bundle_error("trees", "a right child that does not follow the left one")
    is_category = np.zeros(int(params["num_feature"]), dtype=np.bool_)
    is_category[feature[splits_category]] = True
    if is_category[feature[inner & ~splits_category]].any():
        raise bundle_error("trees", "a feature that is split by category and by threshold")
    sets, categories, words = _category_sets(trees, roots, len(left))
    return TreeArrays(
        roots=roots.astype(np.uint32),
        depths=np.array([_depth(tree["left_children"]) for tree in trees], dtype=np.int32),
        by_category=np.array([(tree["split_type"] == 1).any() for tree in trees], dtype=np.bool_),
        feature=feature.astype(np.uint32),
        threshold=np.where(inner, np.where(splits_category, np.inf, value), np.nan).astype(np.float32),
        left=np.where(inner, left + np.repeat(roots, sizes), np.arange(len(left)) - 1).astype(np.uint32),
        missing_right=~inner | (missing_left == 0),
        categories=categories,
        value=np.where(inner, 0, value).astype(np.float32),
        category_bits=sets,
        words=words,
        is_category=is_category,
        base_score=np.clip(np.float32(str(params["base_score"]).strip("[]")), MIN_BASE_SCORE, 1 - MIN_BASE_SCORE),
    )


def score_rows(trees: TreeArrays, matrix: Matrix) -> Floats:
    """Probability of fraud of each row, shape (n,). matrix: C-contiguous float32, shape (n, n_features)."""
    return _score(*trees, matrix)


def _category_sets(trees: Sequence[Mapping[str, Any]], roots: Array, n_nodes: int) -> tuple[Array, Array, int]:
    """Bits of each set of categories, the index of each node's set, and the words of a set."""
    parts = [(tree["categories"], tree["categories_segments"], tree["categories_sizes"]) for tree in trees]
    members = [codes[start : start + size] for codes, *ranges in parts for start, size in zip(*ranges, strict=True)]
    codes = np.concatenate([np.empty(0, dtype=np.int32), *members])
    # The last bit of a set is never used: categories beyond all sets get it.
    n_bits = int(codes.max(initial=0)) + 2
    words = 1 << (-(-n_bits // WORD_BITS) - 1).bit_length()
    bits = np.zeros((len(members) + 1) * words, dtype=np.uint64)
    first = words * np.arange(1, len(members) + 1)
    places = np.repeat(first, [len(m) for m in members]) + codes // WORD_BITS
    np.bitwise_or.at(bits, places, np.uint64(1) << (codes % WORD_BITS).astype(np.uint64))
    index = np.zeros(n_nodes, dtype=np.uint32)
    index[np.concatenate([tree["categories_nodes"] + root for tree, root in zip(trees, roots, strict=True)])] = first
    return bits, index, words


def _depth(left: Array) -> int:
    level, depth = np.zeros(1, dtype=np.intp), 0
    while len(level := left[level][left[level] != -1]):
        level, depth = np.concatenate([level, level + 1]), depth + 1
    return depth


@compiled
def _score(
    roots: Array,
    depths: Array,
    by_category: Array,
    feature: Array,
    threshold: Array,
    left: Array,
    missing_right: Array,
    categories: Array,
    value: Array,
    category_bits: Array,
    words: int,
    is_category: Array,
    base_score: np.float32,
    matrix: Matrix,
) -> Floats:
    n, width = matrix.shape
    scores = np.empty(n, dtype=np.float64)
    rows = np.empty(ROWS_PER_BLOCK * width, dtype=np.float32)
    codes = np.zeros(ROWS_PER_BLOCK * width, dtype=np.uint32)
    nodes = np.empty(ROWS_PER_BLOCK, dtype=np.uint32)
    sums = np.empty(ROWS_PER_BLOCK, dtype=np.float32)
    beyond = words * WORD_BITS - 1
    margin = -_logf(np.float32(1.0) / base_score - np.float32(1.0))
    for start in range(0, n, ROWS_PER_BLOCK):
        size = min(ROWS_PER_BLOCK, n - start)
        any_missing = False
        for i in range(size):
            sums[i] = margin
            for j in range(width):
                x, at = matrix[start + i, j], i * width + j
                rows[at] = x
                if np.isnan(x):
                    any_missing = True
                elif is_category[j]:
                    rows[at] = 0  # smaller than the infinite threshold
                    codes[at] = np.int64(x) if 0 <= x < beyond else beyond
        for t in range(len(roots)):
            nodes[:size] = roots[t]
            # All rows take a step before the next one: their loads do not wait for each other.
            if any_missing:
                for _ in range(depths[t]):
                    for i in range(size):
                        node = np.uintp(nodes[i])
                        at = np.uintp(i * width) + np.uintp(feature[node])
                        right = _goes_right(rows[at], codes[at], threshold[node], category_bits, categories[node])
                        if np.isnan(rows[at]):
                            right = missing_right[node]
                        nodes[i] = left[node] + np.uint32(right)
            elif by_category[t]:
                for _ in range(depths[t]):
                    for i in range(size):
                        node = np.uintp(nodes[i])
                        at = np.uintp(i * width) + np.uintp(feature[node])
                        right = _goes_right(rows[at], codes[at], threshold[node], category_bits, categories[node])
                        nodes[i] = left[node] + np.uint32(right)
            else:
                for _ in range(depths[t]):
                    for i in range(size):
                        node = np.uintp(nodes[i])
                        at = np.uintp(i * width) + np.uintp(feature[node])
                        nodes[i] = left[node] + np.uint32(not rows[at] < threshold[node])
            for i in range(size):
                sums[i] += value[np.uintp(nodes[i])]
        for i in range(size):
            scores[start + i] = _sigmoid(sums[i])
    return scores


@compiled_inline
def _goes_right(x: Any, code: Any, threshold: Any, category_bits: Array, categories: Any) -> Any:
    word = category_bits[np.uintp(categories) + np.uintp(code >> 6)]
    is_member = (word >> np.uint64(code & 63)) & np.uint64(1)
    return (not x < threshold) | (is_member != 0)


@compiled_inline
def _sigmoid(margin: Any) -> Any:
    exponent = -margin
    if np.float32(MAX_EXPONENT) < exponent:  # NaN stays NaN
        exponent = np.float32(MAX_EXPONENT)
    return np.float32(1.0) / (_expf(exponent) + np.float32(1.0))
