"""Local cache of the champion: selects it by the registry's promotion history, downloads, verifies and loads it.

The promotion history is authoritative, not the alias. An alias that differs was set by another program; it is reported,
or served if `unrecorded_champion` is `serve`. A bundle is downloaded to `state_dir/models/NAME/VERSION/`, compared with
the digest in the history and loaded in a child process. Only then `champion.json` names it as the fallback for when the
registry is unreachable. So neither an incomplete nor a replaced download is served.
"""

import logging
import shutil
import time
from pathlib import Path

import msgspec

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.errors import ModelIncompatibleError, ModelUnavailableError
from schemas.files.atomic_write import atomic_write
from schemas.json_codec import decode
from schemas.log_chain import START, Head
from schemas.promotion_log import LogState, inconsistency
from scoring.bundle.declaration_match import check_declaration
from scoring.bundle.manifest import bundle_digest, check_digest, digest_sources, read_manifest
from stream_app.registry.champion_registry import ChampionRegistry
from stream_app.registry.registry_client import RegisteredVersion, first_line
from stream_app.registry.registry_client import RegistryUnavailableError as RegistryUnavailableError

log = logging.getLogger("tamiz.models")
PROMOTION_TIMEOUT_S = 1.0  # between the two writes of a promotion, history and alias
MIN_RETRY_DELAY_S = 30.0  # before a rejected champion is downloaded and tested again; doubles each time
MAX_RETRY_DELAY_S = 1800.0


class ServedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """`champion.json`: the version served last, used while the registry is unreachable."""

    version: int
    bundle_sha256: str | None = None
    head: Head = START  # last history entry read; if it is missing later, it was deleted


class RejectedChampion(msgspec.Struct, frozen=True):
    """A champion that cannot be served, and when it is tested again."""

    registry_entry: object  # if it changes, the champion is tested at once
    error: ModelIncompatibleError
    retry_at_s: float  # monotonic clock
    delay_s: float


