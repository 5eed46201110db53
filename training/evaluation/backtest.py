"""Backtest: the last days of a history, scored day by day, with drift, alerts, precision and recall for each day."""

from pathlib import Path

import msgspec
import numpy as np

from monitoring.counting.bins import bins_of_profile
from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.reference_profile import SCORE
from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn
from schemas.errors import TrainingError
from scoring.arrays import Floats
from scoring.bundle.declaration_match import check_declaration
from scoring.bundle.manifest import FeatureProfile, Manifest
from scoring.decision import OperatingPoints
from scoring.features import featurize
from training.data.chunk import key_array, known_labels
from training.data.file_profiles import FileProgress, ProfileFiles
from training.data.history import History, file_sha256, read_file, rejection_counts, without_isolated
from training.data.holdout import BACKTEST_DAYS
from training.data.label_file import LabelCounts, read_labels, with_late_labels
from training.data.time_range import TimeRange
from training.evaluation.backtest_window import last_days, utc_date
from training.evaluation.distribution_shift import DistributionShift, binned_quantiles, shift
from training.evaluation.evaluation import Evaluation, evaluate
from training.evaluation.review_ranking import ReviewPlan, review_rows
from training.model.operating_points import UNREACHABLE_THRESHOLD, wilson

PERCENTILES = (5, 25, 50, 75, 95, 99)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
MIN_ROWS_FOR_PSI = 300  # with fewer rows, a PSI above 0.2 is common without drift (at 50 rows, in 44 % of samples)
MIN_SHIFT_PSI = 0.1
ALPHA = 0.01  # significance level of a shift; Bonferroni-corrected for the single days


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A share of rows with Wilson's 95 % interval."""

    value: float
    low: float
    high: float


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts at one threshold in a period. Shares are over rows with a known label, None when there are none."""

    name: str  # "0.5" ... "0.9", or of an operating point
    threshold: float
    alerts: int
    caught: int  # alerts labelled as fraud
    precision: Share | None
    recall: Share | None


class BacktestPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """One day or the whole window, [from_ms, until_ms). Statistics are None when there are no rows."""

    name: str
    from_ms: int
    until_ms: int
    n: int
    labelled: int
    frauds: int
    percentiles: tuple[float, ...] | None  # of the score, at `Backtest.levels`
    shift: DistributionShift | None  # of the score against the training reference
    alerts: tuple[Alerts, ...]

    @property
    def has_enough_rows(self) -> bool:
        """Whether the period has enough rows for PSI."""
        return self.n >= MIN_ROWS_FOR_PSI

    def alerts_at(self, name: str) -> Alerts:
        """The alerts at a named threshold. Raises KeyError when there is none of that name."""
        for alerts in self.alerts:
            if alerts.name == name:
                return alerts
        raise KeyError(name)


class Backtest(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a backtest. It holds no nan and no infinity, so it can be written as JSON."""

    model: str
    version: int
    dataset: str
    file: str
    file_sha256: str
    time_range: TimeRange  # of the file
    points: OperatingPoints
    levels: tuple[int, ...]  # percentiles, in %
    reference: tuple[float, ...]  # percentiles of the score in training, from its binned profile
    reference_rows: int
    days: tuple[BacktestPeriod, ...]
    whole: BacktestPeriod
    evaluation: Evaluation  # of the window's labelled rows; its `at_f2` is at the review point
    training_period_rows: int  # rows of the window that lie in the model's training period; they are no test
    summary: str  # one sentence
    missing_columns: tuple[MissingColumn, ...] = ()  # declared columns that the file lacks
    late_labels: LabelCounts | None = None  # of a file of late labels


