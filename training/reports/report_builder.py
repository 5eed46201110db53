"""From a version and the history it is judged on to its report: gather, draw, write."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from scoring.features import featurize
from training.data.history import History
from training.data.holdout import BACKTEST_DAYS
from training.evaluation.backtest import Backtest, backtest, last_days, read_rows
from training.evaluation.evaluation import Evaluation
from training.evaluation.skill_gate import GateResult, evaluate_skill
from training.evaluation.version_comparison import Comparison, compare, input_shifts
from training.registry import version_transitions
from training.registry.model_loader import registered_model
from training.reports.backtest_figures import draw_backtest
from training.reports.figures import draw_all
from training.reports.model_report import Contents, write_report

MAX_EXPLAINED_ROWS = 2000  # rows whose contributions are drawn


def report_version(
    settings: Settings,
    dataset: Dataset,
    version: int | None,
    path: Path,
    output: Path,
    *,
    now: datetime,
    stage: Callable[[str], None] = lambda name: None,
) -> Contents:
    """Write the report of a version, the champion without one, as judged on the last days of a file (`BACKTEST_DAYS`).

    now: in UTC. Raises TrainingError when the file cannot be read or is too short, ModelUnavailableError and
    ModelIncompatibleError as the registry and the bundle do.
    """
    stage("fetching the model")
    model = registered_model(settings, version)
    champion = version_transitions.champion(settings)
    stage("reading and cleaning")
    history = read_rows(path, dataset)
    stage("backtesting")
    tested = backtest(model, dataset, history)
    window = last_days(history.event_time_ms)
    columns, labels = history.columns_at(window.all_rows), history.fraud[window.all_rows]
    matrix = featurize(model.encoding, columns)

    # The champion itself, and the first version, have no other to stand beside but the one before.
    previous = model.version - 1 if champion in (None, model.version) else champion
    other = registered_model(settings, previous) if previous else None
    stage("drawing")
    explained = np.unique(np.linspace(0, len(matrix) - 1, min(len(matrix), MAX_EXPLAINED_ROWS)).astype(int))
    contributions = model.contributions(matrix[explained])
    figures = draw_all(
        labels,
        model.score(matrix),
        tested.evaluation,
        contributions=contributions,
        values=matrix[explained],
        names=model.manifest.names,
    )
    del figures["confusion_f2"]  # the manifest keeps no F2 point: it would be the review point's again
    learned = f", of which {tested.learned_rows:,} lie in the time it was trained on" if tested.learned_rows else ""
    comparable = other is not None and other.manifest.dataset == dataset.name
    contents = gather(
        model,
        other if comparable else None,
        history,
        tested,
        evaluation=tested.evaluation,
        evaluated_on=f"the last {BACKTEST_DAYS} days of {path.name}{learned}",
        gate=evaluate_skill(tested.evaluation),
        status="champion" if champion == model.version else f"not champion (that is {champion or 'nobody'})",
        comparison=compare(model, other, history, window) if other is not None and comparable else None,
        promotion_decision=_promotion_decision(settings, model.version),
        figures=figures,
        now=now,
    )
    stage("writing")
    try:
        write_report(output, contents)
    except OSError as error:
        raise TrainingError(f"{output}: {error.strerror or error}; name another place with --output") from None
    return contents


def gather(
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
) -> Contents:
    """What the report of a model tells, from the records that judged it.

    other: the version it stands beside. history: of the file it was trained on, or is looked at on. now: in UTC.
    """
    return Contents(
        version=model.version,
        manifest=model.manifest,
        status=status,
        file=history.source,
        rows=history.rows,
        rejected=history.rejected,
        unlabelled=history.unlabelled,
        evaluation=evaluation,
        evaluated_on=evaluated_on,
        gate=gate,
        written_at=f"{now:%Y-%m-%d %H:%M}",
        figures={**figures, **draw_backtest(tested)},
        tested=tested,
        comparison=comparison,
        promotion_decision=promotion_decision,
        previous_version=other.version if other is not None else None,
        shifts=input_shifts(model.manifest, other.manifest, history) if other is not None else None,
    )


def _promotion_decision(settings: Settings, version: int) -> str | None:
    made = [m for m in version_transitions.history(settings) if m.version == version]
    return f"{made[-1].change} by {made[-1].by}: {made[-1].reason}" if made else None
