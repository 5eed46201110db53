"""Polls the model registry for the dashboard: pending approvals, and the drift references of versions in use."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from monitoring.drift.reference import DriftReference
from schemas.errors import ModelIncompatibleError, ModelUnavailableError
from schemas.records import ModelEvent
from stream_app.dashboard.messages import PendingApproval, PromotionReply

log = logging.getLogger("tamiz.dashboard")
MAX_REFERENCES = 4
RETRY_DELAY_S = 30  # after a failed load of a reference
CHECK_INTERVAL_S = 1.0  # how often the topics are checked for another version


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The dashboard's access to the registry. Every call blocks; raises ModelUnavailableError if it is unreachable."""

    reference: Callable[[int], DriftReference]  # of a version; raises ModelIncompatibleError if it has none
    pending_approvals: Callable[[], Sequence[PendingApproval]]  # versions that wait for approval
    registry_inconsistency: Callable[[], str | None] = lambda: None  # damage, or how the alias differs
    report: Callable[[int], bytes]  # a version's PDF
    approve: Callable[[int, str, str], PromotionReply]  # version, reason, actor (`schemas/security/actor.py`)
    reject: Callable[[int, str, str], PromotionReply]


class VersionsSeen(NamedTuple):
    """Versions named on topics. A change of it triggers a poll."""

    versions: frozenset[int]  # in service or evaluated
    last_event: tuple[ModelEvent, ...]


class RegistryPoller:
    """Polls the registry at an interval, and at once when the topics name another version. Uses one event loop."""

    def __init__(self, registry: Registry, interval_s: float) -> None:
        self._registry = registry
        self._interval_s = interval_s
        self._retry_at: dict[int, float] = {}
        self.references: dict[
            int, DriftReference
        ] = {}  # by version; replaced, never mutated, since another thread reads it
        self.pending_approvals: tuple[PendingApproval, ...] = ()
        self.error: str | None = "the registry has not been polled yet"
        self.registry_inconsistency: str | None = None
        self.wake = asyncio.Event()  # set: poll now

    async def run(self, versions_seen: Callable[[], VersionsSeen]) -> None:
        """Poll until cancelled."""
        while True:
            self.wake.clear()
            seen = versions_seen()
            try:
                self.pending_approvals = tuple(await asyncio.to_thread(self._registry.pending_approvals))
                self.registry_inconsistency = await asyncio.to_thread(self._registry.registry_inconsistency)
                self.error = None
            except ModelUnavailableError as error:
                self.error = str(error)
            for version in sorted(seen.versions):
                await self._load_reference(version)
            deadline = time.monotonic() + self._interval_s
            while versions_seen() == seen and time.monotonic() < deadline and not self.wake.is_set():
                # Not wait_for: on Python 3.11 it loses a cancellation that arrives together with `wake`.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_INTERVAL_S):
                        await self.wake.wait()

    async def _load_reference(self, version: int) -> None:
        if version in self.references or time.monotonic() < self._retry_at.get(version, 0.0):
            return
        try:
            reference = await asyncio.to_thread(self._registry.reference, version)
        except (ModelUnavailableError, ModelIncompatibleError) as error:
            log.warning("no drift reference of version %d: %s; retry in %d s", version, error, RETRY_DELAY_S)
            now = time.monotonic()
            self._retry_at = {v: at for v, at in self._retry_at.items() if at > now} | {version: now + RETRY_DELAY_S}
            return
        kept = list(self.references.items())[-(MAX_REFERENCES - 1) :]
        self.references = dict([*kept, (version, reference)])
