"""PSI by feature and time, and one feature's distributions: a fold over drift reports and panes. Pure.

Columns are hours of event time, since event time may run faster than the clock (replay) or stop.
"""

from collections.abc import Mapping

import msgspec
import numpy as np

from monitoring.counting.pane_codec import panes_of
from monitoring.counting.panes import Pane
from monitoring.counting.windows import WINDOWS
from monitoring.drift.baseline import HOURS_OF_WEEK, hour_of_week
from monitoring.drift.detector import DetectorPolicy
from monitoring.drift.reference import DriftReference
from schemas.records import DriftReport, DriftStatistics, DriftWindow, PaneCounts, PaneSnapshot
from schemas.time_units import HOUR_MS
from scoring.arrays import Ints
from stream_app.dashboard.messages import FeatureSnapshot, HeatMap, HeatRow, Histogram

MAX_HOURS = 14 * 24
MAX_FEATURE_NAME = 200  # characters
MAX_COLUMNS = 48
MAX_FEATURES = 500  # per window of a report
MAX_PANES = 20_000  # about 40 MB
MAX_PANES_BYTES = 200_000_000  # of pane counts; a program that may write panes can make them large
WINDOW_BY_NAME = {w.name: w for w in WINDOWS}
STEP_H = {"15 min": 1, "1 h": 1, "6 h": 1, "24 h": 6, "7 d": 6}  # hours between two columns of a map


