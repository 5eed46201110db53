"""The composition root: settings in, a running worker out. Every part is made here and handed what it needs."""

import asyncio
import contextlib
import gc
import logging
import random
import signal
import sys
from collections.abc import Mapping

import faust
from faust.exceptions import ConsumerNotStarted
from faust.types import TP
from mode import Service

from schemas.configuration.kafka_config import Access
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import ConfigError, ModelIncompatibleError
from schemas.time_units import MINUTE_MS
from schemas.topics import MAX_RECORD_BYTES, max_value_bytes
from stream_app.decisions.handler import MAX_DECISION_BYTES, HandlerPolicy
from stream_app.kafka import faust_transport
from stream_app.kafka.kafka_clients import COMPRESSION, client_config, tls
from stream_app.kafka.topic_admin import describe_topics, message_limits
from stream_app.lifecycle.logging_setup import configuration
from stream_app.lifecycle.stop_deadline import StopDeadline
from stream_app.lifecycle.watchdog import Backlog, Watchdog, backlogs, retry_until
from stream_app.offsets.partition_positions import PartitionPositions
from stream_app.web.health_server import HealthServer, Readiness
from stream_app.web.web_auth import Authenticator, authenticator
from stream_app.worker.champion_cache import ChampionCache, RegistryAwayError
from stream_app.worker.drift_counter import DriftCounter
from stream_app.worker.exactly_once import ExactlyOncePublisher
from stream_app.worker.pane_cursors import CursorReader
from stream_app.worker.promotion_listener import listen_for_promotions
from stream_app.worker.publisher import AtLeastOncePublisher, Publisher, StepHook, no_hook
from stream_app.worker.worker_loop import WorkerLoop, exit_at_once
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.worker")
METADATA_MAX_AGE_MS = 15_000
NO_TIMEOUT_S = 10 * 365 * 86_400.0
SAFE_LETTER_BYTES = 128 * 1024  # of a dead letter, where its topic's limit is not known
MAX_SENT_BYTES = {"max_batch_size": 512 * 1024, "max_request_size": MAX_RECORD_BYTES}


