"""Builds the report of a registered version: load the model, backtest it, draw the figures, write the PDF."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from scoring.bundle.declaration_match import declaration_mismatch
from scoring.features import featurize
from training.data.file_profiles import ProfileFiles
from training.data.history import History
from training.data.holdout import BACKTEST_DAYS
from training.evaluation.backtest import Backtest, read_rows, run_backtest
from training.evaluation.backtest_window import last_days
from training.evaluation.evaluation import Evaluation
from training.evaluation.leakage import Leak, find_leaks
from training.evaluation.review_ranking import ReviewPlan
from training.evaluation.skill_gate import GateResult, evaluate_skill
from training.evaluation.version_comparison import Comparison, compare, input_shifts
from training.registry import version_transitions
from training.registry.model_loader import registered_model
from training.reports.backtest_figures import draw_backtest
from training.reports.figures import draw_evaluation
from training.reports.model_report import ReportContents, write_model_report

MAX_EXPLAINED_ROWS = 2000  # rows whose contributions the figures show


def report_version(
    settings: Settings,
    dataset: Dataset,
    version: int | None,
    path: Path,
    output: Path,
    *,
    files: ProfileFiles = ProfileFiles(),  # noqa: B008
    now: datetime,
    progress: Callable[[str], None] = lambda step: None,
) -> ReportContents:
    """Write the report of a version, evaluated on the last `BACKTEST_DAYS` days of a file; returns its contents.

    version: None for the champion. path: CSV or Parquet. output: the PDF. files: as for `read_rows`. now: in UTC.
    progress: called with the name of each step.
    Raises TrainingError when the file cannot be read or is too short, or the PDF cannot be written;
    ModelUnavailableError when the registry cannot be reached or has no such version; ModelIncompatibleError when this
    Tamiz cannot load the bundle.
    """
    progress("fetching the model")
    model = registered_model(settings, version)
    champion = version_transitions.champion(settings)
    progress("reading and cleaning")
    history = read_rows(path, dataset, files)
    progress("backtesting")
    plan = ReviewPlan.from_settings(settings, dataset)
    tested = run_backtest(model, dataset, history, plan=plan)
    window = last_days(history.event_time_ms)
    columns, labels = history.columns_at(window.all_rows), history.fraud[window.all_rows]
    matrix = featurize(model.encoding, columns)

    # Compare with the champion; the champion itself is compared with the version before it.
    previous = model.version - 1 if champion in (None, model.version) else champion
    other = registered_model(settings, previous) if previous else None
    progress("drawing")
    explained = np.unique(np.linspace(0, len(matrix) - 1, min(len(matrix), MAX_EXPLAINED_ROWS)).astype(int))
    contributions = model.contributions(matrix[explained])
    figures = draw_evaluation(
        labels,
        model.score(matrix),
        tested.evaluation,
        contributions=contributions,
        values=matrix[explained],
        names=model.manifest.names,
    )
    del figures["confusion_f2"]  # the manifest has no F2 threshold: this figure would repeat the review point's
    trained_on = tested.training_period_rows
    note = f", of which {trained_on:,} lie in the training period" if trained_on else ""
    comparable = other is not None and declaration_mismatch(other.manifest, dataset) is None
    contents = report_contents(
        model,
        other if comparable else None,
        history,
        tested,
        evaluation=tested.evaluation,
        evaluated_on=f"the last {BACKTEST_DAYS} days of {path.name}{note}",
        gate=evaluate_skill(tested.evaluation, _leaks(dataset, history)),
        status="champion" if champion == model.version else f"not champion (champion: {champion or 'none'})",
        comparison=compare(model, other, history, window, plan) if other is not None and comparable else None,
        promotion_decision=_promotion_decision(settings, model.version),
        figures=figures,
        now=now,
    )
    progress("writing")
    try:
        write_model_report(output, contents)
    except OSError as error:
        raise TrainingError(f"{output}: {error.strerror or error}; name another path with --output") from None
    return contents


def report_contents(
    model: MonitoredModel,
    other: MonitoredModel | None,
    history: History,
    tested: Backtest,
    *,
    evaluation: Evaluation,
    evaluated_on: str,
    gate: GateResult,
    status: str,
    comparison: Comparison | None,
    promotion_decision: str | None,
    figures: Mapping[str, Figure],
    now: datetime,
) -> ReportContents:
    """The contents of a model's report, from the records of its evaluation.

    other: the version that it is compared with. history: of the file it was trained or backtested on. now: in UTC.
    """
    return ReportContents(
        version=model.version,
        manifest=model.manifest,
        status=status,
        file=history.source,
        rows=history.rows,
        rejected=history.rejected,
        unlabelled=history.unlabelled,
        time_range=history.time_range,
        evaluation=evaluation,
        evaluated_on=evaluated_on,
        gate=gate,
        written_at=f"{now:%Y-%m-%d %H:%M}",
        figures={**figures, **draw_backtest(tested)},
        backtest=tested,
        comparison=comparison,
        promotion_decision=promotion_decision,
        previous_version=other.version if other is not None else None,
        shifts=input_shifts(model.manifest, other.manifest, history) if other is not None else None,
    )


def _leaks(dataset: Dataset, history: History) -> tuple[Leak, ...]:
    known = np.flatnonzero(~np.isnan(history.fraud))
    return find_leaks(dataset, history.columns_at(known), history.fraud[known])


def _promotion_decision(settings: Settings, version: int) -> str | None:
    transitions = [t for t in version_transitions.history(settings) if t.version == version]
    return f"{transitions[-1].change} by {transitions[-1].by}: {transitions[-1].reason}" if transitions else None
