"""Progress and result of a training."""

from typing import Protocol

import msgspec

from schemas.dataset.missing_columns import MissingColumn
from schemas.promotion_log import VersionTransition
from schemas.records import ModelEvent
from scoring.decision import OperatingPoints
from training.data.label_file import LabelCounts
from training.data.profile_values import ProfileSources
from training.data.time_range import TimeRange
from training.evaluation.evaluation import Evaluation
from training.evaluation.skill_gate import GateResult
from training.model.probability_calibration import ProbabilityCalibration
from training.model.reproduction import Reproduction
from training.registry.promotion import PromotionDecision


class ProgressCallback(Protocol):
    """Called with the name of each step as it begins; for steps with a known length also with their progress."""

    def __call__(self, step: str, done: int = 0, of: int | None = None, /) -> None:
        """Report that a step has begun, or that `done` of its `of` parts are complete."""


class TrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a training; `tamiz train --json` prints it."""

    model: str
    version: int
    champion: bool  # whether the version is champion now; otherwise it is the challenger
    forced: bool  # whether a person promoted it although the skill gate failed
    previous_champion: int | None
    gate: GateResult
    promotion_decision: PromotionDecision  # by skill gate and comparison with the champion
    transition: VersionTransition
    rows: int  # in the source
    rejected: dict[str, int]  # rejection code -> rows
    unlabelled: int  # accepted rows without a final label
    late_labels: LabelCounts | None  # of a file of late labels
    outside_range: int  # accepted rows of a file outside of the requested range of event times
    profile_sources: ProfileSources | None  # of a topic's rows, if the data set declares profiles
    missing_columns: tuple[MissingColumn, ...]  # declared columns that the file lacks
    time_range: TimeRange  # event times of the accepted rows, and what was left out as isolated
    parts: dict[str, int]  # rows in train, test and backtest, and in the gaps when labels have a delay
    fitted_rows: int  # that the registered model is fitted to: all before the backtest's days with a final label
    base_rate: float  # share of fraud in these rows
    trees: int
    probability_calibration: ProbabilityCalibration
    search: str | None  # summary of the hyperparameter search; the run's `search.json` has every candidate
    points: OperatingPoints
    points_reason: str
    evaluation: Evaluation  # on test rows only
    data_sha256: str
    git_commit: str | None
    run_id: str  # of the MLflow run; `tamiz train --reproduce` takes it
    reproduction: Reproduction | None  # comparison with the run that was to be reproduced
    seconds: float
    mlflow_ui: str  # command or address of the MLflow UI

    @property
    def silence(self) -> str | None:
        """Warning that this version would review and decline nothing; None if it flags some test rows."""
        found = self.evaluation.at_review
        if found.alerts:
            return None
        return (
            f"{self.model} version {self.version} approves every test row: none scores at or above its review "
            f"threshold {found.threshold:.4g}; train on more frauds, or set threshold_policy (docs/training.md)"
        )

    @property
    def events(self) -> tuple[ModelEvent, ...]:
        """The events for the topic `model-events`: registration, then the transition."""
        transition = self.transition.event(self.model)
        return msgspec.structs.replace(transition, change="registered", reason=self.gate.summary), transition
