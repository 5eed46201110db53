"""Counts per day, week or month from published panes. Periods are in UTC; a week starts on Monday.

A fold over snapshots: of each minute and partition, the pane with the highest offset is used, so that duplicates and
minutes that were counted again after a crash count once.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import numpy as np

from monitoring.counting.bins import FrozenBins
from monitoring.counting.pane_codec import panes_of
from monitoring.counting.panes import Pane
from monitoring.drift.baseline import HOURS_OF_WEEK, hour_of_week
from monitoring.drift.drift_report import PeriodCounts
from schemas.errors import ConfigError
from schemas.records import PaneCounts, PaneSnapshot
from schemas.time_units import HOUR_MS

Calendar = Literal["day", "week", "month"]


class CalendarCounts:
    """Panes of one model version by calendar period; stores each minute of each partition in encoded form."""

    def __init__(self, bins: FrozenBins, *, model: str, model_version: int) -> None:
        self._bins = bins
        self._of = model, model_version
        self._panes: dict[tuple[int, int], tuple[PaneSnapshot, PaneCounts]] = {}

    def update(self, snapshot: PaneSnapshot) -> None:
        """Add a snapshot; one of another model version or with other bins is ignored.

        Raises ValueError if it is damaged; then none of its panes is added.
        """
        if (snapshot.model, snapshot.model_version) != self._of or not panes_of(snapshot, self._bins):
            return
        for pane in snapshot.panes:
            key = pane.start_ms, snapshot.partition
            known = self._panes.get(key)
            if known is None or known[1].last_offset < pane.last_offset:
                self._panes[key] = snapshot, pane

    def periods(self, calendar: Calendar) -> list[PeriodCounts]:
        """Periods that have rows, in order of time."""
        found: dict[datetime, _Sum] = {}
        for snapshot, packed in self._panes.values():
            (pane,) = panes_of(msgspec.structs.replace(snapshot, panes=(packed,)), self._bins)
            start = _STARTS[calendar](datetime.fromtimestamp(pane.start_ms / 1000, UTC))
            found.setdefault(start, _Sum(self._bins.n_codes)).add(pane)
        return [
            PeriodCounts(
                name=start.strftime(_NAMES[calendar]),
                from_ms=_ms(start),
                until_ms=_ms(_STARTS[calendar](start + _LONGEST[calendar])),
                rows=int(total.rows_by_hour.sum()),
                counts=total.counts,
                rows_by_hour=total.rows_by_hour,
            )
            for start, total in sorted(found.items())
        ]


def periods_until(periods: Sequence[PeriodCounts], name: str | None, *, now_ms: int) -> list[PeriodCounts]:
    """Periods up to the named one; without a name, up to the last complete one.

    periods: in order of time, at least one. now_ms: wall-clock time.
    Raises ConfigError, which lists the periods, if there is no such period.
    """
    if name is None:
        over = [p for p in periods if p.until_ms <= now_ms]
        if not over:
            raise ConfigError(f"{periods[-1].name} is not complete; --period {periods[-1].name} shows the part so far")
        return over
    found = [p.name for p in periods]
    if name not in found:
        raise ConfigError(
            f"--period {name}: this model version (--version) has no counts of it; choose one of {', '.join(found)}"
        )
    return list(periods[: found.index(name) + 1])


class _Sum:
    def __init__(self, n_codes: int) -> None:
        self.counts = np.zeros(n_codes, dtype=np.int64)
        self.rows_by_hour = np.zeros(HOURS_OF_WEEK, dtype=np.int64)

    def add(self, pane: Pane) -> None:
        self.counts += pane.counts
        self.rows_by_hour[hour_of_week(pane.start_ms // HOUR_MS)] += pane.rows


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _day(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


_STARTS: Mapping[Calendar, Callable[[datetime], datetime]] = {
    "day": _day,
    "week": lambda moment: _day(moment) - timedelta(days=moment.weekday()),
    "month": lambda moment: _day(moment).replace(day=1),
}
_LONGEST = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=31)}
_NAMES = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
