"""Masks category levels in training rows, so that the trees learn what an unseen or missing level means.

A code without training rows goes to one side of every split, so its score is an extreme: a misspelled risky country
would score lowest of all. On masked rows nothing is known but the other features, so the score of an unseen level is
that of a row whose level is unknown: near the base rate, given the other features.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np

from scoring.arrays import Floats, Matrix
from scoring.bundle.manifest import FeatureEncoding

MASKED_SHARE = 0.05  # of the rows, for OTHER and for MISSING each


def mask_levels(matrix: Matrix, fraud: Floats, encoding: Sequence[FeatureEncoding], seed: int) -> Matrix:
    """A copy of the matrix in which OTHER and MISSING have at least `MASKED_SHARE` of the rows in each category.

    Rows that have the code already count: where there is evidence on unseen or missing levels, nothing is added to it.
    The others are drawn from the rows with a level, with the fraud rate of all rows, for each category independently.
    matrix: training rows from `featurize`; fraud: shape (n,), 0 or 1. The same arguments give the same result.
    """
    masked = matrix.copy()
    wanted = MASKED_SHARE * len(fraud)
    for j, f in enumerate(encoding):
        if f.kind != "category":
            continue
        codes, other = matrix[:, j], len(f.levels)
        n_other, n_missing = (max(0.0, wanted - np.count_nonzero(codes == code)) for code in (other, other + 1))
        random = np.random.default_rng((seed, j))
        for label in (0, 1):
            share = float((fraud == label).mean())
            drawn = random.permutation(np.flatnonzero((fraud == label) & (codes < other)))
            # Rounded up, so that a few frauds are not masked to none: the score of an unseen level errs upwards.
            until_other, until_missing = ceil(share * n_other), ceil(share * n_other) + ceil(share * n_missing)
            masked[drawn[:until_other], j] = other
            masked[drawn[until_other:until_missing], j] = other + 1
    return masked
