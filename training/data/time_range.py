"""Range of a history's event times, without rows that are isolated in time.

One mistyped year moves the first or the last event time by years. "Now" and "the last days" are therefore never the
plain minimum and maximum: a few rows far from all others are left out, counted and reported.
"""

from datetime import UTC, datetime

import msgspec
import numpy as np

from schemas.time_units import DAY_MS
from scoring.arrays import Flags, Ints

ISOLATED_TIME = "isolated-time"  # rejection code
MAX_GROUP_ROWS, MAX_GROUP_SHARE = 3, 0.001  # a larger group of rows is never isolated; the greater of both applies
MAX_END_SHARE = 0.01  # of all rows, isolated at one end; if there are more, none is left out
MIN_ROWS_PER_ISOLATED_ROW = 20  # with fewer rows, too little is known of the usual gaps
GAP_QUANTILE = 0.95  # a gap between days with rows is usual up to this quantile
GAP_FACTOR = 5  # a gap isolates the rows beyond it when it is longer than this many usual gaps


class TimeRange(msgspec.Struct, frozen=True, kw_only=True):
    """First and last event time of a history, and the rows that were left out because they are isolated in time."""

    first_ms: int
    last_ms: int
    isolated_rows: int = 0
    example: str | None = None  # one of the isolated rows with its time

    @property
    def summary(self) -> str:
        """One line for people."""
        text = f"{utc_minute(self.first_ms)} to {utc_minute(self.last_ms)} UTC"
        if not self.isolated_rows:
            return text
        rows = "1 row is" if self.isolated_rows == 1 else f"{self.isolated_rows:,} rows are"
        return f"{text}; {rows} left out, far from all other event times: {self.example}; check the date"


def isolated_rows(event_time_ms: Ints) -> Flags:
    """Mask of the rows that are isolated in time, shape (n,), as `isolated_days` defines it.

    event_time_ms: shape (n,), in any order.

    >>> times = np.arange(100) * DAY_MS // 4
    >>> np.flatnonzero(isolated_rows(np.append(times, 365 * DAY_MS))).tolist()
    [100]
    """
    days, places, rows = np.unique(event_time_ms // DAY_MS, return_inverse=True, return_counts=True)
    return isolated_days(days, rows)[places]


def isolated_days(days: Ints, rows: Ints) -> Flags:
    """Mask of the days whose rows are isolated in time, shape (n,).

    Gaps longer than `GAP_FACTOR` usual gaps cut the days into groups. Groups at either end are isolated if each has at
    most 3 rows or 0.1 % of all rows, and together at most 3 rows or 1 %. Usual is the 95 % quantile of the gaps between
    days that have rows, without the outermost rows; at least one day. Days are compared, not rows, so that neither
    bursts nor dates without a time of day make every gap look long.
    days: distinct, ascending, since 1970; rows: number of rows of each day.

    >>> isolated_days(np.array([0, 1, 2, 3, 368]), np.array([50, 50, 50, 50, 1])).tolist()
    [False, False, False, False, True]
    """
    total = int(rows.sum())
    most = total // MIN_ROWS_PER_ISOLATED_ROW
    max_group = min(most, max(MAX_GROUP_ROWS, int(MAX_GROUP_SHARE * total)))
    max_end = min(most, max(MAX_GROUP_ROWS, int(MAX_END_SHARE * total)))
    isolated = np.zeros(len(days), dtype=bool)
    if not max_group:
        return isolated
    until = np.cumsum(rows)
    inner = days[(until > max_end) & (until - rows < total - max_end)]
    usual = max(1.0, float(np.quantile(np.diff(inner), GAP_QUANTILE))) if len(inner) > 1 else 1.0
    cuts = np.flatnonzero(np.diff(days) > GAP_FACTOR * usual) + 1
    groups = np.split(np.arange(len(days)), cuts)
    for from_end in (groups, groups[::-1]):
        outer: list[int] = []
        for group in from_end:
            if rows[group].sum() > max_group:
                break
            outer += group.tolist()
        if rows[outer].sum() <= max_end:
            isolated[outer] = True
    return isolated


def utc_minute(ms: int) -> str:
    """Format a time as UTC date and minute."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"
