"""What a training tells while it runs, and when it is done."""

from typing import Protocol

import msgspec

from schemas.decision import OperatingPoints
from schemas.events import ModelEvent
from schemas.promotion_log import Move
from training.evaluation import Evaluation
from training.gate import Verdict
from training.promotion import Judgement
from training.recalibration import Recalibration
from training.reproduction import Reproduction


class Stage(Protocol):
    """Is told what training does: a step's name as it begins, and, of one that counts, how far it is."""

    def __call__(self, name: str, done: int = 0, of: int | None = None, /) -> None:
        """Take it in."""


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What training did; `tamiz train --json` writes it."""

    model: str
    version: int
    champion: bool  # whether it decides from now on; otherwise it is the challenger
    forced: bool  # it is champion by a person's word and has not shown skill
    previous_champion: int | None
    verdict: Verdict
    judgement: Judgement  # against the champion, too
    move: Move
    rows: int  # that came in
    rejected: dict[str, int]  # rejection code -> rows
    unlabelled: int
    parts: dict[str, int]  # rows of train, validation, test and backtest; of the gap, where labels mature late
    base_rate: float  # share of fraud among the training rows
    trees: int
    recalibration: Recalibration  # of its probabilities
    search: str | None  # what came of a search for better settings; `search.json` of the run has every candidate
    points: OperatingPoints
    points_why: str
    evaluation: Evaluation  # on test rows only
    data_sha256: str
    git_commit: str | None
    run_id: str  # MLflow's; `tamiz train --from-run` makes it again
    reproduction: Reproduction | None  # of the run that was to be made again
    seconds: float
    mlflow_ui: str

    @property
    def events(self) -> tuple[ModelEvent, ...]:
        """What `model-events` is told of it."""
        move = self.move.event(self.model)
        return msgspec.structs.replace(move, change="registered", reason=self.verdict.sentence), move
