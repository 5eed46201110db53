"""What the page knows of the model registry: who waits for a person, and the references of versions spoken of."""

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
from stream_app.dashboard.messages import PromotionReply, Waiting

log = logging.getLogger("tamiz.dashboard")
KEPT = 4  # references
RETRY_DELAY_S = 30  # before a reference that could not be had is asked for again
INTERVAL_S = 1.0  # how soon what was heard is acted on


@dataclass(frozen=True, kw_only=True)
class Registry:
    """What the page asks of the registry; all of it blocks, and raises ModelUnavailableError when it is away."""

    reference: Callable[[int], DriftReference]  # of a version; raises ModelIncompatibleError when there is none
    waiting: Callable[[], Sequence[Waiting]]  # who waits for a person
    disagreement: Callable[[], str | None] = lambda: None  # how the alias differs from the history
    report: Callable[[int], bytes]  # a version's PDF
    approve: Callable[
        [int, str, str], PromotionReply
    ]  # version, reason, and who, as `schemas.security.actor` writes it
    reject: Callable[[int, str, str], PromotionReply]


class VersionsSeen(NamedTuple):
    """What topics say of versions; when it changes, the registry is asked."""

    versions: frozenset[int]  # that decide or are evaluated
    last_event: tuple[ModelEvent, ...]


class RegistryPoller:
    """Asks the registry now and then, and at once where there is reason. Lives on one loop."""

    def __init__(self, registry: Registry, every_s: float) -> None:
        self._registry = registry
        self._every_s = every_s
        self._again_at: dict[int, float] = {}
        self.references: dict[int, DriftReference] = {}  # by version; replaced, never changed
        self.waiting: tuple[Waiting, ...] = ()
        self.away: str | None = "it has not been asked yet"
        self.disagreement: str | None = None
        self.look = asyncio.Event()  # set: ask now

    async def keep(self, heard: Callable[[], VersionsSeen]) -> None:
        """Go on asking until cancelled."""
        while True:
            self.look.clear()
            asked = heard()
            try:
                self.waiting = tuple(await asyncio.to_thread(self._registry.waiting))
                self.disagreement = await asyncio.to_thread(self._registry.disagreement)
                self.away = None
            except ModelUnavailableError as error:
                self.away = str(error)
            for version in sorted(asked.versions):
                await self._learn(version)
            again = time.monotonic() + self._every_s
            while heard() == asked and time.monotonic() < again and not self.look.is_set():
                # Not wait_for: on Python 3.11 it loses a cancellation that comes in the instant of `look`.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL_S):
                        await self.look.wait()

    async def _learn(self, version: int) -> None:
        if version in self.references or time.monotonic() < self._again_at.get(version, 0.0):
            return
        try:
            reference = await asyncio.to_thread(self._registry.reference, version)
        except (ModelUnavailableError, ModelIncompatibleError) as error:
            log.warning("version %d has no reference here: %s", version, error)
            now = time.monotonic()
            self._again_at = {v: at for v, at in self._again_at.items() if at > now} | {version: now + RETRY_DELAY_S}
            return
        kept = list(self.references.items())[-(KEPT - 1) :]
        self.references = dict([*kept, (version, reference)])
