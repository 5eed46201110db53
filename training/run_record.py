"""What the MLflow run of a training records: the folder `evaluation/`, parameters and tags."""

from pathlib import Path

import msgspec
from matplotlib.figure import Figure

from monitoring.counting.monitored_model import MonitoredModel
from schemas.dataset.declaration import Dataset
from scoring.arrays import Floats, Matrix
from training.data.history import History
from training.evaluation.evaluation import Evaluation
from training.evaluation.skill_gate import GateResult
from training.model.cross_fit import CrossFit
from training.model.hyperparameter_search import SearchResult
from training.model.operating_points import PointChoice
from training.model.reproduction import RunEnvironment, TrainingPlan
from training.reports.figures import draw_evaluation, write_figures
from training.reports.report_builder import MAX_EXPLAINED_ROWS

SEARCH_FILE = "search.json"  # in the run's `evaluation/`
MAX_TAG_LENGTH = 1_000


def write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    choice: PointChoice,
    search_result: SearchResult | None,
    model: MonitoredModel,
    matrix: Matrix,
    fraud: Floats,
    scores: Floats,
) -> dict[str, Figure]:
    """Write the run's `evaluation/`: metrics, operating points, search result and figures of the test rows.

    scores: of the evaluated trees; model: the registered one, whose contributions are drawn.
    """
    explained = matrix[:: max(1, len(matrix) // MAX_EXPLAINED_ROWS)]
    figures = draw_evaluation(
        fraud,
        scores,
        evaluation,
        contributions=model.contributions(explained),
        values=explained,
        names=model.manifest.names,
    )
    write_figures(folder, figures)
    for figure in figures.values():
        figure.set_layout_engine("none")  # the layout is computed; the report may draw the figure again without it
    write_json(folder / "metrics.json", evaluation)
    write_json(folder / "operating_points.json", choice)
    if search_result:
        write_json(folder / SEARCH_FILE, search_result)
    return figures


def write_json(path: Path, record: msgspec.Struct) -> None:
    """Write a record as indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))


def run_params(
    dataset: Dataset,
    plan: TrainingPlan,
    final: CrossFit,
    history: History,
) -> dict[str, object]:
    """The run\'s parameters."""
    return {
        "dataset": dataset.name,
        "source": history.source,
        "threshold_policy": final.choice.policy.method,
        "rounds": final.booster.num_boosted_rounds(),
        "calibration_slope": final.calibration.slope,
        "calibration_intercept": final.calibration.intercept,
        **({"allow_missing": ", ".join(plan.allow_missing)} if plan.allow_missing else {}),
        **msgspec.structs.asdict(plan.fit),
    }


def run_tags(history: History, gate: GateResult, environment: RunEnvironment, forced: str | None) -> dict[str, str]:
    """The tags of the run and of its version. forced: a person\'s reason; None if the model was not forced."""
    tags = {
        "data_sha256": history.sha256,
        "rows": str(history.rows),
        "version": environment.tamiz,
        "gate_status": gate.status,
        "gate_summary": gate.summary,
    }
    if gate.leaks:
        tags["suspected_leakage"] = ", ".join(f"{leak.feature} {leak.roc_auc:.4f}" for leak in gate.leaks)[
            :MAX_TAG_LENGTH
        ]
    commit = environment.git_commit
    tags |= {"git_commit": commit} if commit else {}
    return tags | ({"forced": forced or "no reason was given"} if forced is not None else {})
