"""The champion that a worker serves when the registry's alias and its history of promotions disagree."""

import shutil
from importlib import resources
from pathlib import Path

import msgspec
import pytest

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import ModelIncompatibleError, ModelUnavailableError
from schemas.promotion_log import log_name
from scoring.bundle import bundle_trial
from scoring.bundle.manifest import MANIFEST_FILE, MODEL_FILE, bundle_digest, read_manifest, write_manifest
from stream_app.worker import champion_cache
from stream_app.worker.champion_cache import ChampionCache
from tests.helpers.bundles.mutated_bundles import mutate
from tests.helpers.bundles.registry_copy import copy_registry
from tests.helpers.traffic.scored_fixtures import month, train_model
from training.registry import mlflow_registry, version_transitions
from training.registry.model_loader import registered_model
from training.registry.model_versions import all_versions
from training.registry.promotion import promote_manually
from training.registry.version_transitions import TransitionRefusedError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "bundle"
    train_model(folder, month(), 1)
    return folder


@pytest.fixture(autouse=True)
def promotions_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(champion_cache, "PROMOTION_TIMEOUT_S", 0.0)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Settings:
    """Two versions without a promotion."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("registered"))
    for _ in range(2):
        add(settings, bundle)
    return settings


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, registered: Settings) -> Settings:
    settings = copy_registry(registered, tmp_path_factory.mktemp("promoted") / "state")
    version_transitions.promote(settings, 1, "the first")
    return settings


@pytest.fixture
def settings(tmp_path: Path, promoted: Settings) -> Settings:
    """Two versions; the first was promoted."""
    return copy_registry(promoted, tmp_path / "state")


def add(settings: Settings, bundle: Path, **tags: str) -> int:
    (bundle.parent / "evaluation").mkdir(exist_ok=True)
    return mlflow_registry.register(
        settings, bundle, report=bundle.parent / "evaluation", metrics={}, params={}, tags=tags
    )


def set_alias(settings: Settings, version: int | None) -> None:
    with mlflow_registry.mlflow_client(settings) as client:
        if version is None:
            client.delete_registered_model_alias(settings.model_name, "champion")
        else:
            client.set_registered_model_alias(settings.model_name, "champion", str(version))


def store_of(settings: Settings) -> ChampionCache:
    return ChampionCache(settings, load_dataset(settings.dataset))


def kept_by_the_registry(settings: Settings, version: int) -> Path:
    run = mlflow_registry.run_id_of(settings, version)
    (folder,) = (settings.state_dir / "artifacts").rglob(f"{run}/artifacts/bundle")
    return folder


def bundle_of(settings: Settings) -> Path:
    return settings.state_dir / "models" / settings.model_name / "1"


def test_an_unrecorded_alias_is_refused_or_served_by_the_setting(settings: Settings) -> None:
    store = store_of(settings)
    store.open()
    set_alias(settings, 2)
    assert not store.refresh()
    assert (store.current.version, store.recorded) == (1, True)
    assert (
        store.registry_inconsistency
        == "the registry's champion is version 2, its history of promotions ends with version 1"
    )
    assert registered_model(settings).version == 1

    any_champion = msgspec.structs.replace(settings, unrecorded_champion="serve")
    lenient = store_of(any_champion)
    lenient.open()
    assert (lenient.current.version, lenient.recorded) == (2, False)
    assert registered_model(any_champion).version == 2

    set_alias(settings, None)
    assert not store.refresh()
    assert store.registry_inconsistency == "the registry has no champion, its history of promotions ends with version 1"
    started_now = store_of(settings)
    started_now.open()
    assert started_now.current.version == 1
    version_transitions.promote(settings, 2, "promoted by a person")
    assert store.refresh()
    assert (store.current.version, store.registry_inconsistency, store.recorded) == (2, None, True)
    assert not lenient.refresh()
    assert lenient.recorded


def test_a_first_start_with_an_unrecorded_champion_fails_with_the_remedy(tmp_path: Path, registered: Settings) -> None:
    settings = copy_registry(registered, tmp_path / "state")
    set_alias(settings, 1)
    with pytest.raises(
        ModelUnavailableError, match=r"tamiz models promote VERSION .*TAMIZ_UNRECORDED_CHAMPION"
    ) as raised:
        store_of(settings).open()
    assert "\n" not in str(raised.value)


def test_a_replaced_bundle_is_refused_even_with_a_matching_tag(
    settings: Settings, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = store_of(settings)
    serving.open()
    kept = kept_by_the_registry(settings, 2)
    exchanged = msgspec.json.encode(msgspec.json.decode((bundle / MANIFEST_FILE).read_bytes()) | {"rows": 7})
    version_transitions.promote(settings, 2, "before it was exchanged")
    (kept / MANIFEST_FILE).write_bytes(exchanged)
    with mlflow_registry.mlflow_client(settings) as client:
        client.set_model_version_tag(settings.model_name, "2", "tamiz.bundle_sha256", bundle_digest(kept))
    for ask in (serving.refresh, lambda: serving.at_version(2), lambda: registered_model(settings, 2)):
        with pytest.raises(ModelIncompatibleError, match="the history of promotions has"):
            ask()
        assert not (settings.state_dir / "models" / settings.model_name / "2").exists()
    assert serving.current.version == 1

    downloads = []
    download = serving._registry.download
    monkeypatch.setattr(serving._registry, "download", lambda *given: (downloads.append(1), download(*given)))
    for _ in range(3):
        with pytest.raises(ModelIncompatibleError):
            serving.refresh()
    assert downloads == []  # it waits before it fetches what it has refused again
    shutil.copy(bundle / MANIFEST_FILE, kept / MANIFEST_FILE)
    version_transitions.promote(settings, 2, "the artifacts were put back")
    assert serving.refresh()
    assert serving.current.version == 2


def test_no_transition_makes_a_replaced_bundle_champion(settings: Settings, bundle: Path) -> None:
    version_transitions.promote(settings, 2, "the next")
    add(settings, bundle)
    exchanged = msgspec.json.encode(msgspec.json.decode((bundle / MANIFEST_FILE).read_bytes()) | {"rows": 7})
    for version, tag in ((1, "new"), (3, None)):
        kept = kept_by_the_registry(settings, version)
        (kept / MANIFEST_FILE).write_bytes(exchanged)
        with mlflow_registry.mlflow_client(settings) as client:
            if tag:
                client.set_model_version_tag(
                    settings.model_name, str(version), "tamiz.bundle_sha256", bundle_digest(kept)
                )
            else:
                client.delete_model_version_tag(settings.model_name, str(version), "tamiz.bundle_sha256")
    for transition in (
        lambda: version_transitions.rollback(settings, "back"),
        lambda: version_transitions.promote(settings, 3, "a person"),
        lambda: version_transitions.make_challenger(settings, 3, "awaiting-approval", "better"),
    ):
        with pytest.raises(TransitionRefusedError, match="the history of promotions has") as refused:
            transition()
        assert "\n" not in str(refused.value)
    assert [m.version for m in version_transitions.history(settings)] == [1, 2]
    assert version_transitions.reject(settings, 3, "it was exchanged").change == "rejected"


def test_an_edited_tag_does_not_stop_a_restart_with_the_cached_bundle(settings: Settings) -> None:
    store_of(settings).open()
    cached = settings.state_dir / "models" / settings.model_name / "1"
    for name, value in (("bundle_sha256", "0" * 64), ("gate_status", "no skill")):
        with mlflow_registry.mlflow_client(settings) as client:
            client.set_model_version_tag(settings.model_name, "1", f"tamiz.{name}", value)
        again = store_of(settings)
        again.open()
        assert again.current.version == 1
        assert cached.is_dir()
    (cached / MANIFEST_FILE).write_bytes(b"{}")  # damaged on disk: downloaded again
    with mlflow_registry.mlflow_client(settings) as client:
        client.delete_model_version_tag(settings.model_name, "1", "tamiz.gate_status")
    again = store_of(settings)
    again.open()
    assert again.current.version == 1


def test_a_damaged_history_promotes_nothing_until_a_person_does(settings: Settings) -> None:
    serving = store_of(settings)
    serving.open()
    log = log_name(settings.model_name)
    with mlflow_registry.mlflow_client(settings) as client:
        entries = {n: tags["tamiz.entry"] for n, _, tags in all_versions(client, log)}
        promotion = next(n for n, text in entries.items() if '"change":"promoted"' in text)
        edited = entries[promotion].replace('"version":1', '"version":2')
        client.set_model_version_tag(log, str(promotion), "tamiz.entry", edited)
    changed = f"the history of promotions was tampered with: entry {promotion} was changed after it was written"
    assert not serving.refresh()
    assert serving.current.version == 1
    assert str(serving.registry_inconsistency).startswith(changed)
    assert str(version_transitions.registry_inconsistency(settings)).startswith(changed)
    again = store_of(settings)
    again.open()
    assert again.current.version == 1
    with pytest.raises(TransitionRefusedError, match="was changed"):
        version_transitions.promote(settings, 2, "a program")
    promote_manually(settings, add(settings, bundle_of(settings), gate_status="skill"), "we have looked at it")
    assert version_transitions.registry_inconsistency(settings) is None
    assert serving.refresh()
    assert (serving.current.version, serving.registry_inconsistency) == (3, None)

    with mlflow_registry.mlflow_client(settings) as client:
        last = max(n for n, *_ in all_versions(client, log))
        client.delete_model_version(log, str(last))
        client.delete_registered_model_tag(log, "tamiz.head")
    assert not serving.refresh()
    assert str(serving.registry_inconsistency).endswith(", and 1 more")  # the accepted one is back
    with mlflow_registry.mlflow_client(settings) as client:
        client.delete_registered_model(log)
    assert not serving.refresh()
    assert serving.current.version == 3
    assert f"entries 1 to {last} are missing" in str(serving.registry_inconsistency)


def test_a_bundle_that_contradicts_the_gate_status_is_refused(settings: Settings, bundle: Path) -> None:
    serving = store_of(settings)
    serving.open()
    version_transitions.promote(settings, add(settings, bundle, gate_status="no skill"), "it has none")
    with pytest.raises(ModelIncompatibleError, match="skill gate: 'no skill'"):
        serving.refresh()
    version_transitions.promote(
        settings, add(settings, bundle, gate_status="no skill", forced="why not"), "it does not say so itself"
    )
    with pytest.raises(ModelIncompatibleError, match="has forced: False, the registry has forced: True"):
        serving.refresh()
    assert serving.current.version == 1


def test_a_champion_of_another_declaration_is_refused_and_the_previous_one_kept(
    settings: Settings, bundle: Path, tmp_path: Path
) -> None:
    serving = store_of(settings)
    serving.open()
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    manifest = read_manifest(other)
    assert manifest.definitions.event_time is not None
    time = msgspec.structs.replace(manifest.definitions.event_time, zone="America/Lima")
    definitions = msgspec.structs.replace(manifest.definitions, event_time=time)
    write_manifest(other, msgspec.structs.replace(manifest, definitions=definitions))
    add(settings, other)
    version_transitions.promote(settings, 3, "its event times were in another zone")
    line = "version 3 does not fit the declaration: .*event time: zone was 'America/Lima' and is 'UTC'; restore"
    with pytest.raises(ModelIncompatibleError, match=line):
        serving.refresh()
    assert serving.current.version == 1


def test_a_worker_does_not_start_with_another_declaration_than_its_champion(settings: Settings, tmp_path: Path) -> None:
    shipped = (resources.files("schemas.dataset") / "card_transactions.toml").read_text(encoding="utf-8")
    path = tmp_path / "card_transactions.toml"
    path.write_text(shipped.replace("# In the order", "# Reordered, in the order").replace("min = 0", "min = -5"))
    ChampionCache(settings, load_dataset(str(path))).open()  # another comment and another range: the same meaning
    path.write_text(shipped.replace('"%d/%m/%Y"', '"%m/%d/%Y"'))
    with pytest.raises(
        ModelIncompatibleError, match=r"event time: .* was read as '%d/%m/%Y' and is read as '%m/%d/%Y'"
    ):
        ChampionCache(settings, load_dataset(str(path))).open()


def test_a_champion_whose_trees_crash_is_refused_and_the_previous_one_kept(
    settings: Settings, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = store_of(settings)
    serving.open()
    mutate(bundle, tmp_path / "hostile", 1)
    kept = kept_by_the_registry(settings, 2)
    for name in (MANIFEST_FILE, MODEL_FILE):
        shutil.copy(tmp_path / "hostile" / name, kept / name)
    monkeypatch.setattr(bundle_trial, "_passed", set())
    with mlflow_registry.mlflow_client(settings) as client:  # not registered by Tamiz: its bundle was never evaluated
        of = client.get_model_version(settings.model_name, "2")
        tags = {"tamiz.bundle_sha256": bundle_digest(kept)}
        client.create_model_version(settings.model_name, of.source, run_id=of.run_id, tags=tags)
    version_transitions.promote(settings, 3, "the tag was changed as well")
    with pytest.raises(ModelIncompatibleError):
        serving.refresh()
    assert serving.current.version == 1
