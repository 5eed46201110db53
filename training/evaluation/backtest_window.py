"""Window of a backtest: the last whole UTC days of a history, and the rows of each.

The window ends with the last event's day: seven days are 7 × 24 h, never eight dates.
"""

from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from schemas.errors import ConfigError, TrainingError
from schemas.time_units import DAY_MS
from scoring.arrays import Indices, Ints
from training.data.holdout import BACKTEST_DAYS


class BacktestWindow(NamedTuple):
    """Consecutive UTC days and the rows of each."""

    edges_ms: tuple[int, ...]  # n_days + 1
    rows: tuple[Indices, ...]  # one array a day, in order of event time

    @property
    def all_rows(self) -> Indices:
        """The rows of every day, in order of event time."""
        return np.concatenate(self.rows)


def last_days(event_time_ms: Ints, days: int = BACKTEST_DAYS) -> BacktestWindow:
    """The last `days` UTC days of a history, ending with the day of the last event.

    A history has no rows that are isolated in time, so its last event is no mistyped date.

    event_time_ms: shape (n,), in any order.
    Raises ConfigError when `days` is not positive, TrainingError when the history is shorter.

    >>> window = last_days(np.array([0, 5, DAY_MS, 3 * DAY_MS - 1]), days=2)
    >>> window.edges_ms, [rows.tolist() for rows in window.rows]
    ((86400000, 172800000, 259200000), [[2], [3]])
    """
    if days < 1:
        raise ConfigError(f"days is {days}; a backtest needs at least 1 day")
    if not len(event_time_ms):
        raise TrainingError("the history has no rows; give a file with transactions")
    first_day, last_day = (int(event_time_ms.min()) // DAY_MS, int(event_time_ms.max()) // DAY_MS)
    start = last_day + 1 - days
    if first_day > start:
        raise TrainingError(
            f"the history spans {last_day - first_day + 1} days ({utc_date(first_day * DAY_MS)} to "
            f"{utc_date(last_day * DAY_MS)}, UTC), a backtest of {days} days needs {days}; give a longer history, "
            "or fewer days (train --backtest-days, backtest --days)"
        )
    edges = [(start + i) * DAY_MS for i in range(days + 1)]
    order = np.argsort(event_time_ms, kind="stable")
    cuts = np.searchsorted(event_time_ms[order], edges)
    return BacktestWindow(tuple(edges), tuple(order[a:b] for a, b in pairwise(cuts)))


def utc_date(ms: int) -> str:
    """Format a time as UTC date, ISO 8601."""
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()