class PsiHeatmap:
    """The fold. Not thread-safe: callers hold a lock."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._reports: dict[int, DriftReport] = {}  # by hour of event time
        self._last: DriftReport | None = None
        self._panes: dict[tuple[int, int, int], tuple[PaneSnapshot, PaneCounts]] = {}
        self._panes_bytes = 0
        self.evaluations = 0

    def update_report(self, report: DriftReport) -> None:
        """Add one evaluation. The last one of each hour is kept; a repeated one changes nothing."""
        if report.model != self._model:
            return
        hour = report.until_ms // HOUR_MS
        known = self._reports.get(hour)
        if known is not None and _order(known) >= _order(report):
            return
        report = msgspec.structs.replace(report, windows=_bounded(report.windows), incidents=(), performance=None)
        self._reports[hour] = report
        while len(self._reports) > MAX_HOURS:
            del self._reports[min(self._reports)]
        if self._last is None or _order(self._last) < _order(report):
            self._last = report
        self.evaluations += 1

    def update_panes(self, snapshot: PaneSnapshot) -> None:
        """Add a worker's panes. Of each minute and partition, the pane with the highest last offset is kept."""
        if snapshot.model != self._model:
            return
        for pane in snapshot.panes:
            key = pane.start_ms, snapshot.model_version, snapshot.partition
            known = self._panes.get(key)
            if known is None or known[1].last_offset < pane.last_offset:
                self._panes_bytes += _n_bytes(pane) - (_n_bytes(known[1]) if known else 0)
                self._panes[key] = msgspec.structs.replace(snapshot, panes=()), pane
        if len(self._panes) > MAX_PANES + MAX_PANES // 10 or self._panes_bytes > MAX_PANES_BYTES:
            for key in sorted(self._panes):
                if len(self._panes) <= MAX_PANES and self._panes_bytes <= MAX_PANES_BYTES * 9 // 10:
                    break
                self._panes_bytes -= _n_bytes(self._panes.pop(key)[1])

    @property
    def version(self) -> int | None:
        """Model version of the last evaluation; None before the first."""
        return self._last.model_version if self._last is not None else None

    def map(self, window: str, references: Mapping[int, DriftReference]) -> HeatMap:
        """PSI by feature and time over one of `WINDOWS`, newest column last. Raises KeyError for an unknown window."""
        step = STEP_H[window]
        columns = {hour // step: report for hour, report in sorted(self._reports.items())}  # the last of each step
        reports = [columns[c] for c in sorted(columns)[-MAX_COLUMNS:]]
        found = [_of_window(report, window) for report in reports]
        names = dict.fromkeys(name for column in reversed(found) for name in column)
        tolerances = _tolerances(reports[-1].model_version if reports else 0, references)
        return HeatMap(
            window=window,
            until_ms=tuple(r.until_ms for r in reports),
            versions=tuple(r.model_version for r in reports),
            rows=tuple(
                HeatRow(
                    feature=name,
                    tolerance=tolerances.get(name),
                    psi=tuple(s.psi if (s := column.get(name)) else None for column in found),
                    beyond_chance=tuple(s.psi_corrected if (s := column.get(name)) else None for column in found),
                    lower_bound=tuple(s.psi_lower_bound if (s := column.get(name)) else None for column in found),
                    exceeds=tuple(s.exceeds if (s := column.get(name)) else False for column in found),
                )
                for name in names
            ),
        )

    def feature(self, name: str, window: str, references: Mapping[int, DriftReference]) -> FeatureSnapshot | None:
        """One feature's distributions over the last evaluated window; None without reports, reference or counts.

        Raises KeyError for an unknown window.
        """
        sliding, report = WINDOW_BY_NAME[window], self._last
        if report is None or (reference := references.get(report.model_version)) is None:
            return None
        bins = reference.bins
        if name not in bins.names:
            return None
        last_cell = (report.until_ms - 1) // sliding.cell_ms
        from_ms = (last_cell - sliding.cells + 1) * sliding.cell_ms  # the same cells as monitoring/counting/windows.py
        counts, by_hour = self._summed(reference, report, from_ms)
        i = bins.names.index(name)
        n_bins = bins.features[i].n_bins
        now, expected = bins.counts_by_bin(counts)[i, :n_bins], reference.baseline.expected_counts(by_hour)[i, :n_bins]
        if not now.sum():
            return None
        statistics = _of_window(report, window).get(name)
        return FeatureSnapshot(
            feature=name,
            window=window,
            model_version=report.model_version,
            from_ms=from_ms,
            until_ms=report.until_ms,
            psi=statistics.psi if statistics else None,
            lower_bound=statistics.psi_lower_bound if statistics else None,
            tolerance=_tolerances(report.model_version, references)[name],
            histogram=Histogram(
                labels=bins.features[i].labels,
                reference=tuple((expected / expected.sum()).tolist()),
                current=tuple((now / now.sum()).tolist()),
                rows=int(now.sum()),
            ),
        )

    def _summed(self, reference: DriftReference, report: DriftReport, from_ms: int) -> tuple[Ints, Ints]:
        """Counts by code, shape (n_codes,), and rows by hour of week, shape (168,), from `from_ms` up to the report."""
        counts = np.zeros(reference.bins.n_codes, dtype=np.int64)
        by_hour = np.zeros(HOURS_OF_WEEK, dtype=np.int64)
        for (start_ms, version, _), (snapshot, packed) in self._panes.items():
            if version != report.model_version or not from_ms <= start_ms < report.until_ms:
                continue
            for pane in _unpacked(snapshot, packed, reference):
                counts += pane.counts
                by_hour[hour_of_week(start_ms // HOUR_MS)] += pane.rows
        return counts, by_hour


def _bounded(windows: tuple[DriftWindow, ...]) -> tuple[DriftWindow, ...]:
    named = {w.window: w for w in reversed(windows) if w.window in WINDOW_BY_NAME}
    return tuple(
        msgspec.structs.replace(
            w, features=tuple(s for s in w.features[:MAX_FEATURES] if len(s.feature) <= MAX_FEATURE_NAME)
        )
        for w in named.values()
    )


def _n_bytes(pane: PaneCounts) -> int:
    return len(pane.codes) + len(pane.counts)


def _order(report: DriftReport) -> tuple[int, int]:
    return report.until_ms, report.model_version


def _unpacked(snapshot: PaneSnapshot, packed: PaneCounts, reference: DriftReference) -> list[Pane]:
    try:
        return panes_of(msgspec.structs.replace(snapshot, panes=(packed,)), reference.bins)
    except ValueError:  # damaged; the monitor skips it, too
        return []


def _of_window(report: DriftReport, window: str) -> dict[str, DriftStatistics]:
    return {s.feature: s for w in report.windows if w.window == window for s in w.features}


def _tolerances(version: int, references: Mapping[int, DriftReference]) -> dict[str, float]:
    if (reference := references.get(version)) is None:
        return {}
    return dict(zip(reference.bins.names, DetectorPolicy().tolerances(reference.baseline).tolist(), strict=True))
