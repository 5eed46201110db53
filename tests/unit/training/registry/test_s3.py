"""Artifacts on S3 through MLflow, against a real HTTP server of the S3 protocol (moto)."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import msgspec
import pytest
from mlflow.store.artifact import s3_artifact_repo
from moto.server import ThreadedMotoServer

from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from schemas.errors import ConfigError, ModelIncompatibleError, ModelUnavailableError
from stream_app.worker.champion_cache import ChampionCache, RegistryUnavailableError
from training.registry import mlflow_registry, version_transitions

BUCKET = "tamiz"
NOBODY = "http://127.0.0.1:9"  # the discard service, which runs nowhere


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A store with a bucket; this process and its clients are let in."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        _let_in(patch, f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"http://{host}:{port}"
    server.stop()


def _let_in(patch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        patch.setenv(name, url)
    patch.setenv("AWS_ACCESS_KEY_ID", "tamiz")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "of the tests")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_MAX_ATTEMPTS", "1")


def on_s3(folder: Path, bucket: str = BUCKET) -> Settings:
    return msgspec.structs.replace(load({}), state_dir=folder, artifact_root=f"s3://{bucket}/models/")


def registered(settings: Settings, bundle: Path, report: Path) -> int:
    report.mkdir(exist_ok=True)
    (report / "metrics.json").write_text("{}")
    return mlflow_registry.register(settings, bundle, report=report, metrics={}, params={}, tags={})


@pytest.fixture(scope="module")
def served(s3: str, champion_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose champion lies on S3."""
    folder = tmp_path_factory.mktemp("on s3")
    settings = on_s3(folder / "state")
    version_transitions.promote(settings, registered(settings, champion_bundle, folder / "evaluation"), "a test")
    return settings


def store_of(settings: Settings) -> ChampionCache:
    return ChampionCache(settings, load_dataset(settings.dataset))


def test_a_worker_serves_what_lies_on_s3_byte_for_byte(served: Settings, champion_bundle: Path) -> None:
    keys = {o["Key"] for o in boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert {Path(k).name for k in keys if "/bundle/" in k} == {p.name for p in champion_bundle.iterdir()}
    assert all(k.startswith("models/") for k in keys)
    assert not (served.state_dir / "artifacts").exists()
    store = store_of(served)
    store.open()
    here = store.folder(store.current.version)
    assert {p.name: p.read_bytes() for p in here.iterdir()} == {
        p.name: p.read_bytes() for p in champion_bundle.iterdir()
    }


def test_a_worker_keeps_its_model_while_the_store_is_away_and_a_new_one_says_so(
    served: Settings, champion_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = msgspec.structs.replace(served, state_dir=tmp_path / "state", mlflow_tracking_uri=served.tracking_uri)
    store = store_of(settings)
    store.open()
    before = store.current.version
    version_transitions.promote(served, registered(served, champion_bundle, tmp_path / "evaluation"), "a test")
    with monkeypatch.context() as patch:
        _let_in(patch, NOBODY)
        with pytest.raises(RegistryUnavailableError, match=NOBODY):
            store.refresh()
        assert store.current.version == before
        elsewhere = msgspec.structs.replace(settings, state_dir=tmp_path / "new")
        with pytest.raises(ModelUnavailableError, match=NOBODY):
            store_of(elsewhere).open()
    assert store.refresh()
    assert store.current.version == before + 1


@pytest.mark.parametrize(
    ("store", "bucket", "said"),
    [
        pytest.param(NOBODY, BUCKET, NOBODY, id="no store"),
        pytest.param(None, "nowhere", "NoSuchBucket", id="no bucket"),
        pytest.param(None, BUCKET, "credentials", id="no credentials"),
    ],
)
def test_a_training_says_in_one_line_what_is_wrong_with_the_store(
    store: str | None,
    bucket: str,
    said: str,
    s3: str,
    champion_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if store is not None:
        _let_in(monkeypatch, store)
    if said == "credentials":
        s3_artifact_repo._cached_get_s3_client.cache_clear()  # else MLflow goes on with those of a minute ago
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ModelUnavailableError, match=said) as refused:
        registered(on_s3(tmp_path / "state", bucket), champion_bundle, tmp_path / "evaluation")
    assert "\n" not in str(refused.value)


def test_a_registry_that_keeps_its_artifacts_elsewhere_is_not_filled_from_two_places(
    s3: str, champion_bundle: Path, tmp_path: Path
) -> None:
    local = msgspec.structs.replace(load({}), state_dir=tmp_path / "state")
    registered(local, champion_bundle, tmp_path / "evaluation")
    with pytest.raises(ConfigError, match=r"artifact_root is s3://tamiz/models, .*artifacts: set artifact_root to"):
        registered(on_s3(tmp_path / "state"), champion_bundle, tmp_path / "evaluation")


def test_a_server_decides_itself_where_artifacts_lie() -> None:
    with pytest.raises(
        ConfigError, match="artifact_root is 's3://b', but the MLflow server of mlflow_tracking_uri has its own"
    ):
        load({"TAMIZ_ARTIFACT_ROOT": "s3://b", "MLFLOW_TRACKING_URI": "http://r:5000"})


def test_a_disk_that_takes_nothing_leaves_the_worker_with_its_model(
    real_registry: Settings, champion_bundle: Path, tmp_path: Path
) -> None:
    kept_here = msgspec.structs.replace(real_registry, state_dir=tmp_path / "registry")
    version_transitions.promote(kept_here, registered(kept_here, champion_bundle, tmp_path / "evaluation"), "a test")
    settings = msgspec.structs.replace(
        kept_here, state_dir=tmp_path / "state", mlflow_tracking_uri=kept_here.tracking_uri
    )
    store = store_of(settings)
    store.open()
    before = store.current.version
    version_transitions.promote(kept_here, registered(kept_here, champion_bundle, tmp_path / "evaluation"), "a test")
    models = settings.state_dir / "models"
    shutil.rmtree(models)
    models.write_text("a file where a folder should be: root, too, cannot write there")
    with pytest.raises(RegistryUnavailableError, match="Not a directory"):
        store.refresh()
    assert store.current.version == before
    models.unlink()
    assert store.refresh()
    assert store.current.version == before + 1


def test_a_store_on_s3_without_the_extra_is_refused_in_one_line_that_names_it(
    served: Settings, champion_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = msgspec.structs.replace(served, state_dir=tmp_path, mlflow_tracking_uri=served.tracking_uri)
    monkeypatch.setitem(sys.modules, "boto3", None)  # as where it is not installed
    line = r"the store s3://tamiz/\S+ needs boto3, not installed here: pip install 'tamiz\[s3\]'"
    with pytest.raises(ModelIncompatibleError, match=line):
        store_of(settings).open()
    with pytest.raises(ModelUnavailableError, match=line):
        mlflow_registry.download_bundle(settings, 1, tmp_path)
    with pytest.raises(ConfigError, match=line):
        mlflow_registry.ensure_reachable(settings)
