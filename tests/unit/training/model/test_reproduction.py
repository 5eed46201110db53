"""A run is reproduced bit for bit from its config.json, or one line says why not."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from schemas.configuration.settings import Settings
from schemas.errors import TrainingError
from schemas.records import RetrainRequest
from schemas.time_units import DAY_MS
from tamiz.main import app
from tamiz.services.retrainer_service import train_for
from tests.unit.training.test_pipeline import HEADER, rows, write
from training.model.reproduction import CONFIG_FILE, FileSource, ReproductionTarget, RunConfig, read_config
from training.pipeline import train
from training.registry import mlflow_registry
from training.train_result import TrainResult

RANGE_MS = 18_264 * DAY_MS, 18_290 * DAY_MS  # 3 to 28 January 2020


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def history_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("history") / "history.csv", rows())


@pytest.fixture(scope="module")
def original(settings: Settings, history_csv: Path) -> TrainResult:
    from_ms, until_ms = RANGE_MS
    return train(msgspec.structs.replace(settings, label_delay_days=1), history_csv, from_ms=from_ms, until_ms=until_ms)


@pytest.fixture(scope="module")
def config(settings: Settings, original: TrainResult) -> RunConfig:
    return read_config(mlflow_registry.read_artifact(settings, original.run_id, CONFIG_FILE), original.run_id)


def runner(settings: Settings) -> CliRunner:
    return CliRunner(env={"TAMIZ_STATE_DIR": str(settings.state_dir), "MLFLOW_TRACKING_URI": None, "COLUMNS": "300"})


def test_a_run_records_all_that_determines_its_model(
    original: TrainResult, config: RunConfig, history_csv: Path
) -> None:
    assert config.data_sha256 == original.data_sha256
    assert config.source == FileSource(path=str(history_csv.resolve()), from_ms=RANGE_MS[0], until_ms=RANGE_MS[1])
    assert (config.plan.label_delay_days, config.plan.fit.seed, config.dataset) == (1, 0, "card_transactions")
    assert {"xgboost", "numpy", "scikit-learn"} <= set(config.environment.packages)
    assert config.environment.git_commit == original.git_commit


def test_the_command_reproduces_a_run_bit_for_bit(
    settings: Settings, original: TrainResult, config: RunConfig, tmp_path: Path
) -> None:
    done = runner(settings).invoke(app, ["train", "--reproduce", original.run_id, "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["reproduction"]["same"]
    assert result["parts"] == original.parts
    assert result["outside_range"] == original.outside_range == 1500 - original.rows > 0
    first, second = (
        mlflow_registry.download_bundle(settings, version, tmp_path / str(version))
        for version in (original.version, result["version"])
    )
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}
    assert read_config(mlflow_registry.read_artifact(settings, result["run_id"], CONFIG_FILE), "") == config


def test_consent_to_a_missing_column_is_recorded_and_needed_again(settings: Settings, tmp_path: Path) -> None:
    path = write(tmp_path / "h.csv", [row | {"Genero": "F"} for row in rows()], ["Genero", *HEADER[:1], *HEADER[2:]])
    refused = runner(settings).invoke(app, ["train", str(path)])
    assert "no column genero; 'Genero' looks like genero" in str(refused.exception)
    done = runner(settings).invoke(app, ["train", str(path), "--allow-missing", "genero", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["missing_columns"] == [{"name": "genero", "similar": ["Genero"]}]
    config = read_config(mlflow_registry.read_artifact(settings, result["run_id"], CONFIG_FILE), "")
    assert config.plan.allow_missing == ("genero",)
    without = msgspec.structs.replace(config, plan=msgspec.structs.replace(config.plan, allow_missing=()))
    with pytest.raises(TrainingError, match="--allow-missing genero"):
        train(settings, path, target=ReproductionTarget("without", without))


def test_the_retrainer_passes_its_consent_to_the_training(settings: Settings, history_csv: Path) -> None:
    request = RetrainRequest(
        correlation_id="x",
        model=settings.model_name,
        model_version=1,
        cause="manual",
        features=(),
        reason="test",
        from_ms=0,
        until_ms=1,
        requested_at_ms=0,
    )
    with pytest.raises(TrainingError, match="--allow-missing plaec"):
        train_for(settings, request, history_csv, allow_missing=("plaec",))


def test_other_rows_are_refused_in_one_line(settings: Settings, original: TrainResult, tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere.csv", rows(1400))
    done = runner(settings).invoke(app, ["train", str(elsewhere), "--reproduce", original.run_id])
    assert done.exit_code != 0
    assert f"elsewhere.csv: run {original.run_id} was trained on other data" in str(done.exception or done.output)


def test_a_moved_file_can_be_named_and_changed_versions_are_listed(
    settings: Settings, original: TrainResult, config: RunConfig, history_csv: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved.csv"
    moved.write_bytes(history_csv.read_bytes())
    then = msgspec.structs.replace(config.environment, packages=config.environment.packages | {"xgboost": "2.1.4"})
    # A run with another XGBoost: other trees from the same plan.
    older = msgspec.structs.replace(config, environment=then, model_sha256="0" * 64)
    second = train(older.apply_to(settings), moved, target=ReproductionTarget("older", older))
    assert second.reproduction is not None
    assert not second.reproduction.same
    assert "xgboost" in second.reproduction.summary
    assert "(was 2.1.4)" in second.reproduction.summary


def test_a_missing_run_is_named_in_the_error(settings: Settings, original: TrainResult) -> None:
    done = runner(settings).invoke(app, ["train", "--reproduce", "0" * 32])
    assert done.exit_code != 0
    assert "0" * 32 in str(done.exception or done.output)
