"""The registry: real MLflow on SQLite in a temporary folder."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from mlflow import MlflowClient

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.registry_config import VARIABLES, model_filter
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from schemas.errors import ModelUnavailableError
from schemas.promotion_log import CHAMPION, log_name
from scoring.bundle.manifest import bundle_digest
from stream_app.registry.mlflow_library import MlflowLibrary
from stream_app.registry.registry_client import RegistryServer, RegistryUnavailableError
from stream_app.worker.champion_cache import ChampionCache
from tamiz.archive.archive_store import ArchiveStore, file_sha256
from tamiz.archive.manifest import ArchiveManifest
from tamiz.dev_broker.embedded_broker import free_port
from tests.helpers.bundles.small_bundle import history, small_bundle
from tests.helpers.services.certificates import create_certificates
from tests.helpers.services.mlflow_server import authenticating_proxy, basic_auth_header, mlflow_server
from training.registry import mlflow_registry, version_transitions


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    # A space in the path: artifact locations are URIs, and people have such folders.
    return Settings(state_dir=tmp_path_factory.mktemp("state of affairs"), model_name="small")


def report(bundle: Path) -> Path:
    folder = bundle.parent / "evaluation"
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    small_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def version(settings: Settings, bundle: Path) -> int:
    assert mlflow_registry.champion(settings) is None
    return mlflow_registry.register(
        settings,
        bundle,
        report=report(bundle),
        metrics={"test_roc_auc": 0.8},
        params={"seed": 0},
        tags={"data_sha256": "abc", "rows": "4000"},
    )


def _client(settings: Settings) -> MlflowClient:
    return MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)


def test_a_version_carries_its_tags_and_its_run_what_was_measured(settings: Settings, version: int) -> None:
    found = _client(settings).get_model_version(settings.model_name, str(version))
    run = _client(settings).get_run(found.run_id)
    assert found.tags.items() >= {"tamiz.data_sha256": "abc", "tamiz.rows": "4000"}.items()
    assert (run.data.metrics, run.data.params, run.info.status) == ({"test_roc_auc": 0.8}, {"seed": "0"}, "FINISHED")


def test_whoever_knows_uri_and_alias_finds_the_bundle_unchanged(
    settings: Settings, bundle: Path, version: int, tmp_path: Path
) -> None:
    version_transitions.promote(settings, version, "test")
    found = _client(settings).get_model_version_by_alias(settings.model_name, "champion")
    folder = Path(_client(settings).download_artifacts(found.run_id, "bundle", str(tmp_path)))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in bundle.iterdir()}


def test_a_downloaded_bundle_scores_as_the_one_that_was_registered(
    settings: Settings, bundle: Path, version: int, tmp_path: Path
) -> None:
    folder = mlflow_registry.download_bundle(settings, version, tmp_path)
    matrix = history()[0]
    fetched, kept = MonitoredModel.load(folder, version), MonitoredModel.load(bundle, version)
    assert fetched.score(matrix).tolist() == kept.score(matrix).tolist()


GENERIC_CLIENT = """
import sys, json, mlflow, numpy, pandas
uri, model, matrix = sys.argv[1:]
mlflow.set_tracking_uri(uri)
generic = mlflow.pyfunc.load_model(model)
frame = pandas.DataFrame(numpy.load(matrix), columns=generic.metadata.signature.inputs.input_names())
scores = generic.predict(frame).astype(float).tolist()
print(json.dumps([list(frame.columns), list(generic.input_example.shape), scores]))
"""


def test_generic_tools_load_the_version_and_agree(
    settings: Settings, bundle: Path, version: int, tmp_path: Path
) -> None:
    matrix = history()[0][:100]
    np.save(tmp_path / "matrix.npy", matrix)
    # In a process of its own: MLflow keeps its tracking URI in the environment, where other tests would find it.
    arguments = [settings.tracking_uri, f"models:/{settings.model_name}/{version}", str(tmp_path / "matrix.npy")]
    done = subprocess.run(
        [sys.executable, "-c", GENERIC_CLIENT, *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    names, example, scores = json.loads(done.stdout.splitlines()[-1])
    assert (names, example) == (["monto", "ciudad"], [34, 2])
    assert scores == MonitoredModel.load(bundle, version).score(matrix).tolist()


def test_nothing_that_is_stored_is_a_pickle(settings: Settings, version: int) -> None:
    kept = [p for p in (settings.state_dir / "artifacts").rglob("*") if p.is_file()]
    assert {p.suffix for p in kept} <= {".ubj", ".json", ".yaml", ".txt", ""}
    assert {p.name for p in kept if not p.suffix} <= {"MLmodel", "registered_model_meta"}
    assert not any(p.read_bytes().startswith(b"\x80") for p in kept)


def test_every_promotion_is_remembered_in_order(settings: Settings, bundle: Path, version: int) -> None:
    version_transitions.promote(settings, version, "the first")
    second = mlflow_registry.register(settings, bundle, report=report(bundle), metrics={}, params={}, tags={})
    version_transitions.promote(settings, second, "better by 0.02")
    assert second == version + 1
    assert mlflow_registry.champion(settings) == second
    made = version_transitions.history(settings)
    assert [(m.version, m.reason) for m in made[-2:]] == [(version, "the first"), (second, "better by 0.02")]
    assert made[-1].previous == version


def test_a_version_that_does_not_exist_cannot_be_promoted(settings: Settings, version: int) -> None:
    version_transitions.promote(settings, version, "test")
    with pytest.raises(ModelUnavailableError, match="version=99"):
        version_transitions.promote(settings, 99, "a typing error")
    assert mlflow_registry.champion(settings) == version


def test_an_unknown_model_has_no_champion_and_no_history(settings: Settings) -> None:
    other = Settings(state_dir=settings.state_dir, model_name="never-trained")
    assert mlflow_registry.champion(other) is None
    assert version_transitions.history(other) == []


def test_a_registry_that_nobody_serves_is_told_in_one_line(tmp_path: Path) -> None:
    away = Settings(state_dir=tmp_path, mlflow_tracking_uri=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ModelUnavailableError, match="MLFLOW_TRACKING_URI") as told:
        mlflow_registry.ensure_reachable(away)
    assert "\n" not in str(told.value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def test_a_server_that_asks_who_comes_lets_in_by_password_or_token_over_tls_and_nothing_shows_them(
    server: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable in VARIABLES:  # set by us, and put back afterwards
        monkeypatch.setenv(variable, "")
    authority, (ours,) = create_certificates(tmp_path, "proxy")
    secrets = "p@ss/word-of-ana", "token-of-a-program"
    with authenticating_proxy(server, {basic_auth_header("ana", secrets[0]), f"Bearer {secrets[1]}"}, ours) as address:
        url = {
            "TAMIZ_MLFLOW_TRACKING_URI": address,
            "TAMIZ_MODEL_NAME": "guarded",
            "TAMIZ_STATE_DIR": str(tmp_path / "s"),
        }
        trusting = url | {"TAMIZ_MLFLOW_CAFILE": str(authority.certificate)}
        within = address.replace("://", f"://ana:{quote(secrets[0], safe='')}@")
        by_password = load(trusting | {"TAMIZ_MLFLOW_USERNAME": "ana", "MLFLOW_TRACKING_PASSWORD": secrets[0]})
        by_token = load(trusting | {"TAMIZ_MLFLOW_TOKEN": secrets[1]})
        in_the_address = load(trusting | {"TAMIZ_MLFLOW_TRACKING_URI": within})

        version = mlflow_registry.register(by_password, bundle, report=report(bundle), metrics={}, params={}, tags={})
        version_transitions.promote(by_token, version, "a token moves as well")
        assert version_transitions.champion(in_the_address) == version
        store = ChampionCache(by_token, load_dataset("card_transactions"))
        assert bundle_digest(store.folder(version)) == bundle_digest(bundle)

        wrong = load(trusting | {"TAMIZ_MLFLOW_TRACKING_URI": within.replace("ana", "eve")})
        told = []
        for refused in (load(trusting), wrong, load(url)):
            with pytest.raises(ModelUnavailableError, match="TAMIZ_MLFLOW_TOKEN") as error:
                mlflow_registry.champion(refused)
            told.append(str(error.value))
    assert "401" in told[0]
    assert "401" in told[1]
    assert "SSL" in told[2]
    shown = [*told, caplog.text, *(str(s) + s.registry_name for s in (by_password, by_token, in_the_address, wrong))]
    for secret in (*secrets, quote(secrets[0], safe="")):
        assert [text for text in shown if secret in text] == []


def test_a_server_that_proxies_artifacts_keeps_an_archive(server: str, tmp_path: Path) -> None:
    store = ArchiveStore(Settings(archive_root="mlflow-artifacts:/evidence", mlflow_tracking_uri=server))
    assert store.days("decisions") == []
    data = tmp_path / "00003.hT2x.parquet"
    data.write_bytes(b"rows")
    manifest = ArchiveManifest(
        topic="decisions",
        topic_id="hT2x",
        partition=3,
        day=date(2026, 11, 26),
        first_offset=0,
        next_offset=7,
        missing=0,
        records=7,
        damaged=0,
        last_input_offset=6,
        bytes=4,
        sha256=file_sha256(data),
    )
    store.publish("decisions", manifest, data)
    assert store.days("decisions") == [manifest.day]
    (name,) = store.files("decisions", manifest.day)
    assert store.manifest("decisions", manifest.day, name) == manifest
    with store.data("decisions", manifest) as path:
        assert path.read_bytes() == b"rows"


def test_a_server_that_proxies_artifacts_serves_as_well(
    server: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = Settings(state_dir=tmp_path / "ours", model_name="small", mlflow_tracking_uri=server)
    version = mlflow_registry.register(
        remote, bundle, report=report(bundle), metrics={"a": 1.0}, params={}, tags={"rows": "1"}
    )
    version_transitions.promote(remote, version, "test")
    folder = mlflow_registry.download_bundle(remote, version, tmp_path / "download")
    assert mlflow_registry.champion(remote) == version == 1
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in bundle.iterdir()}
    assert not remote.state_dir.exists()
    assert capsys.readouterr() == ("", "")


def test_the_rest_client_and_mlflows_library_read_the_same_from_a_server(
    server: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Settings(state_dir=tmp_path / "ours", model_name="o'clock", mlflow_tracking_uri=server)
    for variable in VARIABLES:  # MLflow's library puts them into the environment
        monkeypatch.setenv(variable, "")
    versions = [
        mlflow_registry.register(remote, bundle, report=report(bundle), metrics={}, params={}, tags={"rows": rows})
        for rows in ("1", "zwölf")
    ]
    version_transitions.promote(remote, versions[0], "a test")
    clients = [RegistryServer(remote), MlflowLibrary(remote)]
    history, absent = log_name(remote.model_name), "never-trained"
    answers = []
    for place, client in enumerate(clients):
        (folder := tmp_path / str(place)).mkdir()
        found = client.versions(model_filter(remote.model_name))
        downloaded = client.download(found[0].run_id, folder)
        answers.append(
            [
                found,
                client.versions(model_filter(history)),
                client.versions(model_filter(absent)),
                client.version(remote.model_name, versions[1]),
                client.alias_version(remote.model_name, CHAMPION),
                client.alias_version(absent, CHAMPION),
                client.alias_version(remote.model_name, "unknown-alias"),
                client.model_tags(history),
                client.model_tags(absent),
                {p.name: p.read_bytes() for p in downloaded.iterdir()},
            ]
        )
        with pytest.raises(RegistryUnavailableError, match="not found"):
            client.version(remote.model_name, 99)
    assert answers[0] == answers[1]
    assert answers[0][0][1].tags.items() >= {"tamiz.rows": "zwölf"}.items()
    assert answers[0][4:7] == [versions[0], None, None]
    assert answers[0][9] == {p.name: p.read_bytes() for p in bundle.iterdir()}


def test_two_processes_may_create_the_store_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from schemas.configuration.settings import Settings; from "
        "training.registry import mlflow_registry as registry;"
        "registry.ensure_reachable(Settings(state_dir=Path(sys.argv[1])))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told == [(b"", b"")] * 2
    assert (
        len(_client(Settings(state_dir=tmp_path)).search_experiments(filter_string="name = 'card-transactions'")) == 1
    )
