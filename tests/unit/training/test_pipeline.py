"""The training pipeline from file to champion, on real XGBoost and real MLflow."""

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from pypdf import PdfReader
from typer.testing import CliRunner

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import TrainingError
from schemas.time_units import DAY_MS
from scoring.features import featurize
from scoring.input.cleaning import clean_payloads
from scoring.input.number_parsing import MAX_NUMBER
from tamiz.main import app, run
from tamiz.simulation import payload_formats
from tamiz.simulation.simulator import Traffic, attainable_auc, simulate
from training.data.history import MIN_ROWS, History, read_file, read_history
from training.pipeline import train
from training.registry import mlflow_registry, version_transitions
from training.train_result import TrainResult

DATASET = load_dataset("card_transactions")
HEADER = [
    *("ID_USER", "genero", "monto", "fecha", "hora", "dispositivo", "establecimiento", "ciudad", "tipo_tc"),
    *("linea_tc", "interes_tc", "status_txn", "is_prime", "dcto", "cashback", "fraude"),
]
Row = dict[str, str]


def rows(n: int = 1500) -> list[Row]:
    """Transactions of 30 days; in Merida fraud is frequent, elsewhere rare."""
    rng = np.random.default_rng(5)
    history = []
    for i in range(n):
        day = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=int(rng.integers(0, 30)))
        city = ("Merida", "Toledo", "N/A")[rng.integers(0, 3)]
        fraud = rng.random() < (0.4 if city == "Merida" else 0.02)
        device = "{'model': 2020; 'device_score': 3; 'os': 'WEB'}"
        values = [str(i % 90), "F", f"{rng.uniform(1, 1000):.2f}".replace(".", ","), f"{day.day}/{day:%m/%Y}"]
        values += [str(rng.integers(1, 24)), device, "Super", city, "Virtual", "71000", "51", "Aceptada", "FALSE"]
        history.append(dict(zip(HEADER, [*values, "0", "1,5", str(fraud).upper()], strict=True)))
    return history


def write(path: Path, history: list[Row], header: list[str] | None = None, delimiter: str = ";") -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        lines = csv.DictWriter(
            file, header or HEADER, delimiter=delimiter, extrasaction="ignore", lineterminator="\r\n"
        )
        lines.writeheader()
        lines.writerows(history)
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def history_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("history") / "history.csv", rows())


@pytest.fixture(scope="module")
def trained(settings: Settings, history_csv: Path) -> TrainResult:
    return train(settings, history_csv)


def test_a_trained_model_has_skill_and_becomes_champion(settings: Settings, trained: TrainResult) -> None:
    assert mlflow_registry.champion(settings) == trained.version == 1
    assert (trained.champion, trained.forced, trained.gate.has_skill) == (True, False, True)
    assert (trained.evaluation.metric("roc_auc").low or 0) > 0.6
    assert sum(trained.parts.values()) == trained.rows == 1500


def test_a_version_that_approves_everything_has_a_warning(trained: TrainResult) -> None:
    def result(alerts: int) -> TrainResult:
        found = msgspec.structs.replace(
            trained.evaluation.at_review, threshold=0.9, true_positives=alerts, false_positives=0
        )
        return msgspec.structs.replace(trained, evaluation=msgspec.structs.replace(trained.evaluation, at_review=found))

    assert result(1).silence is None
    assert "version 1 approves every test row: none scores at or above its review threshold 0.9" in str(
        result(0).silence
    )


