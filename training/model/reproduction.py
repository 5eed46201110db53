"""Making a model again: all that decided what it became, kept with its run, and whether a second making gives it back.

A run's `config.json` names the data by its hash, every choice and seed by its value, and what it was computed with.
"""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.configuration.settings import Settings
from schemas.errors import TrainingError
from schemas.json_codec import decode
from training.data.history import History
from training.data.holdout import BACKTEST_DAYS, TEST_SHARE, VALIDATION_SHARE
from training.model.fit import FitConfig
from training.model.operating_points import PointPolicy
from training.model.provenance import git_commit, tamiz_version

CONFIG_FILE = "config.json"  # at the root of the run's artifacts
PACKAGES = ("xgboost", "numpy", "scipy", "scikit-learn", "pyarrow", "msgspec", "mlflow")  # that have a part in it


class FileSource(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """A file, where it lay."""

    path: str


class TopicSource(msgspec.Struct, frozen=True, kw_only=True, tag="topic"):
    """What Kafka kept, by event time."""

    from_ms: int | None
    until_ms: int | None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was computed with."""

    tamiz: str
    git_commit: str | None
    python: str
    platform: str
    packages: dict[str, str]

    @classmethod
    def here(cls) -> "Environment":
        """This process's."""
        return cls(
            tamiz=tamiz_version(),
            git_commit=git_commit(),
            python=platform.python_version(),
            platform=platform.platform(),
            packages={name: version(name) for name in PACKAGES},
        )


class TrainingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what a model becomes, given the rows."""

    label_delay_days: int = 0
    backtest_days: int = BACKTEST_DAYS
    validation_share: float = VALIDATION_SHARE
    test_share: float = TEST_SHARE
    fit: FitConfig = FitConfig()  # seed and threads among it
    points: PointPolicy = PointPolicy()

    @classmethod
    def of(cls, settings: Settings) -> "TrainingPlan":
        """What the settings decide of it."""
        return cls(label_delay_days=settings.label_delay_days, points=PointPolicy.of(settings))


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A run's `config.json`."""

    source: FileSource | TopicSource
    data_sha256: str
    model: str
    dataset: str  # as the setting names it
    plan: TrainingPlan
    environment: Environment
    model_sha256: str  # of the trees as they are written

    def settings(self, settings: Settings) -> Settings:
        """The settings with those of this run in their place that decide what a model becomes."""
        return msgspec.structs.replace(
            settings, model_name=self.model, dataset=self.dataset, label_delay_days=self.plan.label_delay_days
        )


class ReproductionTarget(NamedTuple):
    """A run that is to be made again."""

    run_id: str
    config: RunConfig

    def require_same_history(self, history: History) -> None:
        """Raise TrainingError when it is not what the run learned from: nothing else could give the same model."""
        if history.sha256 != self.config.data_sha256:
            remedy = (
                "name the file that it was trained on"
                if isinstance(self.config.source, FileSource)
                else "transactions have expired there, or labels have come since"
            )
            raise TrainingError(
                f"{history.source}: not what run {self.run_id} learned from: SHA-256 {history.sha256[:12]}…, there "
                f"{self.config.data_sha256[:12]}…; {remedy}"
            )

    def told(self, now: RunConfig) -> "Reproduction":
        """Whether a second making gave the same booster, and if not, what was different."""
        same = now.model_sha256 == self.config.model_sha256
        if same:
            return Reproduction(
                run_id=self.run_id, same=True, summary=f"The booster of run {self.run_id}, bit for bit."
            )
        then, here = _parts(self.config.environment), _parts(now.environment)
        changed = [
            f"{name} {here.get(name)} (there {value})" for name, value in then.items() if here.get(name) != value
        ]
        why = f"different are {', '.join(changed)}" if changed else "no difference in what made it is known"
        return Reproduction(run_id=self.run_id, same=False, summary=f"Not the booster of run {self.run_id}: {why}.")


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """What came of making a run again."""

    run_id: str
    same: bool  # bit for bit
    summary: str


def source_of(source: Path | History) -> FileSource | TopicSource:
    """Where a history can be read again."""
    if isinstance(source, Path):
        return FileSource(path=str(source.resolve()))
    return TopicSource(from_ms=source.from_ms, until_ms=source.until_ms)


def read_config(content: bytes, run_id: str) -> RunConfig:
    """A run's `config.json`. Raises TrainingError when this Tamiz cannot read it."""
    try:
        return decode(content, RunConfig)
    except msgspec.DecodeError as error:
        raise TrainingError(
            f"run {run_id}: its {CONFIG_FILE} cannot be read: {error}; was it another Tamiz's?"
        ) from None


def _parts(environment: Environment) -> dict[str, str | None]:
    e = environment
    return {"Tamiz": e.tamiz, "commit": e.git_commit, "Python": e.python, "platform": e.platform, **e.packages}
