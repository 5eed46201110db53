"""Comparison of two model versions: metrics on the same rows, and drift between their training data."""

import msgspec
import numpy as np

from monitoring.counting.bins import bins_of_profile
from monitoring.counting.monitored_model import MonitoredModel
from scoring.arrays import Floats
from scoring.bundle.manifest import Manifest
from scoring.features import featurize
from training.data.history import History
from training.evaluation.backtest_window import BacktestWindow
from training.evaluation.bootstrap import Interval, paired_difference
from training.evaluation.distribution_shift import DistributionShift, shift
from training.evaluation.evaluation import MIN_ROWS_PER_CLASS
from training.evaluation.metrics import measure, rank
from training.evaluation.review_metrics import review_differences
from training.evaluation.review_ranking import ReviewPlan, ReviewRows, review_rows

COMPARED_METRICS = ("roc_auc", "average_precision", "brier")


class MetricComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of two versions on the same rows; `difference` is this minus other."""

    metric: str
    this: float
    other: float
    difference: Interval


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of two versions by paired bootstrap on the labelled rows of a window."""

    version: int
    other: int
    n: int
    frauds: int
    metrics: tuple[MetricComparison, ...]  # empty when a class has too few rows; then `reason` states it
    reviews_per_day: int  # of the metrics by day, which `metrics` holds if there are enough whole days
    days: int  # whole UTC days with known labels
    reason: str | None = None

    def metric(self, name: str) -> MetricComparison | None:
        """The named metric, or None."""
        return next((m for m in self.metrics if m.metric == name), None)


class InputShift(msgspec.Struct, frozen=True, kw_only=True):
    """Shift of one input between the training rows of an older version and of this one, in the older version's bins."""

    name: str
    shift: DistributionShift
    ordered: bool  # False for categories, whose KS has no meaning
    missing_before: float  # share of rows
    missing_now: float  # share of rows


def compare(
    this: MonitoredModel, other: MonitoredModel, history: History, window: BacktestWindow, plan: ReviewPlan
) -> Comparison:
    """Compare two versions on the labelled rows of a window; each uses its own feature encoding."""
    rows = window.all_rows[~np.isnan(history.fraud[window.all_rows])]
    labels, columns = history.fraud[rows], history.columns_at(rows)
    frauds = int(labels.sum())
    a, b = (m.score(featurize(m.encoding, columns)) for m in (this, other))
    reviewed = review_rows(history, rows, plan)
    enough = min(frauds, len(rows) - frauds) >= MIN_ROWS_PER_CLASS
    return Comparison(
        version=this.version,
        other=other.version,
        n=len(rows),
        frauds=frauds,
        metrics=(*_metric_comparisons(labels, a, b), *_review_comparisons(reviewed, a, b, plan)) if enough else (),
        reviews_per_day=plan.per_day,
        days=len(np.unique(reviewed.day[reviewed.whole])),
        reason=None
        if enough
        else f"{frauds} frauds among {len(rows)} rows with a known label; each class needs {MIN_ROWS_PER_CLASS}",
    )


def _metric_comparisons(labels: Floats, a: Floats, b: Floats) -> tuple[MetricComparison, ...]:
    of_a, of_b = (measure(rank(labels, scores), names=COMPARED_METRICS) for scores in (a, b))
    return tuple(
        MetricComparison(
            metric=name,
            this=float(of_a[name][0]),
            other=float(of_b[name][0]),
            difference=paired_difference(labels, a, b, name),
        )
        for name in COMPARED_METRICS
    )


def _review_comparisons(rows: ReviewRows, a: Floats, b: Floats, plan: ReviewPlan) -> tuple[MetricComparison, ...]:
    return tuple(
        MetricComparison(metric=name, this=of_a, other=of_b, difference=difference)
        for name, (of_a, of_b, difference) in review_differences(rows, a, b, plan.per_day).items()
    )


def input_shifts(manifest: Manifest, previous: Manifest, history: History) -> tuple[InputShift, ...]:
    """Shift of each input from an older version's training rows to this version's, largest PSI first.

    history: of the file that the version was trained on; rows outside its training period are left out.
    Returns () when no row lies in the training period.
    """
    times = history.event_time_ms
    rows = np.flatnonzero((times >= manifest.trained_from_ms) & (times <= manifest.trained_until_ms))
    if not len(rows):
        return ()
    columns = history.columns_at(rows)
    codes = featurize(previous.features, columns)
    profiles = {p.name: p for p in previous.profile}
    found = []
    for j, feature in enumerate(previous.features):
        ordered = feature.kind != "category"
        bins = bins_of_profile(profiles[feature.name], feature)
        values = columns[feature.name] if ordered else codes[:, j]
        current = np.bincount(bins.encode(values), minlength=len(bins.reference))
        found.append(
            InputShift(
                name=feature.name,
                shift=shift(bins, current),
                ordered=ordered,
                missing_before=profiles[feature.name].missing / previous.rows,
                missing_now=float(current[-1]) / len(rows),
            )
        )
    return tuple(sorted(found, key=lambda f: -f.shift.psi))
