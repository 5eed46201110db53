"""Which model decides now: the champion of the registry's history, kept on disk for when the registry is away.

The history of promotions counts, not the alias: an alias that differs was set by somebody else, and is shown, or
served where `unrecorded_champion` says so. A bundle is downloaded to `state_dir/models/NAME/VERSION/`, held to the
digests that
its tag and its promotion name, tried in a child process, and only then named as the one to fall back on
(`champion.json`), so that neither a half-written download nor an exchanged one is ever served.
"""

import logging
import os
import shutil
import time
from pathlib import Path

import msgspec

from monitoring.model import ScoringModel
from schemas.dataset import Dataset
from schemas.errors import ModelIncompatible, ModelUnavailable
from schemas.manifest import check_digest, read_manifest
from schemas.promotion_log import Standing, disagreement
from schemas.settings import Settings
from schemas.wire import decode
from stream_app.champion_registry import ChampionRegistry, Registered, first_line
from stream_app.champion_registry import RegistryAwayError as RegistryAwayError

log = logging.getLogger("tamiz.models")
PROMOTION_S = 1.0  # that a promotion may take between the history and the alias


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """`champion.json`: the version to serve while the registry is away."""

    version: int
    bundle_sha256: str | None = None


class ModelStore:
    """Blocking: call `open` before the loop runs and `refresh` from a thread; read `current` anywhere."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        self._settings = settings
        self._dataset = dataset
        self._folder = settings.state_dir / "models" / settings.model
        self._model: ScoringModel | None = None
        self._sha256: str | None = None  # of the bundle that decides
        self._passed = settings.state_dir / "models" / "passed"
        self._registry = ChampionRegistry(settings)
        self._disagreement: str | None = None
        self._recorded = True

    @property
    def current(self) -> ScoringModel:
        """The model that decides now. Raises ModelUnavailable before `open`."""
        if self._model is None:
            raise ModelUnavailable("no model is loaded yet")
        return self._model

    @property
    def loaded(self) -> ScoringModel | None:
        """The model that decides now, or None before there is one."""
        return self._model

    @property
    def disagreement(self) -> str | None:
        """In one line, how the registry's alias differs from its history of promotions; None when it does not."""
        return self._disagreement

    @property
    def recorded(self) -> bool:
        """Whether the model that decides was promoted by a move of the history."""
        return self._recorded

    def open(self) -> None:
        """Load the champion; with the registry away, the last one served.

        Raises ModelUnavailable when there is neither, ModelIncompatible when the champion cannot be served.
        """
        try:
            self.refresh()
        except RegistryAwayError as away:
            kept = self._last_served()
            if kept is None:
                raise ModelUnavailable(
                    f"the registry {self._settings.registry_name} cannot be reached ({away}) and no bundle is kept in "
                    f"{self._folder}; start the registry, or set TAMIZ_MLFLOW_TRACKING_URI"
                ) from None
            log.warning("the registry is away (%s); serving version %d from disk", away, kept.version)
            folder = self._folder / str(kept.version)
            self._sha256 = check_digest(folder, {"the note of what was served": kept.bundle_sha256})
            self._model = self._load(folder, kept.version)
        if self._model is None:
            if self._disagreement is not None:
                raise ModelUnavailable(
                    f"{self._disagreement}: write the promotion down with `tamiz models promote VERSION --reason WHY`, "
                    "or serve it as it is with unrecorded_champion = serve (TAMIZ_UNRECORDED_CHAMPION)"
                )
            raise ModelUnavailable(
                f"the registry {self._settings.registry_name} has no champion of {self._settings.model!r}; "
                "train one with `tamiz train FILE`"
            )

    def refresh(self) -> bool:
        """Ask the registry; True when another version took over.

        Raises RegistryAwayError when it does not answer, ModelIncompatible when its champion cannot be served; in both
        cases the model that decides now goes on deciding.
        """
        version, standing = self._wanted()
        promotion = standing.promotion if version == standing.champion else None
        promoted = promotion.bundle_sha256 if promotion else None
        if version is None:
            return False
        if self._model is not None and self._model.version == version and promoted in (None, self._sha256):
            self._recorded = version == standing.champion
            return False
        registered = self._registry.version(version)
        folder = self._fetch(registered)
        try:
            sha256 = self._check(registered, folder, promoted)
            model = self._load(folder, version)
        except ModelIncompatible:
            shutil.rmtree(folder, ignore_errors=True)  # damaged on its way or on disk: fetch it anew next time
            raise
        self._model, self._sha256, self._recorded = model, sha256, version == standing.champion
        try:
            pointer = Pointer(version=version, bundle_sha256=sha256)
            _write_atomically(self._folder / "champion.json", msgspec.json.encode(pointer))
        except OSError as error:  # a full disk; it serves all the same, and only a start without a registry misses it
            log.warning("version %d is not kept as the one to start with: %s", version, error)
        log.info("%s version %d decides from now on", self._settings.model, version)
        return True

    def at_version(self, version: int) -> ScoringModel:
        """A version that need not decide now, e.g. to repeat what it once decided.

        Raises ModelUnavailable when the registry does not give it, ModelIncompatible when it cannot be served.
        """
        return self._load(self.folder(version), version)

    def folder(self, version: int) -> Path:
        """Where a version's bundle lies on disk, fetched first if need be.

        Raises ModelUnavailable when the registry does not give it, ModelIncompatible when it is not the one registered.
        """
        try:
            registered = self._registry.version(version)
            folder = self._fetch(registered)
        except (OSError, RegistryAwayError) as error:
            folder = self._folder / str(version)
            if folder.is_dir():  # checked when it was fetched
                return folder
            raise ModelUnavailable(f"{self._settings.model} version {version}: {first_line(error)}") from None
        self._check(registered, folder, None)
        return folder

    def versions(self) -> set[int]:
        """Numbers of the versions that are registered. Raises RegistryAwayError when it is away."""
        return self._registry.versions()

    def kept_versions(self) -> set[int]:
        """Numbers of the versions whose bundles are on disk."""
        names = [p.name for p in self._folder.iterdir()] if self._folder.is_dir() else []
        return {int(name) for name in names if name.isascii() and name.isdigit()}

    def _wanted(self) -> tuple[int | None, Standing]:
        """The version that is to decide, by the history and the setting; and the history."""
        alias, standing = self._registry.ask()
        if (why := disagreement(standing, alias)) is not None:
            time.sleep(PROMOTION_S)  # somebody may be between the two
            alias, standing = self._registry.ask()
            why = disagreement(standing, alias)
        if why is not None and why != self._disagreement:
            log.warning("%s; setting unrecorded_champion is %s", why, self._settings.unrecorded_champion)
        self._disagreement = why
        serves_any = self._settings.unrecorded_champion == "serve"
        return (alias if serves_any and alias is not None else standing.champion), standing

    def _fetch(self, registered: Registered) -> Path:
        folder = self._folder / str(registered.version)
        if not folder.is_dir():
            self._registry.download(registered.run_id, folder)
        return folder

    def _check(self, registered: Registered, folder: Path, promoted: str | None) -> str:
        """The bundle's SHA-256.

        Raises ModelIncompatible when registry, history and bundle do not say the same of it.
        """
        tag = registered.tags.get("tamiz.bundle_sha256")
        sha256 = check_digest(folder, {"the version's tag": tag, "the history of promotions": promoted})
        verdict = registered.tags.get("tamiz.verdict")
        if verdict is not None:
            forced, says = "tamiz.forced" in registered.tags, read_manifest(folder).forced
            if forced != says or not (says or verdict == "skill"):
                raise ModelIncompatible(
                    f"version {registered.version}: the bundle says forced: {says}, the registry says forced: {forced} "
                    f"and skill gate: {verdict[:40]!r}; train the model again"
                )
        return sha256

    def _load(self, folder: Path, version: int) -> ScoringModel:
        model = ScoringModel.load(folder, version, self._passed)
        computed = {f.name for f in self._dataset.features}
        unknown = [name for name in model.manifest.names if name not in computed]
        if model.manifest.dataset != self._dataset.name or unknown:
            raise ModelIncompatible(
                f"version {version} was trained on {model.manifest.dataset!r}, this worker reads "
                f"{self._dataset.name!r}; features it does not compute: {', '.join(unknown) or 'none'}"
            )
        return model

    def _last_served(self) -> Pointer | None:
        try:
            kept = decode((self._folder / "champion.json").read_bytes(), Pointer)
        except (OSError, msgspec.MsgspecError):
            return None
        return kept if (self._folder / str(kept.version)).is_dir() else None


def _write_atomically(path: Path, content: bytes) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_bytes(content)
    os.replace(scratch, path)