def read_rows(
    path: Path,
    dataset: Dataset,
    files: ProfileFiles = ProfileFiles(),  # noqa: B008
    progress: FileProgress = lambda step, share: None,
) -> History:
    """A file's accepted rows, with a label or without (nan): recent rows often have no label yet.

    Rows that are isolated in time are left out, as in training. files: earlier transactions for profiles, and late
    labels, which count as in training. progress: called with a step and the share of it that is done.

    Raises TrainingError when the file cannot be read or none of its rows is accepted.
    """
    late = None if files.labels is None else read_labels(files.labels, dataset)
    file = read_file(path, dataset, read_labels=True, progress=lambda share: progress("reading and cleaning", share))
    cleaned = file.cleaned
    if not len(cleaned.rows):
        cause = f"all {cleaned.n} rows are rejected, {file.reasons.commonest}" if cleaned.n else "the file has no rows"
        raise TrainingError(f"{path}: no valid row of the data set {dataset.name!r}: {cause}; name the right file")
    cleaned, time_range = without_isolated(cleaned)
    cleaned = files.columns_of_rows(cleaned, dataset, late, progress)
    cleaned, counts = with_late_labels(cleaned, late)
    fraud = known_labels(cleaned)
    return History(
        source=path.name,
        sha256=file_sha256(path),
        rows=cleaned.n,
        rejected=rejection_counts(cleaned, time_range),
        unlabelled=int(np.isnan(fraud).sum()),
        columns=cleaned.columns,
        event_time_ms=cleaned.event_time_ms,
        fraud=fraud,
        keys=key_array(cleaned),
        time_range=time_range,
        missing_columns=file.missing_columns,
        late_labels=counts,
    )


def run_backtest(
    model: MonitoredModel, dataset: Dataset, history: History, days: int = BACKTEST_DAYS, *, plan: ReviewPlan
) -> Backtest:
    """Score the last days of a history with a model, day by day.

    history: labels may be nan (not known). plan: what the team reviews a day.
    Raises ConfigError and TrainingError as `last_days` does, and ModelIncompatibleError when the model does not fit
    the data set's declaration.
    """
    manifest = model.manifest
    check_declaration(manifest, dataset, model.version)
    window = last_days(history.event_time_ms, days)
    scores = [model.score(featurize(model.encoding, history.columns_at(rows))) for rows in window.rows]
    reference = score_profile(manifest)
    points = manifest.points
    periods = [
        _period(utc_date(start), start, end, found, history.fraud[rows], reference, points)
        for start, end, found, rows in zip(window.edges_ms[:-1], window.edges_ms[1:], scores, window.rows, strict=True)
    ]
    all_scores, labels = np.concatenate(scores), history.fraud[window.all_rows]
    start, end = window.edges_ms[0], window.edges_ms[-1]
    whole = _period("1 day" if days == 1 else f"{days} days", start, end, all_scores, labels, reference, points)
    evaluation = evaluate(
        labels,
        all_scores,
        points=points,
        f2_threshold=points.review,
        reviews=review_rows(history, window.all_rows, plan),
        reviews_per_day=plan.per_day,
    )
    training_period_rows = int((history.event_time_ms[window.all_rows] <= manifest.trained_until_ms).sum())
    return Backtest(
        model=manifest.model,
        version=model.version,
        dataset=dataset.name,
        file=history.source,
        file_sha256=history.sha256,
        time_range=history.time_range,
        points=points,
        levels=PERCENTILES,
        reference=binned_quantiles(reference.edges, reference.counts, [p / 100 for p in PERCENTILES]),
        reference_rows=sum(reference.counts),
        days=tuple(periods),
        whole=whole,
        evaluation=evaluation,
        training_period_rows=training_period_rows,
        missing_columns=history.missing_columns,
        late_labels=history.late_labels,
        summary=_summary(periods, whole, evaluation, training_period_rows),
    )


def score_profile(manifest: Manifest) -> FeatureProfile:
    """The score's reference profile. Raises TrainingError when the manifest has none."""
    for profile in manifest.profile:
        if profile.name == SCORE:
            return profile
    raise TrainingError("the manifest has no profile of the score; train the model again with `tamiz train`")


