"""Array types by element, for signatures. Shapes are in the docstrings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Columns = Mapping[str, Array]  # by field or feature, each of shape (n,)
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]  # of texts
Indices = npt.NDArray[np.intp]  # rows of a table, codes of bins
Ints = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]  # shape (n, n_features), as XGBoost takes it
Objects = npt.NDArray[np.object_]
ShortHashes = npt.NDArray[np.uint32]  # of texts
