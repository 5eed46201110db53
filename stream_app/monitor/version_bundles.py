"""Loads the bundles of monitored versions in a thread, so that a slow registry does not stop the monitor's loop."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from monitoring.drift.reference import DriftReference, load_reference
from schemas.errors import TamizError
from stream_app.monitor.background_call import BackgroundCall

log = logging.getLogger("tamiz.monitor")

MAX_WAIT_S = 10.0  # for a download, before the monitor continues and buffers the snapshots of its version
RETRY_DELAY_S = 60.0  # after a failed download


class VersionBundle(NamedTuple):
    """A bundle on disk, with its drift reference."""

    folder: Path
    reference: DriftReference


class VersionBundles:
    """The loaded bundles by model version. Call it from one thread."""

    def __init__(self, fetch: Callable[[int], Path]) -> None:
        """fetch: downloads a version's bundle if necessary and returns its folder; blocks, may raise any exception."""
        self._fetch = fetch
        self._loaded: dict[int, VersionBundle] = {}
        self._retry_at_s: dict[int, float] = {}  # of versions that could not be loaded, on the monotonic clock
        self._call = BackgroundCall("bundles")
        self._is_slow = False  # the last load exceeded `MAX_WAIT_S`: do not wait for the next one

    def load(self, version: int) -> VersionBundle:
        """Load a bundle and keep it. Raises ModelUnavailableError, or ModelIncompatibleError if it has no baseline."""
        folder = self._fetch(version)
        bundle = self._loaded[version] = VersionBundle(folder, load_reference(folder))
        return bundle

    def get(self, version: int) -> VersionBundle | None:
        """A loaded bundle, or None."""
        return self._loaded.get(version)

    def is_pending(self, version: int) -> bool:
        """Whether a bundle is still being loaded; False if it is loaded or could not be loaded.

        Starts the load if needed, and waits for it up to `MAX_WAIT_S` unless the last load was slow. A failed load is
        repeated after `RETRY_DELAY_S`.
        """
        if version in self._loaded or time.monotonic() < self._retry_at_s.get(version, 0.0):
            return False
        if not self._call.is_running:
            self._call.start(lambda: self._try_load(version))
            if not self._is_slow:
                self._is_slow = not self._call.wait(MAX_WAIT_S)
        return version not in self._loaded and time.monotonic() >= self._retry_at_s.get(version, 0.0)

    def _try_load(self, version: int) -> None:
        try:
            self.load(version)
            self._is_slow = False
        except Exception as error:  # every kind of store that MLflow knows has errors of its own
            self._retry_at_s[version] = time.monotonic() + RETRY_DELAY_S
            reason = error if isinstance(error, TamizError) else repr(error)
            log.error("version %d is not monitored: %s; retry in %.0f s", version, reason, RETRY_DELAY_S)
