"""Creates every part of the worker from the settings, wires them together, and runs it."""

import logging
import sys
import threading
from collections.abc import Mapping, Sequence

import faust

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import ConfigError
from schemas.time_units import MINUTE_MS
from schemas.topics import MAX_RECORD_BYTES, worker_outputs
from scoring.profiles.profile_fold import ProfileFold
from stream_app.decisions.decision_records import MAX_DECISION_BYTES
from stream_app.decisions.handler import HandlerPolicy
from stream_app.kafka.kafka_clients import METADATA_MAX_AGE_MS, client_config
from stream_app.kafka.topic_admin import DescribedTopic, describe_topics, message_limits
from stream_app.lifecycle.logging_setup import configuration, start_logging
from stream_app.lifecycle.stop_deadline import StopDeadline
from stream_app.lifecycle.watchdog import retry_until
from stream_app.offsets.partition_positions import PartitionPositions
from stream_app.profiles.profile_follower import ProfileFollower
from stream_app.profiles.profile_state import ProfileState
from stream_app.profiles.snapshot_store import LocalFolder, SnapshotStore
from stream_app.rules.partition_rules import PartitionRules
from stream_app.rules.rule_follower import RuleFollower
from stream_app.web.web_auth import authenticator
from stream_app.worker.champion_cache import ChampionCache
from stream_app.worker.drift_counter import DriftCounter
from stream_app.worker.exactly_once import ExactlyOncePublisher
from stream_app.worker.faust_app import ConsumerGroup, StoppingWorker, make_app
from stream_app.worker.pane_cursors import CursorReader
from stream_app.worker.publisher import AtLeastOncePublisher, Publisher, StepHook, no_hook
from stream_app.worker.warm_up import warm_up
from stream_app.worker.worker_loop import WorkerLoop, exit_at_once
from stream_app.worker.worker_metrics import WorkerMetrics
from stream_app.worker.worker_services import WorkerServices
from stream_app.worker.write_queue import WriteQueue

log = logging.getLogger("tamiz.worker")
DEFAULT_MAX_DEAD_LETTER_BYTES = 128 * 1024  # used where the topic's limit cannot be read


def make_worker(
    settings: Settings, on_step: StepHook = no_hook, *, counting: bool = True
) -> tuple[faust.App, WorkerServices]:
    """Create and check all parts of a worker, without starting it.

    on_step: called at every step of a batch. counting: whether transactions are counted for drift detection.
    Raises ConfigError, SchemaError, BrokerError, ModelUnavailableError or ModelIncompatibleError if it cannot run.
    """
    auth = authenticator(settings)
    dataset = load_dataset(settings.dataset)
    outputs = worker_outputs(settings, dataset.profiles)
    champion = ChampionCache(settings, dataset)
    retry_until(champion.open, settings.startup_timeout_seconds)
    policy = HandlerPolicy.from_settings(settings, dataset, counting=counting)
    warm_up(champion.current, policy)
    # The broker last, so that a worker that waits for it is ready soon after it responds.
    topics = retry_until(lambda: _check_topics(settings, outputs), settings.startup_timeout_seconds)
    transactions = topics[settings.transactions_topic]
    has_rules = _has_rule_topics(settings, topics)
    outputs = (*outputs, settings.rule_activations_topic) if has_rules else outputs
    policy = policy._replace(max_letter_bytes=_check_sizes(settings))
    app = make_app(settings)
    metrics = WorkerMetrics()
    group = ConsumerGroup(app, settings.transactions_topic)
    positions = PartitionPositions(settings, metrics, transactions.id, outputs)
    app.positions = positions
    cursors = CursorReader(
        settings.bootstrap,
        settings.drift_panes_topic,
        model=settings.model_name,
        version=lambda: champion.current.version,
        fits=positions.fits,
        metrics=metrics,
    )
    publisher = make_publisher(settings, group, on_step)
    profiles = make_profiles(settings, policy, metrics, transactions.partitions) if dataset.profiles else None
    rules = make_rules(settings, policy, metrics) if has_rules else None
    writes = WriteQueue(
        group=group,
        publisher=publisher,
        decisions_topic=settings.decisions_topic,
        dead_letters_topic=settings.dead_letters_topic,
        panes_topic=settings.drift_panes_topic,
        batch_max_records=settings.batch_max_records,
        metrics=metrics,
        profiles=profiles,
        feature_log_topic=settings.feature_log_topic,
        profile_tiles_topic=settings.profile_tiles_topic,
        rule_activations_topic=settings.rule_activations_topic,
        on_step=on_step,
    )
    worker_loop = WorkerLoop(
        policy=policy,
        counter=DriftCounter(cursors.last_cursors, settings.allowed_lateness_minutes * MINUTE_MS, metrics=metrics),
        model=lambda: champion.current,
        group=group,
        publisher=publisher,
        writes=writes,
        transactions_topic=settings.transactions_topic,
        batch_max_records=settings.batch_max_records,
        drain_timeout_s=settings.drain_timeout_seconds,
        profiles=profiles,
        rules=rules,
        on_step=on_step,
    )
    app.batch_sink = worker_loop
    app.topics.add(app.topic(settings.transactions_topic))
    return app, WorkerServices(settings, app, champion, worker_loop, metrics, auth, positions)


