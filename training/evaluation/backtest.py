"""The last days of a history, scored day by day as they came: would this model have done well last week?

Days are whole UTC days, and the window ends with the day of the last event: seven days are 7 x 24 h, never eight dates.
"""

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from monitoring.counting.bins import bins_of_profile
from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.reference_profile import SCORE
from schemas.dataset.declaration import Dataset
from schemas.errors import ConfigError, TrainingError
from schemas.time_units import DAY_MS
from scoring.arrays import Floats, Indices, Ints
from scoring.bundle.manifest import FeatureProfile, Manifest
from scoring.decision import OperatingPoints
from scoring.features import featurize
from scoring.input.cleaning import clean_columns
from training.data.history import History, read_columns, sha256_of
from training.data.holdout import BACKTEST_DAYS
from training.evaluation.distribution_shift import DistributionShift, binned_quantiles, shift
from training.evaluation.evaluation import Evaluation, evaluate
from training.model.operating_points import UNREACHABLE_THRESHOLD, wilson

PERCENTILES = (5, 25, 50, 75, 95, 99)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
MIN_ROWS_FOR_PSI = 300  # below, PSI above 0.2 is ordinary luck (DRIFT: at 50 rows it is 44 % of all draws)
SHIFTED_PSI = 0.1
ALPHA = 0.01  # of a false word about drift in the whole window, shared out over its days


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share of counted rows with Wilson's 95 % interval."""

    value: float
    low: float
    high: float


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """What one threshold did in a period; shares over rows with a known label, None where nothing can be divided."""

    at: str  # "0.5" ... "0.9", "review", "decline"
    threshold: float
    alerts: int
    caught: int  # alerts known to be fraud
    precision: Share | None
    recall: Share | None


class BacktestPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """One day, or the whole window, [from_ms, until_ms). Measures are None where there are no rows."""

    name: str
    from_ms: int
    until_ms: int
    n: int
    labelled: int
    frauds: int
    percentiles: tuple[float, ...] | None  # of the score, at Backtest.levels
    shift: DistributionShift | None  # of the score against the training reference
    alerts: tuple[Alerts, ...]

    @property
    def enough_for_psi(self) -> bool:
        """Whether PSI says something on so few rows."""
        return self.n >= MIN_ROWS_FOR_PSI

    def at(self, name: str) -> Alerts:
        """The alerts at a named threshold. Raises KeyError."""
        for alerts in self.alerts:
            if alerts.at == name:
                return alerts
        raise KeyError(name)


class Backtest(msgspec.Struct, frozen=True, kw_only=True):
    """A model over the last days of a history. JSON-able: no nan, no infinity."""

    model: str
    version: int
    dataset: str
    file: str
    file_sha256: str
    points: OperatingPoints
    levels: tuple[int, ...]  # percentiles, in %
    reference: tuple[float, ...]  # percentiles of the score in training, from its binned profile
    reference_rows: int
    days: tuple[BacktestPeriod, ...]
    whole: BacktestPeriod
    evaluation: Evaluation  # of the whole window's labelled rows; its `at_f2` is at the review point
    learned_rows: int  # rows of the window inside the time the model was trained on: not a test for those
    verdict: str


class BacktestWindow(NamedTuple):
    """Whole UTC days, by their edges, and the rows that lie in each."""

    edges_ms: tuple[int, ...]  # n_days + 1
    rows: tuple[Indices, ...]  # one array a day, in order of event time

    @property
    def all_rows(self) -> Indices:
        """The rows of every day, in order of event time."""
        return np.concatenate(self.rows)


