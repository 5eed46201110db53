"""A run is made again bit for bit from what it logged, or says in one line why not."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from schemas.configuration.settings import Settings
from tamiz.main import app
from tests.unit.training.test_pipeline import rows, write
from training.model.reproduction import CONFIG_FILE, ReproductionTarget, RunConfig, read_config
from training.pipeline import train
from training.registry import mlflow_registry
from training.train_result import TrainResult


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def history_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("history") / "history.csv", rows())


@pytest.fixture(scope="module")
def made(settings: Settings, history_csv: Path) -> TrainResult:
    return train(msgspec.structs.replace(settings, label_delay_days=1), history_csv)


@pytest.fixture(scope="module")
def config(settings: Settings, made: TrainResult) -> RunConfig:
    return read_config(mlflow_registry.artifact(settings, made.run_id, CONFIG_FILE), made.run_id)


def runner(settings: Settings) -> CliRunner:
    return CliRunner(env={"TAMIZ_STATE_DIR": str(settings.state_dir), "MLFLOW_TRACKING_URI": None, "COLUMNS": "300"})


def test_a_run_keeps_all_that_decided_what_it_became(made: TrainResult, config: RunConfig, history_csv: Path) -> None:
    assert config.data_sha256 == made.data_sha256
    assert msgspec.to_builtins(config.source) == {"type": "file", "path": str(history_csv.resolve())}
    assert (config.plan.label_delay_days, config.plan.fit.seed, config.dataset) == (1, 0, "card_transactions")
    assert {"xgboost", "numpy", "scikit-learn"} <= set(config.environment.packages)
    assert config.environment.git_commit == made.git_commit


def test_the_command_makes_a_run_again_bit_for_bit(
    settings: Settings, made: TrainResult, config: RunConfig, tmp_path: Path
) -> None:
    told = runner(settings).invoke(app, ["train", "--reproduce", made.run_id, "--json"])
    assert told.exit_code == 0, told.output
    again = json.loads(told.stdout)
    assert again["reproduction"]["same"]
    assert again["parts"] == made.parts
    first, second = (
        mlflow_registry.download_bundle(settings, version, tmp_path / str(version))
        for version in (made.version, again["version"])
    )
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}
    assert read_config(mlflow_registry.artifact(settings, again["run_id"], CONFIG_FILE), "") == config


def test_other_rows_are_refused_in_one_line(settings: Settings, made: TrainResult, tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere.csv", rows(1400))
    told = runner(settings).invoke(app, ["train", str(elsewhere), "--reproduce", made.run_id])
    assert told.exit_code != 0
    assert f"elsewhere.csv: not what run {made.run_id} learned from" in str(told.exception or told.output)


def test_a_file_that_has_moved_can_be_named_and_what_was_different_is_told(
    settings: Settings, made: TrainResult, config: RunConfig, history_csv: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.csv"
    moved.write_bytes(history_csv.read_bytes())
    then = msgspec.structs.replace(config.environment, packages=config.environment.packages | {"xgboost": "2.1.4"})
    # As a run on another XGBoost would have left it: other trees from the same plan.
    older = msgspec.structs.replace(config, environment=then, model_sha256="0" * 64)
    again = train(older.settings(settings), moved, again=ReproductionTarget("older", older))
    assert again.reproduction is not None
    assert not again.reproduction.same
    assert "xgboost" in again.reproduction.summary
    assert "(there 2.1.4)" in again.reproduction.summary


def test_a_run_that_is_not_there_is_said(settings: Settings, made: TrainResult) -> None:
    told = runner(settings).invoke(app, ["train", "--reproduce", "0" * 32])
    assert told.exit_code != 0
    assert "0" * 32 in str(told.exception or told.output)
