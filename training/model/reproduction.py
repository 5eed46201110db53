"""Reproduction of a run: the record of everything that determines a model, and the comparison of a second run with it.

A run's `config.json` holds the data's hash, every parameter and seed, and the environment.
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
from training.data.holdout import BACKTEST_DAYS, TEST_SHARE
from training.model.fit import FitConfig
from training.model.operating_points import PointPolicy
from training.model.provenance import git_commit, tamiz_version

CONFIG_FILE = "config.json"  # at the root of the run's artifacts
PACKAGES = ("xgboost", "numpy", "scipy", "scikit-learn", "pyarrow", "msgspec", "mlflow")  # that affect the model


class FileSource(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """A history that was read from a file, limited by event time."""

    path: str  # absolute
    labels: str | None = None  # file of late labels, absolute
    from_ms: int | None = None  # inclusive
    until_ms: int | None = None  # exclusive


class TopicSource(msgspec.Struct, frozen=True, kw_only=True, tag="topic"):
    """A history that was read from Kafka, limited by event time."""

    from_ms: int | None  # inclusive
    until_ms: int | None  # exclusive


class RunEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of the software that computed a model."""

    tamiz: str
    git_commit: str | None
    python: str
    platform: str
    packages: dict[str, str]

    @classmethod
    def current(cls) -> "RunEnvironment":
        """The environment of this process."""
        return cls(
            tamiz=tamiz_version(),
            git_commit=git_commit(),
            python=platform.python_version(),
            platform=platform.platform(),
            packages={name: version(name) for name in PACKAGES},
        )


class TrainingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All parameters that determine a model, given the rows."""

    label_delay_days: int = 0
    backtest_days: int = BACKTEST_DAYS
    test_share: float = TEST_SHARE
    fit: FitConfig = FitConfig()  # includes seed and number of threads
    points: PointPolicy = PointPolicy()
    allow_missing: tuple[str, ...] = ()  # optional columns that the history's file may lack

    @classmethod
    def from_settings(cls, settings: Settings, allow_missing: tuple[str, ...] = ()) -> "TrainingPlan":
        """The plan for these settings; parameters that have no setting keep their defaults.

        Raises ConfigError as `PointPolicy.from_settings` does.
        """
        return cls(
            label_delay_days=settings.label_delay_days,
            points=PointPolicy.from_settings(settings),
            allow_missing=allow_missing,
        )


class RunConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A run's `config.json`."""

    source: FileSource | TopicSource
    data_sha256: str
    model: str
    dataset: str  # value of the setting `dataset`
    plan: TrainingPlan
    environment: RunEnvironment
    model_sha256: str  # of the model file

    def apply_to(self, settings: Settings) -> Settings:
        """The settings with this run's values for those that determine a model."""
        return msgspec.structs.replace(
            settings, model_name=self.model, dataset=self.dataset, label_delay_days=self.plan.label_delay_days
        )


class ReproductionTarget(NamedTuple):
    """A run to reproduce."""

    run_id: str
    config: RunConfig

    def require_same_history(self, history: History) -> None:
        """Raise TrainingError when this is not the history that the run was trained on."""
        if history.sha256 != self.config.data_sha256:
            remedy = (
                "name the files that it was trained on"
                if isinstance(self.config.source, FileSource)
                else "since then, transactions have expired or labels have arrived"
            )
            raise TrainingError(
                f"{history.source}: run {self.run_id} was trained on other data: the SHA-256 is "
                f"{history.sha256[:12]}…, expected {self.config.data_sha256[:12]}…; {remedy}"
            )

    def compare(self, config: RunConfig) -> "Reproduction":
        """Compare a second run with this one: whether the models are identical and which versions differ."""
        if config.model_sha256 == self.config.model_sha256:
            return Reproduction(
                run_id=self.run_id, same=True, summary=f"Identical to the model of run {self.run_id}, bit for bit."
            )
        before, now = _versions(self.config.environment), _versions(config.environment)
        changed = [f"{name} {now.get(name)} (was {value})" for name, value in before.items() if now.get(name) != value]
        why = f"changed since: {', '.join(changed)}" if changed else "no difference of the environment is known"
        summary = f"Differs from the model of run {self.run_id}: {why}."
        return Reproduction(run_id=self.run_id, same=False, summary=summary)


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """Result of reproducing a run."""

    run_id: str
    same: bool  # whether the model is identical, bit for bit
    summary: str


def history_source(history: History, path: Path | None, labels: Path | None) -> FileSource | TopicSource:
    """The source that the history can be read from again. path, labels: its files, if it was read from files."""
    if path is None:
        return TopicSource(from_ms=history.from_ms, until_ms=history.until_ms)
    return FileSource(
        path=str(path.resolve()),
        labels=None if labels is None else str(labels.resolve()),
        from_ms=history.from_ms,
        until_ms=history.until_ms,
    )


def read_config(content: bytes, run_id: str) -> RunConfig:
    """Decode a run's `config.json`. Raises TrainingError when this version of Tamiz cannot read it."""
    try:
        return decode(content, RunConfig)
    except msgspec.DecodeError as error:
        raise TrainingError(
            f"run {run_id}: {CONFIG_FILE} cannot be read: {error}; use the version of Tamiz that wrote it"
        ) from None


def _versions(environment: RunEnvironment) -> dict[str, str | None]:
    e = environment
    return {"Tamiz": e.tamiz, "commit": e.git_commit, "Python": e.python, "platform": e.platform, **e.packages}
