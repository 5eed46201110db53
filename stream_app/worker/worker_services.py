"""The services that run with the Faust app: scoring loop, registry poll, watchdog and health pages."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import random
import sys
import time
from collections.abc import Mapping

import faust
from mode import Service

from schemas.configuration.settings import Settings
from schemas.errors import ModelIncompatibleError
from stream_app.lifecycle.watchdog import CHECKS_PER_TIMEOUT, Backlog, Watchdog, known_backlogs, read_backlogs
from stream_app.offsets.partition_positions import PartitionPositions
from stream_app.web.health_server import HealthServer, Readiness
from stream_app.web.web_auth import Authenticator
from stream_app.worker.champion_cache import ChampionCache, RegistryUnavailableError
from stream_app.worker.faust_app import assigned_partitions, consumed_partitions
from stream_app.worker.promotion_listener import listen_for_promotions
from stream_app.worker.worker_loop import WorkerLoop, exit_at_once
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.worker")


class WorkerServices(Service):  # type: ignore[misc]  # mode has no types
    """The services that run next to Faust's app: worker loop, registry polling, watchdog, health server.

    As a service of Faust's worker it starts before the app and stops after it. So the health pages respond while the
    group still forms, and fetched records are still decided while the consumer stops.
    """

    def __init__(
        self,
        settings: Settings,
        app: faust.App,
        champion: ChampionCache,
        worker_loop: WorkerLoop,
        metrics: WorkerMetrics,
        auth: Authenticator,
        positions: PartitionPositions,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._app = app
        self._champion = champion
        self._worker_loop = worker_loop
        self._metrics = metrics
        self._positions = positions
        self._promoted = asyncio.Event()
        self._written: dict[int, int] = {}  # as `WriteQueue.written`, at the watchdog's last check
        self._watchdog = Watchdog(
            self._backlogs,
            settings.stall_timeout_seconds,
            self._set_lag,
            exit_at_once,
            progress=worker_loop.progress,
            on_failure=metrics.watchdog_failures.inc,
        )
        auth.on_failure = metrics.authentication_failures.inc
        self._health_server = HealthServer(
            alive=lambda: worker_loop.failed is None,
            readiness=self.readiness,
            registry=metrics.registry,
            auth=auth,
        )

    async def on_start(self) -> None:
        """Start the health server, the watchdog and the offset checks."""
        self._set_model_metrics()
        self._set_registry_metrics()
        self._metrics.partitions.set_function(lambda: len(self._partitions()))
        port = await self._health_server.start(self._settings.web_host, self._settings.web_port)
        self._watchdog.start()
        self._positions.start()
        await self._worker_loop.start_rules()  # before the app joins the group, so that no partition waits for them
        # Imported modules are never freed, and the objects of a batch live until its commit. With default thresholds
        # the garbage collector scans both repeatedly and takes a fifth of the CPU time.
        gc.collect()
        gc.freeze()
        _return_free_memory()
        gc.set_threshold(50_000, 20, 20)
        # While a large batch is scored in its thread, the default switch interval of 5 ms would delay the event loop.
        sys.setswitchinterval(0.001)
        log.info("health and metrics on http://%s:%d", self._settings.web_host, port)

    async def on_stop(self) -> None:
        """Stop the services and close the publisher."""
        self._watchdog.stop()
        self._positions.stop()
        await self._worker_loop.close()
        await self._health_server.stop()

    @Service.task  # type: ignore[untyped-decorator]
    async def _score(self) -> None:
        await self._worker_loop.run()

    @Service.task  # type: ignore[untyped-decorator]
    async def _run_profiles(self) -> None:
        await self._worker_loop.run_profiles()

    @Service.task  # type: ignore[untyped-decorator]
    async def _listen_for_promotions(self) -> None:
        promotions = listen_for_promotions(
            self._settings, lambda topic: self._metrics.records_skipped.labels(topic).inc()
        )
        async with contextlib.aclosing(promotions):
            async for event in promotions:
                log.info("version %s was %s; polling the registry", event.model_version, event.change)
                self._promoted.set()

    @Service.task  # type: ignore[untyped-decorator]
    async def _follow_champion(self) -> None:
        while True:
            # Jitter, so that workers do not poll at the same time.
            wait = self._settings.registry_poll_seconds * random.uniform(0.75, 1.25)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._promoted.wait(), wait)
            self._promoted.clear()
            if self.should_stop:
                return
            try:
                if await asyncio.to_thread(self._champion.refresh):
                    self._metrics.model_swaps.inc()
                    self._set_model_metrics()
                self._set_registry_metrics()
            except (RegistryUnavailableError, ModelIncompatibleError) as error:
                self._set_registry_metrics()
                self._metrics.registry_failures.inc()
                self._metrics.bundles_rejected.inc(isinstance(error, ModelIncompatibleError))
                log.warning("keeping version %d in service: %s", self._champion.current.version, error)

    def readiness(self) -> Readiness:
        """Whether the worker decides transactions, with which model, and what it waits for."""
        model = self._champion.loaded
        partitions = self._partitions()
        waiting = [] if model else ["a champion"]
        waiting += [] if partitions else ["partitions"]
        waiting += [] if self._positions.are_checked(partitions) else ["offset checks"]
        waiting += self._positions.problems()
        waiting += self._worker_loop.problems()
        waiting += ["progress"] if self._watchdog.is_stalled else []
        waiting += ["a restart"] if self._worker_loop.failed else []
        rules = self._worker_loop.rules
        return Readiness(
            ready=not waiting,
            waiting_for=tuple(waiting),
            model=model.manifest.model if model else None,
            model_version=model.version if model else None,
            forced=model.manifest.forced if model else None,
            recorded=self._champion.recorded if model else None,
            registry_inconsistency=self._champion.registry_inconsistency,
            ruleset=None if rules is None else rules.ruleset,
            ruleset_refused=None if rules is None else rules.refused,
            partitions=tuple(partitions),
        )

    def _partitions(self) -> list[int]:
        return assigned_partitions(self._app, self._worker_loop.topics)

    def _backlogs(self) -> dict[int, Backlog]:
        s, loop = self._settings, self._worker_loop
        # Partitions that are paused or restored make no progress and are reported by `problems()`.
        waiting = self._positions.paused.keys() | loop.restoring
        reading = [p for p in self._partitions() if p not in waiting]
        written_before, self._written = self._written, dict(loop.writes.written)
        known = known_backlogs(
            consumed_partitions(self._app, loop.topics),
            self._written,
            written_before,
            is_idle=loop.is_idle(),
            answered_since_s=time.time() - s.stall_timeout_seconds / CHECKS_PER_TIMEOUT,
        )
        known = {partition: backlog for partition, backlog in known.items() if partition in reading}
        if unknown := [p for p in reading if p not in known]:
            known |= read_backlogs(s.bootstrap, s.consumer_group, s.transactions_topic, unknown)
        return known

    def _set_lag(self, seen: Mapping[int, Backlog]) -> None:
        self._metrics.set_lag({partition: backlog.lag for partition, backlog in seen.items()})

    def _set_model_metrics(self) -> None:
        model = self._champion.current
        self._metrics.model_version.set(model.version)
        self._metrics.model_forced.set(model.manifest.forced)

    def _set_registry_metrics(self) -> None:
        self._metrics.champion_unrecorded.set(not self._champion.recorded)
        self._metrics.registry_alias_mismatch.set(self._champion.registry_inconsistency is not None)


def _return_free_memory() -> None:
    """Return what imports and warm-up have freed to the system, where the C library can."""
    with contextlib.suppress(AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