class ConsumerGroup:
    """The app's consumer, as the scorer sees it."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    def generation(self) -> int:
        """The group generation now."""
        return int(self._app.consumer_generation_id)

    async def commit(self, offsets: Mapping[TP, int], topic_id: str) -> bool:
        """Commit the next offset of each partition."""
        return bool(await self._app.consumer.commit_offsets(offsets, topic_id))


def make_app(settings: Settings) -> faust.App:
    """A Faust app on the record-batch transport, with nothing on it yet."""
    faust_transport.install(max_value_bytes(settings))
    return faust.App(
        settings.consumer_group,
        broker=";".join(f"{faust_transport.SCHEME}://{server.strip()}" for server in settings.bootstrap.split(",")),
        broker_credentials=_credentials(settings.bootstrap.access),
        datadir=settings.state_dir / "faust",
        autodiscover=False,
        web_enabled=False,  # Faust's binds every address and shows tables; ours is stream_app/web/health_server.py
        topic_disable_leader=True,
        topic_allow_declare=False,  # `tamiz topics create` does, with equal partition counts
        consumer_auto_offset_reset="none",  # stream_app/offsets/partition_positions.py says where to begin
        # Partitions that are added are found within that time.
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        producer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        broker_session_timeout=30.0,
        broker_heartbeat_interval=3.0,
        broker_max_poll_records=settings.batch_max_records,
        # An idle consumer that leaves the group never comes back.
        broker_max_poll_interval=NO_TIMEOUT_S,
        producer_request_timeout=30.0,
        producer_compression_type=COMPRESSION,
        producer_max_batch_size=MAX_SENT_BYTES["max_batch_size"],
        producer_max_request_size=MAX_SENT_BYTES["max_request_size"],
        stream_wait_empty=True,
        stream_recovery_delay=0.0,  # no tables to recover
        consumer_connections_max_idle_ms=540_000,
    )


def _credentials(access: Access) -> faust.SASLCredentials | faust.SSLCredentials | None:
    context = tls(access)
    if access.mechanism is not None and access.password is not None:
        return faust.SASLCredentials(
            mechanism=access.mechanism,
            username=access.username,
            password=access.password.reveal(),
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None


def make_worker(settings: Settings, at: StepHook = no_hook) -> tuple[faust.App, "WorkerServices"]:
    """Everything a worker is, wired and checked, not yet running.

    at: told of every step that a batch takes.
    Raises ConfigError, SchemaError, BrokerError, ModelUnavailableError or ModelIncompatibleError when it cannot run.
    """
    auth = authenticator(settings)
    dataset = load_dataset(settings.dataset)
    topic_id = retry_until(lambda: _check_topics(settings), settings.startup_timeout_seconds)
    max_letter_bytes = _check_sizes(settings)
    store = ChampionCache(settings, dataset)
    retry_until(store.open, settings.startup_timeout_seconds)
    app = make_app(settings)
    metrics = WorkerMetrics()
    group = ConsumerGroup(app)
    positions = PartitionPositions(settings, metrics, topic_id)
    app.positions = positions
    cursors = CursorReader(
        settings.bootstrap,
        settings.drift_panes_topic,
        model=settings.model_name,
        version=lambda: store.current.version,
        fits=positions.fits,
        metrics=metrics,
    )
    scorer = WorkerLoop(
        policy=HandlerPolicy(
            dataset=dataset,
            group=settings.consumer_group,
            max_payload_bytes=settings.max_payload_bytes,
            counting=settings.drift_counting,
            max_letter_bytes=max_letter_bytes,
            max_event_time_ahead_ms=settings.max_event_time_ahead_minutes * MINUTE_MS,
        ),
        counting=DriftCounter(cursors.last_cursors, settings.allowed_lateness_minutes * MINUTE_MS, metrics=metrics),
        model=lambda: store.current,
        group=group,
        output=make_output(settings, app, group, at),
        transactions_topic=settings.transactions_topic,
        decisions_topic=settings.decisions_topic,
        dead_letters_topic=settings.dead_letters_topic,
        panes_topic=settings.drift_panes_topic,
        batch_max_records=settings.batch_max_records,
        drain_timeout_s=settings.drain_timeout_seconds,
        metrics=metrics,
        at=at,
    )
    app.batch_sink = scorer
    app.topics.add(app.topic(settings.transactions_topic))
    return app, WorkerServices(settings, app, store, scorer, metrics, auth, positions)


def make_output(settings: Settings, app: faust.App, group: ConsumerGroup, at: StepHook) -> Publisher:
    """Who publishes and commits, by the guarantee that is set."""
    if settings.processing_guarantee == "at-least-once":
        return AtLeastOncePublisher(group, lambda: app.producer.client, at)
    return ExactlyOncePublisher(
        settings.consumer_group,
        client_config(settings.bootstrap),
        MAX_SENT_BYTES | {"request_timeout_ms": 30_000, "compression_type": COMPRESSION},
        at,
    )


class WorkerServices(Service):  # type: ignore[misc]  # mode has no types
    """What runs beside Faust's app: the scoring loop, the question to the registry, the pages.

    Handed to Faust's worker as a service of its own, it starts before the app and stops after it: the pages answer
    while the group is still forming, and what was fetched is still decided while the consumer stops.
    """

    def __init__(
        self,
        settings: Settings,
        app: faust.App,
        store: ChampionCache,
        scorer: WorkerLoop,
        metrics: WorkerMetrics,
        auth: Authenticator,
        positions: PartitionPositions,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._app = app
        self._store = store
        self._scorer = scorer
        self._metrics = metrics
        self._positions = positions
        self._promoted = asyncio.Event()
        self._watch = Watchdog(
            self._backlogs,
            settings.stall_timeout_seconds,
            self._set_lag,
            exit_at_once,
            progress=scorer.progress,
            failed=metrics.watchdog_failures.inc,
        )
        auth.on_failure = metrics.authentication_failures.inc
        self._pages = HealthServer(
            alive=lambda: scorer.failed is None,
            readiness=self.readiness,
            registry=metrics.registry,
            auth=auth,
        )

    async def on_start(self) -> None:
        """Open the pages."""
        self._show_model()
        self._show_registry()
        self._metrics.partitions.set_function(lambda: len(self._partitions()))
        port = await self._pages.start(self._settings.web_host, self._settings.web_port)
        self._watch.start()
        self._positions.start()
        # What was imported stays for good, and a batch is many objects that all live until it is committed: left as it
        # is, the collector goes through both again and again, for a fifth of all CPU time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        # Three threads share the interpreter: by default one that has work keeps it from the others for 5 ms.
        sys.setswitchinterval(0.001)
        log.info("health and metrics on http://%s:%d", self._settings.web_host, port)

    async def on_stop(self) -> None:
        """Close the pages and the output."""
        self._watch.stop()
        self._positions.stop()
        await self._scorer.close()
        await self._pages.stop()

    @Service.task  # type: ignore[untyped-decorator]
    async def _score(self) -> None:
        await self._scorer.run()

    @Service.task  # type: ignore[untyped-decorator]
    async def _hear_of_promotions(self) -> None:
        moves = listen_for_promotions(self._settings, lambda topic: self._metrics.records_skipped.labels(topic).inc())
        async with contextlib.aclosing(moves):
            async for event in moves:
                log.info("version %s was %s: asking the registry now", event.model_version, event.change)
                self._promoted.set()

    @Service.task  # type: ignore[untyped-decorator]
    async def _follow_champion(self) -> None:
        while True:
            # Jitter, so that a fleet does not ask in step.
            wait = self._settings.registry_poll_seconds * random.uniform(0.75, 1.25)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._promoted.wait(), wait)
            self._promoted.clear()
            if self.should_stop:
                return
            try:
                if await asyncio.to_thread(self._store.refresh):
                    self._metrics.model_swaps.inc()
                    self._show_model()
                self._show_registry()
            except (RegistryAwayError, ModelIncompatibleError) as error:
                self._show_registry()
                self._metrics.registry_failures.inc()
                self._metrics.bundles_rejected.inc(isinstance(error, ModelIncompatibleError))
                log.warning("version %d goes on deciding: %s", self._store.current.version, error)

    def readiness(self) -> Readiness:
        """Whether transactions are being decided, and by what."""
        model = self._store.loaded
        partitions = self._partitions()
        waiting = [] if model else ["a champion"]
        waiting += [] if partitions else ["partitions"]
        waiting += [] if self._positions.are_known(partitions) else ["offsets to be checked"]
        waiting += self._positions.problems()
        waiting += ["progress"] if self._watch.stalled else []
        waiting += ["a restart"] if self._scorer.failed else []
        return Readiness(
            ready=not waiting,
            waiting_for=tuple(waiting),
            model=model.manifest.model if model else None,
            model_version=model.version if model else None,
            forced=model.manifest.forced if model else None,
            recorded=self._store.recorded if model else None,
            registry_disagreement=self._store.disagreement,
            partitions=tuple(partitions),
        )

    def _partitions(self) -> list[int]:
        return assigned_partitions(self._app, self._scorer.topics)

    def _backlogs(self) -> dict[int, Backlog]:
        s = self._settings
        held = self._positions.held
        reading = [p for p in self._partitions() if p not in held]  # what is held does not move, and says so itself
        return backlogs(s.bootstrap, s.consumer_group, s.transactions_topic, reading)

    def _set_lag(self, seen: Mapping[int, Backlog]) -> None:
        self._metrics.set_lag({partition: backlog.lag for partition, backlog in seen.items()})

    def _show_model(self) -> None:
        model = self._store.current
        self._metrics.model_version.set(model.version)
        self._metrics.model_forced.set(model.manifest.forced)

    def _show_registry(self) -> None:
        self._metrics.champion_unrecorded.set(not self._store.recorded)
        self._metrics.registry_alias_mismatch.set(self._store.disagreement is not None)


def assigned_partitions(app: faust.App, topics: frozenset[str]) -> list[int]:
    """Partitions of the topics that the group has given to this worker; any thread may ask, at any time."""
    # Not `app.consumer`, which makes one where there is none: two threads would make two, of which one never starts.
    consumer = app._consumer
    try:
        assigned = consumer.assignment() if consumer is not None else ()
    except ConsumerNotStarted:
        return []
    return sorted(tp.partition for tp in assigned if tp.topic in topics)


class StoppingWorker(faust.Worker):  # type: ignore[misc]  # Faust has no types
    """Faust's worker, which stops within a time or ends."""

    deadline: StopDeadline

    def _schedule_shutdown(self, number: signal.Signals) -> None:
        self.deadline.begin()
        super()._schedule_shutdown(number)