def last_days(event_time_ms: Ints, days: int = BACKTEST_DAYS) -> BacktestWindow:
    """The last whole UTC days; the last one is that of the last event.

    event_time_ms: shape (n,), in any order.
    Raises ConfigError when `days` is not positive, TrainingError when the history does not reach back so far.

    >>> window = last_days(np.array([0, 5, DAY_MS, 3 * DAY_MS - 1]), days=2)
    >>> window.edges_ms, [rows.tolist() for rows in window.rows]
    ((86400000, 172800000, 259200000), [[2], [3]])
    """
    if days < 1:
        raise ConfigError(f"days: {days}, a backtest takes at least 1 day")
    if not len(event_time_ms):
        raise TrainingError("no rows to test on; give a file with transactions")
    first_day, last_day = (int(event_time_ms.min()) // DAY_MS, int(event_time_ms.max()) // DAY_MS)
    start = last_day + 1 - days
    if first_day > start:
        raise TrainingError(
            f"the history spans {last_day - first_day + 1} days ({utc_date(first_day * DAY_MS)} to "
            f"{utc_date(last_day * DAY_MS)}, UTC), a backtest of {days} days needs {days}; give a longer history"
        )
    edges = [(start + i) * DAY_MS for i in range(days + 1)]
    order = np.argsort(event_time_ms, kind="stable")
    cuts = np.searchsorted(event_time_ms[order], edges)
    return BacktestWindow(tuple(edges), tuple(order[a:b] for a, b in pairwise(cuts)))


def read_rows(path: Path, dataset: Dataset) -> History:
    """A file's accepted rows, with a label or without (nan): young labels are missing where a backtest looks.

    Raises TrainingError when the file cannot be read or no row of it is accepted.
    """
    cleaned = clean_columns(dataset, read_columns(path, dataset))
    m = len(cleaned.rows)
    if not m:
        why = Counter(f"{r.code} in {r.field}" for r in cleaned.rejections).most_common(1)
        cause = f"all {cleaned.n} are rejected, mostly {why[0][0]}" if why else "it holds none"
        raise TrainingError(f"{path}: no row that the data set {dataset.name!r} accepts: {cause}; name the right file")
    fraud = np.full(m, np.nan) if cleaned.labels is None else cleaned.labels
    return History(
        source=path.name,
        sha256=sha256_of(path),
        rows=cleaned.n,
        rejected=dict(Counter(r.code for r in cleaned.rejections)),
        unlabelled=int(np.isnan(fraud).sum()),
        columns=cleaned.columns,
        event_time_ms=cleaned.event_time_ms,
        fraud=fraud,
    )


def backtest(model: MonitoredModel, dataset: Dataset, history: History, days: int = BACKTEST_DAYS) -> Backtest:
    """Score the last days of a history, each day on its own, as the worker would have.

    history: labels may be nan (not known yet).
    Raises ConfigError, TrainingError as `last_days` does, and TrainingError when the model is of another data set.
    """
    manifest = model.manifest
    if manifest.dataset != dataset.name:
        raise TrainingError(
            f"version {model.version} was trained on the data set {manifest.dataset!r}, not {dataset.name!r}; "
            "name its data set with TAMIZ_DATASET"
        )
    window = last_days(history.event_time_ms, days)
    scores = [model.score(featurize(model.encoding, history.columns_at(rows))) for rows in window.rows]
    reference = score_profile(manifest)
    points = manifest.points
    periods = [
        _period(utc_date(start), start, end, found, history.fraud[rows], reference, points)
        for start, end, found, rows in zip(window.edges_ms[:-1], window.edges_ms[1:], scores, window.rows, strict=True)
    ]
    every, labels = np.concatenate(scores), history.fraud[window.all_rows]
    start, end = window.edges_ms[0], window.edges_ms[-1]
    whole = _period("1 day" if days == 1 else f"{days} days", start, end, every, labels, reference, points)
    evaluation = evaluate(labels, every, points=points, f2_threshold=points.review)
    learned = int((history.event_time_ms[window.all_rows] <= manifest.trained_until_ms).sum())
    return Backtest(
        model=manifest.model,
        version=model.version,
        dataset=dataset.name,
        file=history.source,
        file_sha256=history.sha256,
        points=points,
        levels=PERCENTILES,
        reference=binned_quantiles(reference.edges, reference.counts, [p / 100 for p in PERCENTILES]),
        reference_rows=sum(reference.counts),
        days=tuple(periods),
        whole=whole,
        evaluation=evaluation,
        learned_rows=learned,
        verdict=_verdict(periods, whole, evaluation, learned),
    )


def score_profile(manifest: Manifest) -> FeatureProfile:
    """The score's reference profile. Raises TrainingError when the manifest has none."""
    for profile in manifest.profile:
        if profile.name == SCORE:
            return profile
    raise TrainingError("the manifest holds no profile of the score; train the model again with `tamiz train`")


def utc_date(ms: int) -> str:
    """The UTC date of an instant, ISO 8601."""
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def _period(
    name: str, start: int, end: int, scores: Floats, labels: Floats, reference: FeatureProfile, points: OperatingPoints
) -> BacktestPeriod:
    known = ~np.isnan(labels)
    bins = bins_of_profile(reference, None)
    current = np.bincount(bins.encode(scores), minlength=len(bins.reference))
    at = {**{f"{t:g}": t for t in THRESHOLDS}, "review": points.review, "decline": points.decline}
    return BacktestPeriod(
        name=name,
        from_ms=start,
        until_ms=end,
        n=len(scores),
        labelled=int(known.sum()),
        frauds=int(np.nansum(labels)),
        percentiles=tuple(np.percentile(scores, PERCENTILES).tolist()) if len(scores) else None,
        shift=shift(bins, current) if len(scores) else None,
        alerts=tuple(_alerts(which, threshold, scores, labels) for which, threshold in at.items()),
    )


def _alerts(name: str, threshold: float, scores: Floats, labels: Floats) -> Alerts:
    alerted = scores >= threshold
    caught = int((alerted & (labels == 1)).sum())
    return Alerts(
        at=name,
        threshold=threshold,
        alerts=int(alerted.sum()),
        caught=caught,
        precision=_share(caught, int((alerted & ~np.isnan(labels)).sum())),
        recall=_share(caught, int((labels == 1).sum())),
    )


def _share(part: int, of: int) -> Share | None:
    if not of:
        return None
    low, high = wilson(np.array([float(part)]), np.array([float(of)]))
    value = part / of  # which a bound at 0 or 1 may miss by a rounding
    return Share(value=value, low=min(value, float(low[0])), high=max(value, float(high[0])))


def _verdict(days: list[BacktestPeriod], whole: BacktestPeriod, evaluation: Evaluation, learned: int) -> str:
    """What the window says, in one sentence."""
    return (
        f"From {days[0].name} to {days[-1].name} {_drift_words(days, whole)}, {_skill_words(evaluation)}, "
        f"and {_alert_words(whole)}{_caution(days, whole, learned)}."
    )


def _drift_words(days: list[BacktestPeriod], whole: BacktestPeriod) -> str:
    """The whole window decides: a single one is a day of the week, which is no drift where the model knows days."""
    if whole.shift is None or not whole.enough_for_psi:
        return f"{whole.n} transactions are too few for a word about the scores' drift ({MIN_ROWS_FOR_PSI} are needed)"
    single = [d for d in days if d.enough_for_psi and has_shifted(d, ALPHA / len(days))]
    named = ", ".join(f"{d.name}: {d.shift.psi:.3f}" for d in single if d.shift)
    apart = f", though not on {len(single)} of {len(days)} days taken alone ({named})" if single else ""
    if has_shifted(whole, ALPHA):
        return f"the scores had shifted from training (PSI {whole.shift.psi:.3f})"
    return f"the scores lay as in training (PSI {whole.shift.psi:.3f}){apart}"


def has_shifted(period: BacktestPeriod, alpha: float) -> bool:
    """Whether the scores of a period lie apart from training: far enough to matter, and beyond luck."""
    s = period.shift
    return s is not None and s.psi >= SHIFTED_PSI and s.p_value < alpha


def _skill_words(evaluation: Evaluation) -> str:
    auc = evaluation.metric("roc_auc")
    if auc.value is None or auc.low is None or auc.high is None:
        return f"too few labels are known to tell skill ({auc.reason})"
    shown = "skill was shown" if auc.low > 0.5 else "no skill was shown"
    return f"{shown} (ROC AUC {auc.value:.3f}, {evaluation.confidence:.0%} interval {auc.low:.3f} to {auc.high:.3f})"


def _alert_words(whole: BacktestPeriod) -> str:
    review = whole.at("review")
    if review.threshold >= UNREACHABLE_THRESHOLD:
        return "nothing is alerted, for the review point lies above every score"
    told = f"{review.alerts:,} of {whole.n:,} transactions ({review.alerts / whole.n:.1%}) reached the review point"
    if review.precision is None or review.recall is None:
        return told
    return f"{told} with precision {review.precision.value:.1%} and recall {review.recall.value:.1%}"


def _caution(days: list[BacktestPeriod], whole: BacktestPeriod, learned: int) -> str:
    empty = sum(not d.n for d in days)
    parts = [f"{empty} of {len(days)} days hold no transaction"] if empty else []
    if learned:
        parts.append(f"the model was trained on the time of {learned:,} of these {whole.n:,} rows, so this is no test")
    return f"; but {' and '.join(parts)}" if parts else ""
