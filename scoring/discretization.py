"""Discretization of numbers and categories of many features in one compiled pass."""

import numpy as np

from scoring.arrays import Array, Flags, Floats, Indices
from scoring.compilation import compiled


@compiled
def discretize_rows(values: Floats, edges: Floats, starts: Indices, is_category: Flags) -> Array:
    """Code of each value, shape (n, n_features). values: float64, shape (n_features, n).

    A category is its own code. A number's code is the count of edges that are not greater than it, and the number of
    edges + 1 if it is missing: NaN. edges: of all features, one after the other, ascending in each; feature j has
    those from starts[j] to starts[j + 1].
    """
    width, n = values.shape
    codes = np.empty((n, width), dtype=np.intp)
    for j in range(width):
        first, end = starts[j], starts[j + 1]
        for i in range(n):
            x = values[j, i]
            if is_category[j]:
                codes[i, j] = np.intp(x)
            elif np.isnan(x):
                codes[i, j] = end - first + 1
            else:
                low, high = first, end
                while low < high:
                    middle = (low + high) >> 1
                    if edges[middle] <= x:
                        low = middle + 1
                    else:
                        high = middle
                codes[i, j] = low - first
    return codes
