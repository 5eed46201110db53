"""Which version a registry names champion: its alias, the promotion history, and the bundles of versions. Read-only."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from schemas.configuration.registry_config import LocalStore, local_store, model_filter
from schemas.configuration.settings import Settings
from schemas.errors import ModelIncompatibleError
from schemas.files.private_files import narrow_state, private_folder
from schemas.log_chain import START, Head, read_head
from schemas.promotion_log import CHAMPION, HEAD_TAG, LogState, log_name, read_log
from stream_app.registry.registry_client import RegisteredVersion, RegistryUnavailableError, first_line, make_client


class ChampionRegistry:
    """Blocking client. Every method raises RegistryUnavailableError if the registry does not respond."""

    def __init__(self, settings: Settings) -> None:
        self._model = settings.model_name
        self._state_dir = settings.state_dir
        self._incomplete_store: LocalStore | None = local_store(settings.tracking_uri)  # None: complete, or a server
        self._last_history = LogState()
        self._head = START  # last history entry seen; restored after a restart by `remember`
        self._client = make_client(settings)

    @property
    def last_history(self) -> LogState:
        """The state of the promotion history when it was last read."""
        return self._last_history

    def remember(self, head: Head) -> None:
        """Require that the history still contains this entry, which the caller has read before."""
        self._head = head

    def alias_and_history(self) -> tuple[int | None, LogState]:
        """The version of the alias `champion`, and the state of the promotion history."""
        if self._is_store_missing():
            return None, LogState()
        return self._client.alias_version(self._model, CHAMPION), self._read_history()

    def history(self) -> LogState:
        """The state of the promotion history."""
        return LogState() if self._is_store_missing() else self._read_history()

    def version(self, version: int) -> RegisteredVersion:
        """A version. Raises RegistryUnavailableError also if it does not exist."""
        return self._client.version(self._model, version)

    def versions(self) -> set[int]:
        """Numbers of the registered versions."""
        return {found.version for found in self._client.versions(model_filter(self._model))}

    def download(self, run_id: str, folder: Path) -> None:
        """Download a run's bundle to a folder, which is renamed into place when it is complete.

        Raises ModelIncompatibleError if a file exceeds its limit, or if the library for the artifact store is missing.
        """
        try:
            private_folder(folder.parent)
            narrow_state(self._state_dir)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="download-") as scratch:
                found = self._client.download(run_id, Path(scratch))
                try:
                    os.replace(found, folder)
                except OSError:
                    if not folder.is_dir():  # otherwise another program was first; its digest is checked
                        raise
        except ModelIncompatibleError:
            raise
        except (RegistryUnavailableError, OSError) as error:
            raise RegistryUnavailableError(f"the bundle of run {run_id}: {first_line(error)}") from error

    def _is_store_missing(self) -> bool:
        """Whether the local store does not exist yet. MLflow would create it, in a race with the first training."""
        if (store := self._incomplete_store) is None:
            return False
        if not store.database.exists():
            return True
        # Wait until the training that creates the store has created its tables, too. If the folder is read-only here,
        # the lock cannot be taken; its store is complete.
        with suppress(OSError), FileLock(store.lock):
            pass
        self._incomplete_store = None
        return False

    def _read_history(self) -> LogState:
        """Read the whole history each time, because an entry may have been edited or deleted."""
        name = log_name(self._model)
        tags = self._client.model_tags(name)
        head = START if tags is None else read_head(tags.get(HEAD_TAG))
        found = [(each.version, each.tags) for each in self._client.versions(model_filter(name))]
        self._last_history = read_log(found, [head, self._head])
        if self._last_history.damage is None:
            self._head = self._last_history.head
        return self._last_history
