"""From a version and the history it is judged on to its report: gather, draw, write."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from monitoring.model import ScoringModel
from schemas.dataset import Dataset
from schemas.errors import TrainingError
from schemas.features import featurize
from schemas.settings import Settings
from training import moves
from training.backtest import Backtest, backtest, last_days, read_rows
from training.backtest_figures import draw_backtest
from training.evaluation import Evaluation
from training.figures import draw_all
from training.gate import Verdict, judge_skill
from training.history import History
from training.registered import registered_model
from training.report import Contents, write_report
from training.versions import Comparison, compare, input_shifts

MOST_EXPLAINED = 2000  # rows whose contributions are drawn


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
    """Write the report of a version, the champion without one, as judged on the last 7 days of a file.

    now: in UTC. Raises TrainingError when the file cannot be read or is too short, ModelUnavailable and
    ModelIncompatible as the registry and the bundle do.
    """
    stage("fetching the model")
    model = registered_model(settings, version)
    champion = moves.champion(settings)
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
    explained = np.unique(np.linspace(0, len(matrix) - 1, min(len(matrix), MOST_EXPLAINED)).astype(int))
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
        evaluated_on=f"the last 7 days of {path.name}{learned}",
        gate=judge_skill(tested.evaluation),
        standing="champion" if champion == model.version else f"not champion (that is {champion or 'nobody'})",
        comparison=compare(model, other, history, window) if other is not None and comparable else None,
        judgement=_judgement(settings, model.version),
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
    model: ScoringModel,
    other: ScoringModel | None,
    history: History,
    tested: Backtest,
    *,
    evaluation: Evaluation,
    evaluated_on: str,
    gate: Verdict,
    standing: str,
    comparison: Comparison | None,
    judgement: str | None,
    figures: Mapping[str, Figure],
    now: datetime,
) -> Contents:
    """What the report of a model tells, from the records that judged it.

    other: the version it stands beside. history: of the file it was trained on, or is looked at on. now: in UTC.
    """
    return Contents(
        version=model.version,
        manifest=model.manifest,
        standing=standing,
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
        judgement=judgement,
        previous_version=other.version if other is not None else None,
        shifts=input_shifts(model.manifest, other.manifest, history) if other is not None else None,
    )


def _judgement(settings: Settings, version: int) -> str | None:
    made = [m for m in moves.history(settings) if m.version == version]
    return f"{made[-1].change} by {made[-1].by}: {made[-1].reason}" if made else None
