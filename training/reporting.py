"""From a registered version and a file to its report: gather, draw, write."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

from schemas.dataset import Dataset
from schemas.errors import TrainingError
from schemas.features import featurize
from schemas.settings import Settings
from training import registry
from training.backtest import backtest, last_days, read_rows
from training.backtest_figures import draw_backtest
from training.figures import draw_all
from training.gate import judge_skill
from training.registered import registered_model
from training.report import Contents, write_report
from training.versions import compare, input_shifts

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
    champion = registry.champion(settings)
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
    contents = Contents(
        version=model.version,
        manifest=model.manifest,
        standing="champion" if champion == model.version else f"not champion (that is {champion or 'nobody'})",
        file=path.name,
        rows=history.rows,
        rejected=history.rejected,
        unlabelled=history.unlabelled,
        evaluation=tested.evaluation,
        evaluated_on=f"the last 7 days of {path.name}{learned}",
        gate=judge_skill(tested.evaluation),
        written_at=f"{now:%Y-%m-%d %H:%M}",
        figures={**figures, **draw_backtest(tested)},
        tested=tested,
        comparison=compare(model, other, history, window) if other is not None and comparable else None,
        previous_version=previous if comparable else None,
        shifts=input_shifts(model.manifest, other.manifest, history) if other is not None and comparable else None,
    )
    stage("writing")
    try:
        write_report(output, contents)
    except OSError as error:
        raise TrainingError(f"{output}: {error.strerror or error}; name another place with --output") from None
    return contents