def test_what_the_reviewers_find_is_evaluated_on_whole_days_of_the_test_and_logged(
    settings: Settings, trained: TrainResult, history_csv: Path
) -> None:
    reviews = trained.evaluation.reviews
    assert reviews is not None
    history = read_history(history_csv, DATASET)
    first, last = "2020-01-20", "2020-01-23"  # the split cuts 19 January in two; the backtest begins on the 24th
    assert (reviews.days[0].day, reviews.days[-1].day, len(reviews.days)) == (first, last, 4)
    days = range(18281, 18285)
    frauds = np.array([history.fraud[history.event_time_ms // DAY_MS == day].sum() for day in days])
    assert [day.frauds_attainable for day in reviews.days] == frauds.tolist()
    with mlflow_registry.mlflow_client(settings) as client:
        logged = client.get_run(trained.run_id).data.metrics
    for name in ("card_precision", "transaction_precision", "value_detected"):
        metric = reviews.metric(name)
        assert logged[f"test_{name}_at_100"] == metric.value
        assert logged[f"test_{name}_at_100_attainable"] == metric.attainable


def test_the_same_file_gives_the_same_trees_bit_for_bit(
    settings: Settings, trained: TrainResult, history_csv: Path, tmp_path: Path
) -> None:
    again = train(settings, history_csv)
    assert (again.version, again.previous_champion) == (trained.version + 1, trained.version)
    first, second = (
        mlflow_registry.download_bundle(settings, version, tmp_path / str(version))
        for version in (trained.version, again.version)
    )
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}


def test_a_bundle_profiles_its_training_rows(
    settings: Settings, trained: TrainResult, history_csv: Path, tmp_path: Path
) -> None:
    manifest = MonitoredModel.load(mlflow_registry.download_bundle(settings, trained.version, tmp_path), 1).manifest
    profiles = {p.name: p for p in manifest.profile}
    assert list(profiles) == [*manifest.names, "score", "alert", "dead-letter"]
    for f in manifest.features:
        counted = sum(profiles[f.name].counts) + (0 if f.kind == "category" else profiles[f.name].missing)
        assert counted == manifest.rows == trained.fitted_rows == trained.parts["train"] + trained.parts["test"]
    assert sum(profiles["score"].counts) == manifest.rows, "each row has a score of trees that have not seen it"
    assert profiles["ciudad"].missing == profiles["ciudad"].counts[-1] > 0
    assert profiles["ciudad"].counts[-2] == 0  # masked levels are no part of the drift reference
    times = np.sort(read_history(history_csv, DATASET).event_time_ms)
    assert (manifest.trained_from_ms, manifest.trained_until_ms) == (times[0], times[manifest.rows - 1])
    assert trained.parts["backtest"] == int((times >= (times.max() // DAY_MS - 6) * DAY_MS).sum())


def test_the_stream_scores_a_row_as_training_does(
    settings: Settings, trained: TrainResult, history_csv: Path, tmp_path: Path
) -> None:
    model = MonitoredModel.load(mlflow_registry.download_bundle(settings, trained.version, tmp_path), 1)
    from_file = featurize(model.encoding, read_history(history_csv, DATASET).columns)
    payloads = [json.dumps(row).encode() for row in rows()]
    from_topic = featurize(model.encoding, clean_payloads(DATASET, payloads).columns)
    assert from_file.tobytes() == from_topic.tobytes()
    assert model.score(from_file).tolist() == model.score(from_topic).tolist()


def test_parquet_gives_the_history_of_csv(history_csv: Path, tmp_path: Path) -> None:
    from_csv = read_history(history_csv, DATASET)
    path = tmp_path / "history.parquet"
    parquet.write_table(pa.table({name: [row[name] for row in rows()] for name in HEADER}), path)
    assert _same(read_history(path, DATASET), from_csv)


def test_typed_parquet_gives_the_history_of_csv(history_csv: Path, tmp_path: Path) -> None:
    typed = [
        {
            **row,
            "ID_USER": int(row["ID_USER"]),
            "monto": float(row["monto"].replace(",", ".")),
            "fecha": datetime.strptime(row["fecha"], "%d/%m/%Y").date(),
            "hora": int(row["hora"]),
            "dispositivo": {"model": 2020, "device_score": 3, "os": "WEB"},
            "ciudad": None if row["ciudad"] == "N/A" else row["ciudad"],
            "fraude": row["fraude"] == "TRUE",
        }
        for row in rows()
    ]
    path = tmp_path / "typed.parquet"
    parquet.write_table(pa.Table.from_pylist(typed), path)
    assert _same(read_history(path, DATASET), read_history(history_csv, DATASET))


def test_the_largest_amount_of_all_is_trained_on_scored_and_explained(settings: Settings, tmp_path: Path) -> None:
    history = rows()
    history[0]["monto"] = str(MAX_NUMBER)
    done = train(settings, write(tmp_path / "h.csv", history))
    model = MonitoredModel.load(mlflow_registry.download_bundle(settings, done.version, tmp_path), done.version)
    matrix = featurize(model.encoding, read_history(tmp_path / "h.csv", DATASET).columns)[:1]
    assert np.isfinite(model.score(matrix)).all()
    assert np.isfinite(model.contributions(matrix)).all()


def _same(one: History, other: History) -> bool:
    assert one.event_time_ms.tolist() == other.event_time_ms.tolist()
    assert one.fraud.tolist() == other.fraud.tolist()
    assert one.keys.tolist() == other.keys.tolist()
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other.columns[name], err_msg=name)
    return True


def test_unlabelled_and_rejected_rows_are_counted_and_left_out(tmp_path: Path) -> None:
    history = rows(1000)
    history[3]["fraude"] = ""
    history[5]["monto"] = "much"
    history[7]["fecha"] = "31/02/2020"
    found = read_history(write(tmp_path / "h.csv", history), DATASET)
    assert (found.rows, found.unlabelled, sum(found.rejected.values()), len(found.fraud)) == (1000, 1, 2, 997)
    assert found.keys.tolist() == [str(i % 90) for i in range(1000) if i not in (3, 5, 7)]


def _change(**values: str) -> Callable[[Path], Path]:
    return lambda path: write(path, [row | values for row in rows()])


def _without(column: str) -> Callable[[Path], Path]:
    return lambda path: write(path, rows(), [name for name in HEADER if name != column])


def _bytes(content: bytes) -> Callable[[Path], Path]:
    def write_bytes(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write_bytes


def _ragged(path: Path) -> Path:
    write(path, rows())
    with path.open("a") as file:
        file.write("1;2;3\r\n")
    return path


@pytest.mark.parametrize(
    ("make_file", "error"),
    [
        pytest.param(lambda path: path, "No such file", id="no file"),
        pytest.param(lambda path: path.parent, "directory", id="a folder"),
        pytest.param(_bytes(b""), "no column ID_USER", id="empty file"),
        pytest.param(lambda path: write(path, []), "has no rows", id="header only"),
        pytest.param(lambda path: write(path, rows(10)), f"at least {MIN_ROWS}", id="ten rows"),
        pytest.param(_without("fraude"), "no label column 'fraude'", id="no label column"),
        pytest.param(_without("monto"), "no column monto", id="no amount column"),
        pytest.param(lambda path: write(path, rows(), delimiter=","), "the delimiter seems to be ','", id="commas"),
        pytest.param(_bytes(b"a;b\n1;2\n"), "not the declared data set", id="another data set"),
        pytest.param(_change(fecha="soon"), "1500 of 1500 rows are rejected", id="no dates"),
        pytest.param(_change(fraude="FALSE"), "labelled legitimate", id="one class only"),
        pytest.param(_change(fraude="TRUE"), "labelled fraud", id="fraud only"),
        pytest.param(_change(fraude=""), "0 labelled rows", id="no label known"),
        pytest.param(_change(fecha="1/01/2020", hora="3"), "spans 1 days", id="all dates equal"),
        pytest.param(_ragged, "line 1502 has 3 fields, expected 16, as in the header", id="a short line"),
        pytest.param(_bytes(b"\xff\xfe\x00"), "not a CSV file", id="not text"),
        pytest.param(_bytes(b'a;b\n"open;1\n'), "not a CSV file", id="a quotation without end"),
        pytest.param(_bytes(b"PAR1 and then nothing"), "not a readable Parquet file", id="half a Parquet file"),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(
    settings: Settings, tmp_path: Path, make_file: Callable[[Path], Path], error: str
) -> None:
    with pytest.raises(TrainingError, match=error) as refused:
        train(settings, make_file(tmp_path / "history"))
    assert "\n" not in str(refused.value)


def test_frauds_in_the_oldest_rows_only_are_refused(settings: Settings, tmp_path: Path) -> None:
    history = [row | {"fraude": row["fraude"] if int(row["fecha"].split("/")[0]) < 10 else "FALSE"} for row in rows()]
    with pytest.raises(TrainingError, match="test holds 0 frauds"):
        train(settings, write(tmp_path / "h.csv", history))


def test_the_report_is_logged_to_the_run_and_compares_with_the_champion(
    settings: Settings, trained: TrainResult, history_csv: Path, tmp_path: Path
) -> None:
    again = train(settings, history_csv, report=True)
    with mlflow_registry.mlflow_client(settings) as client:
        run = client.get_model_version(settings.model_name, str(again.version)).run_id
        pdf = PdfReader(client.download_artifacts(run, "report.pdf", str(tmp_path)))
    words = " ".join(" ".join(page.extract_text() for page in pdf.pages).split())
    assert again.gate.summary in words
    assert f"retained by {again.transition.by}: {again.promotion_decision.summary}" in words
    assert f"Version {again.version} compared with version {trained.version}" in words
    assert f"Drift of the training data against version {trained.version}" in words
    assert "Every PSI is below 0.1." in words


def test_the_command_prints_text_or_json(tmp_path: Path) -> None:
    history = rows()
    history[7] = history[7] | {"fecha": history[7]["fecha"].replace("2020", "2029")}
    path = write(tmp_path / "history.csv", history)
    runner = CliRunner(env={"TAMIZ_STATE_DIR": str(tmp_path), "MLFLOW_TRACKING_URI": None})
    done = runner.invoke(app, ["train", str(path)])
    assert done.exit_code == 0
    assert "card-transactions version 1 is champion" in done.stdout
    assert "mlflow ui --backend-store-uri" in done.stdout
    words = " ".join(done.stdout.replace("│", " ").split())  # without the lines of the table
    assert "1 isolated-time" in words
    assert "row 8 is at 2029-01-" in words
    assert "test card precision@k k = 100: 0." in words
    record = json.loads(runner.invoke(app, ["train", str(path), "--json"], env={"TAMIZ_REVIEWS_PER_DAY": "7"}).stdout)
    assert record["evaluation"]["reviews"]["per_day"] == 7
    assert (record["version"], record["previous_champion"], record["rows"]) == (2, 1, 1500)
    assert (record["rejected"], record["time_range"]["isolated_rows"]) == ({"isolated-time": 1}, 1)


def test_the_real_file_is_read_whole(real_csv: Path) -> None:
    columns = read_file(real_csv, DATASET, read_labels=True).cleaned.columns
    assert {len(values) for values in columns.values()} == {26_975}
    history = read_history(real_csv, DATASET)
    assert (history.rows, history.rejected, history.unlabelled, int(history.fraud.sum())) == (26_975, {}, 0, 810)


def test_on_the_real_file_the_gate_fails_and_there_is_no_champion(real_csv: Path, tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    done = train(settings, real_csv)
    assert (done.rows, done.rejected, sum(done.parts.values())) == (26_975, {}, 26_975)
    auc = done.evaluation.metric("roc_auc")
    assert (auc.low or 1) < 0.5 < (auc.high or 0)
    assert (done.champion, done.gate.status, mlflow_registry.champion(settings)) == (False, "no skill", None)
    assert "must not decide" in done.gate.summary
    assert done.evaluation.reviews is not None
    for metric in done.evaluation.reviews.metrics:
        assert metric.low is not None
        assert metric.random is not None
        assert metric.low < metric.random  # not significantly better than guessing


def test_a_person_may_force_a_version_that_failed_the_gate_and_it_stays_visible(real_csv: Path, tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    done = train(settings, real_csv, force="nothing better is there")
    assert (done.champion, done.forced, mlflow_registry.champion(settings)) == (True, True, done.version)
    assert MonitoredModel.load(mlflow_registry.download_bundle(settings, 1, tmp_path / "b"), 1).manifest.forced
    assert [p.reason for p in version_transitions.history(settings)] == ["forced: nothing better is there"]


def test_on_a_signal_the_gate_passes_and_the_attainable_auc_is_nearly_reached(tmp_path: Path) -> None:
    traffic = Traffic(rows=60_000, seed=3, signal=True)
    simulated = simulate(traffic)
    payload_formats.write(traffic, simulated, tmp_path / "signal.csv")
    done = train(Settings(state_dir=tmp_path), tmp_path / "signal.csv")
    assert done.champion
    assert (done.evaluation.metric("roc_auc").value or 0) > attainable_auc(simulated.probability) - 0.02


def test_shuffled_labels_give_no_skill(tmp_path: Path) -> None:
    traffic = Traffic(rows=30_000, seed=4, signal=True)
    simulated = simulate(traffic)
    shuffled = np.random.default_rng(0).permutation(simulated.labels)
    payload_formats.write(traffic, replace(simulated, labels=shuffled), tmp_path / "shuffled.csv")
    done = train(Settings(state_dir=tmp_path), tmp_path / "shuffled.csv")
    auc = done.evaluation.metric("roc_auc")
    assert (auc.low or 1) < 0.5 < (auc.high or 0)
    assert not done.champion


@pytest.mark.parametrize(
    ("make_file", "error"),
    [
        pytest.param(_without("fraude"), "no label column", id="no label column"),
        pytest.param(_change(fraude="FALSE"), "all 1500 rows are labelled legitimate", id="one class only"),
        pytest.param(lambda path: write(path, rows(10)), "10 labelled rows are too few", id="ten rows"),
        pytest.param(_change(fecha="1/01/2020", hora="3"), "spans 1 days", id="all dates equal"),
        pytest.param(_bytes(b"a;b\n1;2\n"), "not the declared data set", id="another data set"),
    ],
)
def test_the_command_fails_with_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make_file: Callable[[Path], Path],
    error: str,
) -> None:
    monkeypatch.setenv("TAMIZ_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["tamiz", "train", str(make_file(tmp_path / "history"))])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert line.startswith("tamiz: ")
    assert error in line
