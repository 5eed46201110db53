"""Drift report: one comparison of counts per period with a model's reference, for files and calendar periods.

Uses the statistics of the live windows. The error budget applies to this single comparison, not to a month of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from monitoring.counting.reference_profile import SCORE
from monitoring.drift.detector import DetectorPolicy, WindowStatistics, window_statistics
from monitoring.drift.reference import DriftReference
from schemas.dataset.missing_columns import MissingColumn
from schemas.records import DriftStatistics
from scoring.arrays import Ints

FALSE_ALARM_PROBABILITY = 0.05  # probability of any false alarm over all features and periods


@dataclass(frozen=True, eq=False, kw_only=True)
class PeriodCounts:
    """Counts of one period of event time, over a model's codes."""

    name: str  # for people: a day, a month, a file
    from_ms: int
    until_ms: int  # exclusive
    rows: int  # including dead letters
    counts: Ints  # shape (n_codes,)
    rows_by_hour: Ints  # shape (168,), by hour of week
    isolated_rows: int = 0  # counted, but so far from all others in time that the period does not include them


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """Drift of one feature in one period, with both distributions for drawing."""

    statistics: DriftStatistics
    tolerance: float  # PSI that the lower bound must exceed
    importance: float  # share of the model's gain, in [0, 1]
    share: float  # contribution to the change of all features, in [0, 1]
    labels: tuple[str, ...]  # of the bins
    reference: tuple[float, ...]  # share of each bin, expected for the hours of the period
    current: tuple[float, ...]  # share of each bin; empty if no row has the feature


class DriftPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of one period with the reference."""

    name: str
    from_ms: int
    until_ms: int  # exclusive
    rows: int
    isolated_rows: int  # counted, but outside the period: far from all other rows in time
    features: tuple[FeatureDrift, ...]  # largest share of the change first

    @property
    def drifted_features(self) -> tuple[FeatureDrift, ...]:
        """Features whose lower bound of PSI exceeds the tolerance."""
        return tuple(f for f in self.features if f.statistics.exceeds)


class DriftComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of periods with a model's reference."""

    model: str
    model_version: int
    source: str  # a file or a topic
    periods: tuple[DriftPeriod, ...]  # in order of time
    missing_columns: tuple[MissingColumn, ...] = ()  # declared columns that a file lacks


def compare_periods(
    reference: DriftReference, periods: Sequence[PeriodCounts], *, model: str, model_version: int, source: str
) -> DriftComparison:
    """Compare each period with the reference.

    periods: periods with rows, in order of time.
    """
    policy = DetectorPolicy(budget=FALSE_ALARM_PROBABILITY, windows=len(periods), horizon_panes=1)
    bins, baseline = reference.bins, reference.baseline
    counts = np.array([s.counts for s in periods], dtype=np.int64).reshape(-1, bins.n_codes)
    hours = np.array([s.rows_by_hour for s in periods], dtype=np.int64).reshape(-1, 168)
    statistics = window_statistics(bins, counts, hours, baseline, policy)
    expected, binned = baseline.expected_counts(hours), bins.counts_by_bin(counts)
    tolerances = policy.tolerances(baseline)
    compared = []
    for w, period in enumerate(periods):
        change = np.maximum(0.0, np.nan_to_num(statistics.psi[w]))
        shares = change / (change.sum() or 1.0)
        features = [
            FeatureDrift(
                statistics=record,
                tolerance=float(tolerances[i]),
                importance=float(reference.importance[i]),
                share=float(shares[i]),
                labels=feature.labels,
                reference=_shares(expected[w, i, : feature.n_bins]),
                current=_shares(binned[w, i, : feature.n_bins]),
            )
            for i, (feature, record) in enumerate(
                zip(bins.features, statistics_records(bins.names, statistics, w), strict=True)
            )
        ]
        features.sort(key=lambda f: -f.share)
        compared.append(
            DriftPeriod(
                name=period.name,
                from_ms=period.from_ms,
                until_ms=period.until_ms,
                rows=period.rows,
                isolated_rows=period.isolated_rows,
                features=tuple(features),
            )
        )
    return DriftComparison(model=model, model_version=model_version, source=source, periods=tuple(compared))


def change_summary(period: DriftPeriod) -> str:
    """Result of a period, in one sentence."""
    if not period.rows:
        return f"{period.name}: no rows"
    if period.isolated_rows:
        rest = change_summary(msgspec.structs.replace(period, isolated_rows=0))
        return f"{rest}; event times far from all others: {period.isolated_rows:,} rows; check their dates"
    if not period.drifted_features:
        few = not any(f.statistics.enough_rows for f in period.features)
        return f"{period.name}: " + (
            f"{period.rows:,} rows are too few" if few else "no feature drifted beyond its tolerance"
        )
    listed = ", ".join(
        f"{f.statistics.feature} ({'PSI' if f.statistics.feature == SCORE else 'CSI'} {f.statistics.psi:.3f}, lower "
        f"bound {f.statistics.psi_lower_bound:.3f})"
        for f in period.drifted_features
    )
    return f"{period.name}: {len(period.drifted_features)} of {len(period.features)} features drifted: {listed}"


def cells(feature: FeatureDrift) -> tuple[str, ...]:
    """One feature as cells: name, rows, PSI, corrected, lower bound, tolerance, decile PSI, KL, JS, KS, its p-value."""
    s = feature.statistics
    numbers = (
        s.psi, s.psi_corrected, s.psi_lower_bound, feature.tolerance, s.psi_decile, s.kl, s.js, s.ks, s.ks_p_value
    )  # fmt: skip
    return s.feature, f"{s.rows:,}", *(format_statistic(x) for x in numbers)


def format_statistic(value: float | None) -> str:
    """A statistic for people, or a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def statistics_records(names: Sequence[str], s: WindowStatistics, w: int) -> tuple[DriftStatistics, ...]:
    """Statistics of window w as records, one per feature; NaN becomes null."""
    return tuple(
        DriftStatistics(
            feature=name,
            rows=int(s.rows[w, i]),
            psi=_known(s.psi[w, i]),
            psi_corrected=_known(s.psi_corrected[w, i]),
            psi_decile=_known(s.psi_decile[w, i]),
            psi_lower_bound=_known(s.psi_lower_bound[w, i]),
            kl=_known(s.kl[w, i]),
            js=_known(s.js[w, i]),
            ks=_known(s.ks[w, i]),
            ks_p_value=_known(s.ks_p_value[w, i]),
            enough_rows=bool(s.enough_rows[w, i]),
            exceeds=bool(s.exceeds[w, i]),
        )
        for i, name in enumerate(names)
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _shares(counts: npt.NDArray[np.generic]) -> tuple[float, ...]:
    total = counts.sum()
    return tuple((counts / total).tolist()) if total else ()