def _period(
    name: str, start: int, end: int, scores: Floats, labels: Floats, reference: FeatureProfile, points: OperatingPoints
) -> BacktestPeriod:
    known = ~np.isnan(labels)
    bins = bins_of_profile(reference, None)
    current = np.bincount(bins.encode(scores), minlength=len(bins.reference))
    thresholds = {**{f"{t:g}": t for t in THRESHOLDS}, **dict(points.named())}
    return BacktestPeriod(
        name=name,
        from_ms=start,
        until_ms=end,
        n=len(scores),
        labelled=int(known.sum()),
        frauds=int(np.nansum(labels)),
        percentiles=tuple(np.percentile(scores, PERCENTILES).tolist()) if len(scores) else None,
        shift=shift(bins, current) if len(scores) else None,
        alerts=tuple(_alerts(which, threshold, scores, labels) for which, threshold in thresholds.items()),
    )


def _alerts(name: str, threshold: float, scores: Floats, labels: Floats) -> Alerts:
    alerted = scores >= threshold
    caught = int((alerted & (labels == 1)).sum())
    return Alerts(
        name=name,
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
    value = part / of  # a bound at 0 or 1 may miss it by a rounding error
    return Share(value=value, low=min(value, float(low[0])), high=max(value, float(high[0])))


def _summary(
    days: list[BacktestPeriod], whole: BacktestPeriod, evaluation: Evaluation, training_period_rows: int
) -> str:
    return (
        f"From {days[0].name} to {days[-1].name}, {_drift_summary(days, whole)}, {_skill_summary(evaluation)}, "
        f"and {_alert_summary(whole)}{_limitations(days, whole, training_period_rows)}."
    )


def _drift_summary(days: list[BacktestPeriod], whole: BacktestPeriod) -> str:
    """Only the whole window counts as drift: a single day differs by its weekday, which the model may know."""
    if whole.shift is None or not whole.has_enough_rows:
        return f"{whole.n} transactions are too few to test for drift of the scores ({MIN_ROWS_FOR_PSI} are needed)"
    shifted_days = [d for d in days if d.has_enough_rows and has_shifted(d, ALPHA / len(days))]
    named = ", ".join(f"{d.name}: {d.shift.psi:.3f}" for d in shifted_days if d.shift)
    exceptions = f", except on {len(shifted_days)} of {len(days)} single days ({named})" if shifted_days else ""
    if has_shifted(whole, ALPHA):
        return f"the scores had shifted from training (PSI {whole.shift.psi:.3f})"
    return f"the scores were distributed as in training (PSI {whole.shift.psi:.3f}){exceptions}"


def has_shifted(period: BacktestPeriod, alpha: float) -> bool:
    """Whether a period's scores have shifted from training: PSI is large enough to matter, and significant."""
    s = period.shift
    return s is not None and s.psi >= MIN_SHIFT_PSI and s.p_value < alpha


def _skill_summary(evaluation: Evaluation) -> str:
    auc = evaluation.metric("roc_auc")
    if auc.value is None or auc.low is None or auc.high is None:
        return f"too few labels are known to measure skill ({auc.reason})"
    skill = "the model had skill" if auc.low > 0.5 else "the model had no proven skill"
    return f"{skill} (ROC AUC {auc.value:.3f}, {evaluation.confidence:.0%} interval {auc.low:.3f} to {auc.high:.3f})"


def _alert_summary(whole: BacktestPeriod) -> str:
    review = whole.alerts_at("review")
    if review.threshold >= UNREACHABLE_THRESHOLD:
        return "nothing was alerted, because the review point lies above every score"
    share = f"{review.alerts:,} of {whole.n:,} transactions ({review.alerts / whole.n:.1%})"
    if review.precision is None or review.recall is None:
        return f"{share} were alerted at the review point"
    precision, recall = review.precision.value, review.recall.value
    return f"{share} were alerted at the review point, with precision {precision:.1%} and recall {recall:.1%}"


def _limitations(days: list[BacktestPeriod], whole: BacktestPeriod, training_period_rows: int) -> str:
    empty = sum(not d.n for d in days)
    parts = [f"{empty} of {len(days)} days have no transactions"] if empty else []
    if training_period_rows:
        parts.append(
            f"{training_period_rows:,} of these {whole.n:,} rows lie in the model's training period, so this is no test"
        )
    return f"; however, {' and '.join(parts)}" if parts else ""
