"""What a training tells while it runs, and when it is done."""

from typing import Protocol

import msgspec

from schemas.promotion_log import VersionTransition
from schemas.records import ModelEvent
from scoring.decision import OperatingPoints
from training.evaluation.evaluation import Evaluation
from training.evaluation.skill_gate import GateResult
from training.model.probability_calibration import ProbabilityCalibration
from training.model.reproduction import Reproduction
from training.registry.promotion import PromotionDecision


class ProgressCallback(Protocol):
    """Is told what training does: a step's name as it begins, and, of one that counts, how far it is."""

    def __call__(self, name: str, done: int = 0, of: int | None = None, /) -> None:
        """Take it in."""


class TrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """What training did; `tamiz train --json` writes it."""

    model: str
    version: int
    champion: bool  # whether it decides from now on; otherwise it is the challenger
    forced: bool  # it is champion by a person's word and has not shown skill
    previous_champion: int | None
    verdict: GateResult
    promotion_decision: PromotionDecision  # against the champion, too
    move: VersionTransition
    rows: int  # that came in
    rejected: dict[str, int]  # rejection code -> rows
    unlabelled: int
    parts: dict[str, int]  # rows of train, validation, test and backtest; of the gap, where labels mature late
    base_rate: float  # share of fraud among the training rows
    trees: int
    probability_calibration: ProbabilityCalibration  # of its probabilities
    search: str | None  # what came of a search for better settings; `search.json` of the run has every candidate
    points: OperatingPoints
    points_why: str
    evaluation: Evaluation  # on test rows only
    data_sha256: str
    git_commit: str | None
    run_id: str  # MLflow's; `tamiz train --reproduce` makes it again
    reproduction: Reproduction | None  # of the run that was to be made again
    seconds: float
    mlflow_ui: str

    @property
    def events(self) -> tuple[ModelEvent, ...]:
        """What `model-events` is told of it."""
        move = self.move.event(self.model)
        return msgspec.structs.replace(move, change="registered", reason=self.verdict.summary), move