def run(settings: Settings, at: StepHook = no_hook) -> None:
    """Run a worker until SIGTERM or SIGINT; what it has consumed by then is decided and committed, if there is time.

    at: told of every step that a batch takes; a crash test ends the process there.
    """
    app, companion = make_worker(settings, at)
    worker = StoppingWorker(
        app, companion, quiet=True, loglevel=settings.log_level, logging_config=configuration(settings)
    )
    worker.deadline = StopDeadline(settings, "what was not committed is decided again at the next start")
    worker.execute_from_commandline()


def _check_sizes(settings: Settings) -> int:
    """What the dead-letter topic takes of a record, in bytes. Raises ConfigError when decisions do not fit theirs."""
    limits = message_limits(settings.bootstrap, (settings.decisions_topic, settings.dead_letters_topic))
    decisions, letters = limits[settings.decisions_topic], limits[settings.dead_letters_topic]
    if decisions is not None and decisions < MAX_DECISION_BYTES:
        raise ConfigError(
            f"topic {settings.decisions_topic} takes records of at most {decisions} bytes (max.message.bytes), a "
            f"decision may have {MAX_DECISION_BYTES}; raise the topic's limit"
        )
    if letters is None:
        log.warning(
            "max.message.bytes of topic %s cannot be read; dead letters are cut to %d bytes; allow DescribeConfigs",
            settings.dead_letters_topic,
            SAFE_LETTER_BYTES,
        )
        return SAFE_LETTER_BYTES
    return min(letters, MAX_SENT_BYTES["max_request_size"])


def _check_topics(settings: Settings) -> str:
    by_input = (
        settings.transactions_topic,
        settings.decisions_topic,
        settings.dead_letters_topic,
        settings.drift_panes_topic,
    )
    wanted = (*by_input, settings.model_events_topic)
    found = describe_topics(settings.bootstrap, wanted)
    missing = [topic for topic in wanted if topic not in found]
    if missing:
        raise ConfigError(
            f"topics missing on {settings.bootstrap}: {', '.join(missing)}; make them: tamiz topics create"
        )
    return found[settings.transactions_topic].id