def make_profiles(settings: Settings, policy: HandlerPolicy, metrics: WorkerMetrics, partitions: int) -> ProfileState:
    """The state of the data set's profiles. partitions: number of partitions of the transactions topic."""
    shared = None
    if settings.profile_snapshot_root is not None:
        from stream_app.registry.artifact_folder import ArtifactFolder

        shared = ArtifactFolder(settings, settings.profile_snapshot_root, setting="profile_snapshot_root")
    fold = ProfileFold(policy.dataset, range(partitions), threading.Lock())
    follower = ProfileFollower(
        settings,
        policy.dataset,
        fold.shared,
        count_skipped=lambda topic: metrics.records_skipped.labels(topic).inc(),
        count_unmatched=metrics.profile_labels_unmatched.inc,
    )
    refused = metrics.profile_snapshots.labels("refused").inc
    store = SnapshotStore(LocalFolder(settings.state_dir), shared, refused)
    return ProfileState(settings, fold, policy, store, follower, metrics=metrics, exit_=exit_at_once)


def make_rules(settings: Settings, policy: HandlerPolicy, metrics: WorkerMetrics) -> PartitionRules:
    """The rules that the partitions' transactions meet."""
    follower = RuleFollower(settings, policy.dataset, metrics.activations)
    return PartitionRules(settings, follower, metrics.activations)


def make_publisher(settings: Settings, group: ConsumerGroup, on_step: StepHook) -> Publisher:
    """The publisher for the setting `processing_guarantee`."""
    connection = client_config(settings.bootstrap)
    if settings.processing_guarantee == "at-least-once":
        connection |= {"metadata_max_age_ms": METADATA_MAX_AGE_MS}
        return AtLeastOncePublisher(group, connection, on_step)
    return ExactlyOncePublisher(settings.consumer_group, connection, {"request_timeout_ms": 30_000}, on_step)


def run(settings: Settings, on_step: StepHook = no_hook, *, counting: bool = True) -> None:
    """Run a worker until SIGTERM or SIGINT. Consumed transactions are then decided and committed within a deadline.

    on_step: called at every step of a batch; crash tests end the process there. counting: False only in the benchmark
    that measures what counting for drift detection costs.
    """
    start_logging(settings)  # Faust's worker does it again, but later
    if sys.platform != "win32":
        import uvloop

        uvloop.install()
    app, services = make_worker(settings, on_step, counting=counting)
    worker = StoppingWorker(
        app, services, quiet=True, loglevel=settings.log_level, logging_config=configuration(settings)
    )
    worker.deadline = StopDeadline(settings, "uncommitted transactions are decided again at the next start")
    worker.execute_from_commandline()


def _check_sizes(settings: Settings) -> int:
    """Largest dead letter that its topic accepts, in bytes. Raises ConfigError if decisions do not fit their topic."""
    limits = message_limits(settings.bootstrap, (settings.decisions_topic, settings.dead_letters_topic))
    decisions, letters = limits[settings.decisions_topic], limits[settings.dead_letters_topic]
    if decisions is not None and decisions < MAX_DECISION_BYTES:
        raise ConfigError(
            f"topic {settings.decisions_topic}: max.message.bytes is {decisions}, but a decision can have "
            f"{MAX_DECISION_BYTES} bytes; raise the topic's limit"
        )
    if letters is None:
        log.warning(
            "max.message.bytes of topic %s cannot be read; truncating dead letters to %d bytes; allow DescribeConfigs",
            settings.dead_letters_topic,
            DEFAULT_MAX_DEAD_LETTER_BYTES,
        )
        return DEFAULT_MAX_DEAD_LETTER_BYTES
    return min(letters, MAX_RECORD_BYTES)


def _check_topics(settings: Settings, outputs: Sequence[str]) -> dict[str, DescribedTopic]:
    """The topics that exist. Raises ConfigError if one is missing that every worker needs."""
    wanted = (settings.transactions_topic, *outputs, settings.model_events_topic)
    found = describe_topics(settings.bootstrap, (*wanted, *_rule_topics(settings)))
    missing = [topic for topic in wanted if topic not in found]
    if missing:
        raise ConfigError(
            f"topics missing on {settings.bootstrap}: {', '.join(missing)}; create them with `tamiz topics create`"
        )
    return found


def _has_rule_topics(settings: Settings, found: Mapping[str, DescribedTopic]) -> bool:
    """Whether rules can be followed. An installation that is older than rules has no topics for them."""
    missing = [topic for topic in _rule_topics(settings) if topic not in found]
    if missing:
        log.warning(
            "no rules and lists: topics missing: %s; create them with `tamiz topics create` and restart the workers",
            ", ".join(missing),
        )
    return not missing


def _rule_topics(settings: Settings) -> tuple[str, ...]:
    return settings.rules_topic, settings.lists_topic, settings.rule_activations_topic