class ChampionCache:
    """Provides the model in service. `open` and `refresh` block; `current` may be read from any thread."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        self._settings = settings
        self._dataset = dataset
        self._folder = settings.state_dir / "models" / settings.model_name
        self._model: MonitoredModel | None = None
        self._sha256: str | None = None  # of the bundle in service
        self._trial_results = settings.state_dir / "models" / "passed"
        self._registry = ChampionRegistry(settings)
        self._inconsistency: str | None = None
        self._recorded = True
        self._rejected: RejectedChampion | None = None
        if (served := self._last_served()) is not None:
            self._registry.remember(served.head)

    @property
    def current(self) -> MonitoredModel:
        """The model in service. Raises ModelUnavailableError before `open`."""
        if self._model is None:
            raise ModelUnavailableError("no model is loaded yet")
        return self._model

    @property
    def loaded(self) -> MonitoredModel | None:
        """The model in service, or None before `open`."""
        return self._model

    @property
    def registry_inconsistency(self) -> str | None:
        """In one line, how the promotion history is damaged or the alias differs from it; None for neither."""
        return self._inconsistency

    @property
    def recorded(self) -> bool:
        """Whether the promotion history contains the model in service."""
        return self._recorded

    def open(self) -> None:
        """Load the champion, or the last one served if the registry is unreachable or the champion is rejected.

        Raises ModelUnavailableError if there is neither, ModelIncompatibleError if the champion cannot be served.
        """
        try:
            self.refresh()
        except RegistryUnavailableError as error:
            if not self._serve_last(f"the registry is unreachable ({error})"):
                raise ModelUnavailableError(
                    f"the registry {self._settings.registry_name} cannot be reached ({error}) and no bundle is cached "
                    f"in {self._folder}; start the registry, or set TAMIZ_MLFLOW_TRACKING_URI"
                ) from None
        except ModelIncompatibleError as error:
            if not self._serve_last(f"the champion is rejected ({error})"):
                raise
        if self._model is None and self._inconsistency is not None and not self._serve_last(self._inconsistency):
            raise ModelUnavailableError(
                f"{self._inconsistency}: record the promotion with `tamiz models promote VERSION --reason REASON`, "
                "or serve the alias with unrecorded_champion = serve (TAMIZ_UNRECORDED_CHAMPION)"
            )
        if self._model is None:
            raise ModelUnavailableError(
                f"the registry {self._settings.registry_name} has no champion of {self._settings.model_name!r}; "
                "train one with `tamiz train FILE`"
            )

    def refresh(self) -> bool:
        """Poll the registry and switch to its champion. True if another version is in service now.

        Raises RegistryUnavailableError if the registry does not respond, ModelIncompatibleError if its champion cannot
        be served; in both cases the model in service is kept.
        """
        version, history = self._version_to_serve()
        if version is None:
            return False
        recorded_sha256 = history.digests.get(version)
        if self._model is not None and self._model.version == version and recorded_sha256 in (None, self._sha256):
            self._recorded = version == history.champion
            return False
        if history.damage is not None and self._settings.unrecorded_champion == "refuse":
            return False  # the promotions cannot be trusted: keep the model in service
        registered = self._registry.version(version)
        entry = (version, recorded_sha256, sorted(registered.tags.items()), history.last_transition(version))
        rejected = self._rejected if self._rejected and self._rejected.registry_entry == entry else None
        if rejected is not None and time.monotonic() < rejected.retry_at_s:
            raise rejected.error
        try:
            self._swap(registered, history)
        except ModelIncompatibleError as error:
            delay_s = min(MAX_RETRY_DELAY_S, rejected.delay_s * 2) if rejected else MIN_RETRY_DELAY_S
            self._rejected = RejectedChampion(entry, error, time.monotonic() + delay_s, delay_s)
            raise
        self._rejected = None
        return True

    def _swap(self, registered: RegisteredVersion, history: LogState) -> None:
        version = registered.version
        folder, sha256 = self._verified_bundle(registered, history)
        model = self.load(folder, version)
        self._model, self._sha256, self._recorded = model, sha256, version == history.champion
        try:
            served = ServedVersion(version=version, bundle_sha256=sha256, head=history.head)
            with atomic_write(self._folder / "champion.json") as scratch:
                scratch.write_bytes(msgspec.json.encode(served))
        except OSError as error:  # e.g. a full disk; only a start without a registry needs the file
            log.warning("champion.json cannot be written for version %d: %s", version, error)
        log.info("%s version %d is in service", self._settings.model_name, version)

    def at_version(self, version: int) -> MonitoredModel:
        """Load any version, e.g. to reproduce a decision, without putting it in service.

        Raises ModelUnavailableError if the registry does not provide it, ModelIncompatibleError if it cannot be served.
        """
        return self.load(self.folder(version), version)

    def folder(self, version: int) -> Path:
        """The folder of a version's bundle, downloaded if necessary.

        Raises ModelUnavailableError if the registry does not provide it, ModelIncompatibleError if it is not the
        registered one.
        """
        try:
            history = self._registry.history()
            return self._verified_bundle(self._registry.version(version), history)[0]
        except (OSError, RegistryUnavailableError) as error:
            folder = self._folder / str(version)
            if not folder.is_dir():
                raise ModelUnavailableError(
                    f"{self._settings.model_name} version {version}: {first_line(error)}"
                ) from None
            check_digest(folder, {"the history of promotions": self._registry.last_history.digests.get(version)})
            return folder

    def versions(self) -> set[int]:
        """Registered version numbers. Raises RegistryUnavailableError if the registry is unreachable."""
        return self._registry.versions()

    def cached_versions(self) -> set[int]:
        """Version numbers whose bundles are on disk."""
        names = [p.name for p in self._folder.iterdir()] if self._folder.is_dir() else []
        return {int(name) for name in names if name.isascii() and name.isdigit()}

    def _version_to_serve(self) -> tuple[int | None, LogState]:
        """The version to serve, by the history and `unrecorded_champion`; and the history."""
        alias, history = self._registry.alias_and_history()
        if (why := inconsistency(history, alias)) is not None:
            time.sleep(PROMOTION_TIMEOUT_S)  # a promotion may be between its two writes
            alias, history = self._registry.alias_and_history()
            why = inconsistency(history, alias)
        if why is not None and why != self._inconsistency:
            log.warning("%s; unrecorded_champion is %s", why, self._settings.unrecorded_champion)
        self._inconsistency = why
        serves_any = self._settings.unrecorded_champion == "serve"
        return (alias if serves_any and alias is not None else history.champion), history

    def _verified_bundle(self, registered: RegisteredVersion, history: LogState) -> tuple[Path, str]:
        """Folder and SHA-256 of a version's bundle, downloaded if none on disk matches the history.

        Raises ModelIncompatibleError if registry, history and bundle disagree, RegistryUnavailableError.
        """
        folder = self._folder / str(registered.version)
        recorded_sha256 = history.digests.get(registered.version)
        tag = registered.tags.get("tamiz.bundle_sha256")
        sources = digest_sources(recorded_sha256, tag)
        sha256 = None
        if folder.is_dir():
            try:
                sha256 = check_digest(folder, sources)
            except ModelIncompatibleError:
                if self._is_last_served(folder, registered.version) and recorded_sha256 is None:
                    raise  # only a tag differs
                shutil.rmtree(folder, ignore_errors=True)  # damaged on disk
        if sha256 is None:
            self._registry.download(registered.run_id, folder)
            sha256 = self._check_download(folder, sources)
        if tag not in (None, sha256):
            log.warning("version %d: its tag and the promotion history name different bundles", registered.version)
        self._check_gate_status(registered, folder)
        return folder, sha256

    def _check_download(self, folder: Path, sources: dict[str, str | None]) -> str:
        try:
            return check_digest(folder, sources)
        except ModelIncompatibleError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _is_last_served(self, folder: Path, version: int) -> bool:
        served = self._last_served()
        return served is not None and served.version == version and served.bundle_sha256 == bundle_digest(folder)

    def _check_gate_status(self, registered: RegisteredVersion, folder: Path) -> None:
        gate_status = registered.tags.get("tamiz.gate_status")
        if gate_status is not None:
            forced, manifest_forced = "tamiz.forced" in registered.tags, read_manifest(folder).forced
            if forced != manifest_forced or not (manifest_forced or gate_status == "skill"):
                raise ModelIncompatibleError(
                    f"version {registered.version}: the bundle has forced: {manifest_forced}, the registry has forced: "
                    f"{forced} and skill gate: {gate_status[:40]!r}; train the model again"
                )

    def load(self, folder: Path, version: int) -> MonitoredModel:
        """Load a checked bundle from its folder. Raises ModelIncompatibleError if it cannot be served."""
        model = MonitoredModel.load(folder, version, self._trial_results)
        check_declaration(model.manifest, self._dataset, version)
        return model

    def _serve_last(self, why: str) -> bool:
        """Serve the version that was served last, from disk. False if there is none."""
        if (served := self._last_served()) is None:
            return False
        folder = self._folder / str(served.version)
        recorded_sha256 = self._registry.last_history.digests.get(served.version)
        sources = {"champion.json": served.bundle_sha256, "the history of promotions": recorded_sha256}
        sha256 = check_digest(folder, sources)
        self._model, self._sha256 = self.load(folder, served.version), sha256
        log.warning("%s; serving version %d from disk", why, served.version)
        return True

    def _last_served(self) -> ServedVersion | None:
        try:
            served = decode((self._folder / "champion.json").read_bytes(), ServedVersion)
        except (OSError, msgspec.MsgspecError):
            return None
        return served if (self._folder / str(served.version)).is_dir() else None
