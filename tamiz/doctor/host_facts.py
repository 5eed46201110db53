"""Facts about the model registry and this machine."""

import importlib.metadata
import shutil
from pathlib import Path

from packaging.requirements import Requirement

from schemas.configuration.registry_config import local_store
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import TamizError
from schemas.files.private_files import is_private, is_private_secret
from tamiz.doctor.facts import MachineFacts, RegistryFacts, Unknown


def registry_facts(settings: Settings) -> RegistryFacts | Unknown:
    """Facts about the champion; Unknown if the registry is unreachable."""
    from training.registry import version_transitions

    uri = settings.tracking_uri
    if (store := local_store(uri)) is not None and not store.database.exists():
        # MLflow would create it, but the doctor changes nothing.
        return RegistryFacts(champion=None, inconsistency=None, dataset=Unknown("there is no registry yet"))
    try:
        version, inconsistency = (
            version_transitions.champion(settings),
            version_transitions.registry_inconsistency(settings),
        )
    except TamizError as error:
        return Unknown.from_error(error)
    dataset = Unknown("there is no champion") if version is None else _dataset(settings, version)
    return RegistryFacts(champion=version, inconsistency=inconsistency, dataset=dataset)


def _dataset(settings: Settings, version: int) -> str | Unknown:
    """Data set of a version's bundle, loaded as a worker loads it."""
    from monitoring.counting.monitored_model import MonitoredModel
    from monitoring.drift.reference import load_reference
    from scoring.bundle.declaration_match import declaration_mismatch
    from training.registry.model_loader import verified_bundle

    try:
        declared = load_dataset(settings.dataset)
        with verified_bundle(settings, version) as (bundle, _):
            model = MonitoredModel.load(bundle, version)
            load_reference(bundle)
    except TamizError as error:
        return Unknown.from_error(error)
    if (why := declaration_mismatch(model.manifest, declared)) is not None:
        return Unknown(why)
    return str(model.manifest.dataset)


def machine_facts(settings: Settings) -> MachineFacts:
    """Facts about libraries, web pages and the state folder."""
    from stream_app.kafka.kafka_clients import readable_codecs

    return MachineFacts(
        codecs=readable_codecs(),
        state_exists=settings.state_dir.is_dir(),
        state_private=is_private(settings.state_dir),
        pages_refused=_pages_refused(settings),
        users_private=settings.web_users_file is None or is_private_secret(settings.web_users_file),
        free_bytes=_free_bytes(settings.state_dir),
        outdated=_outdated(),
    )


def _pages_refused(settings: Settings) -> str | None:
    from stream_app.web.web_auth import authenticator

    try:
        authenticator(settings)
    except TamizError as error:
        return Unknown.from_error(error).reason
    return None


def _free_bytes(folder: Path) -> int | Unknown:
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    try:
        return shutil.disk_usage(existing).free
    except OSError as error:
        return Unknown.from_error(error)


def _outdated() -> tuple[str, ...] | Unknown:
    try:
        requirements = [Requirement(line) for line in importlib.metadata.requires("tamiz") or ()]
    except importlib.metadata.PackageNotFoundError:
        return Unknown("Tamiz is not installed as a package here; its image is built from the lock file")
    found = []
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} is {version}, required {requirement.specifier}")
    return tuple(found)
