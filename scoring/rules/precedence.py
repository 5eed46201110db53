"""Precedence of rules, lists and the model. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.records import RuleMatch
from scoring.arrays import Indices, Ints


class RowMatches(NamedTuple):
    """The matches of n transactions: those of row i are `table[code]` for the codes up to `ends[i]`, in order."""

    codes: Indices  # indices into `table`
    ends: Ints  # shape (n,)
    table: Sequence[RuleMatch]

    @classmethod
    def none(cls, n: int) -> "RowMatches":
        """No matches."""
        return cls(np.zeros(0, np.intp), np.zeros(n, np.int64), ())

    def of_row(self, row: int) -> tuple[RuleMatch, ...]:
        """The matches of one transaction."""
        start = self.ends[row - 1] if row else 0
        return tuple(self.table[code] for code in self.codes[start : self.ends[row]].tolist())
