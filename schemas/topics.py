"""The table of topics: record, key, partitions and retention of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from schemas.configuration.settings import Settings
from schemas.dataset.profiles import Profile
from schemas.time_units import DAY_MS

MAX_RECORD_BYTES = 4 * 1024 * 1024  # of a record that our programs send, uncompressed


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One row of the table."""

    role: str  # the topic's name in the code; `name` is its name in the cluster
    name: str
    key: str
    record: str
    direction: str  # seen from Tamiz: in, out or internal
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def max_value_bytes(settings: Settings) -> dict[str, int]:
    """Maximum size of a record value that a reader must keep whole, in bytes, by topic.

    Values on topics that are not listed are well below 1 MB.
    """
    return {
        settings.transactions_topic: settings.max_payload_bytes,
        settings.dead_letters_topic: MAX_RECORD_BYTES,
        settings.drift_panes_topic: MAX_RECORD_BYTES,
        settings.profile_tiles_topic: MAX_RECORD_BYTES,
        settings.rules_topic: MAX_RECORD_BYTES,
        settings.rule_statistics_topic: MAX_RECORD_BYTES,
    }


def worker_outputs(settings: Settings, profiles: Sequence[Profile]) -> tuple[str, ...]:
    """The topics to which a worker writes by the number of the input partition. profiles: of the data set."""
    s = settings
    features = (s.feature_log_topic,) if profiles else ()
    tiles = (s.profile_tiles_topic,) if any(p.kind == "tiles" for p in profiles) else ()
    return (s.decisions_topic, s.dead_letters_topic, *features, *tiles, s.drift_panes_topic)


def topic_table(settings: Settings, profiles: Sequence[Profile] = ()) -> list[Topic]:
    """Every topic of the installation, with the names that the settings give.

    profiles: of the data set; closed tiles are kept as long as their windows read them.
    """
    n = settings.partitions
    # With a single in-sync replica, `acks=all` acknowledges records that the loss of one disk destroys.
    safe = {"min.insync.replicas": "2"} if settings.replication_factor >= 3 else {}
    # Training reads this far back. It reserves the last week for testing, so a week's retention would leave no rows.
    training_days = max(7, settings.retrain_lookback_days)
    evidence_days = settings.decision_retention_days
    a_month, training_history, evidence, logged_values = (
        safe | {"retention.ms": str(days * DAY_MS)}
        for days in (30, training_days, evidence_days, max(training_days, evidence_days))
    )  # as long as a transaction or its decision is kept, the values and rules of it are
    # Compaction begins after this time: until then, the state of rules at any offset can be read again.
    rules_history = safe | {"cleanup.policy": "compact", "min.compaction.lag.ms": logged_values["retention.ms"]}
    return [
        Topic(
            role="transactions",
            name=settings.transactions_topic,
            key="card holder",
            record="the producer's own JSON",
            direction="in",
            partitions=n,
            config=training_history,
        ),
        Topic(
            role="decisions",
            name=settings.decisions_topic,
            key="as its transaction",
            record="Decision",
            direction="out",
            partitions=n,
            config=evidence,
        ),
        Topic(
            role="feature-log",
            name=settings.feature_log_topic,
            key="as its transaction",
            record="FeatureRecord",
            direction="out",
            partitions=n,
            config=logged_values,
        ),
        Topic(
            role="profile-tiles",
            name=settings.profile_tiles_topic,
            key="none",
            record="TileRecord",
            direction="internal",
            partitions=n,
            config=safe
            | {
                "retention.ms": str(max((p.horizon_ms for p in profiles if p.kind == "tiles"), default=0) + 7 * DAY_MS),
                "max.message.bytes": str(MAX_RECORD_BYTES),
            },
        ),
        Topic(
            role="rules",
            name=settings.rules_topic,
            key="number and SHA-256 of the record",
            record="RulesetRecord",
            direction="in",
            partitions=1,
            config=rules_history | {"max.message.bytes": str(MAX_RECORD_BYTES)},
        ),
        Topic(
            role="lists",
            name=settings.lists_topic,
            key="list, field, value and snoozed rule",
            record="ListEntry",
            direction="in",
            partitions=1,
            config=rules_history,
        ),
        Topic(
            role="rule-activations",
            name=settings.rule_activations_topic,
            key="none",
            record="RuleActivation",
            direction="internal",
            partitions=n,
            config=logged_values,
        ),
        Topic(
            role="rule-statistics",
            name=settings.rule_statistics_topic,
            key="model",
            record="RuleReport",
            direction="out",
            partitions=1,
            # The last record is the monitor's state.
            config=safe | {"cleanup.policy": "compact", "max.message.bytes": str(MAX_RECORD_BYTES)},
        ),
        Topic(
            role="dead-letters",
            name=settings.dead_letters_topic,
            key="as its transaction",
            record="the payload unchanged; reason and origin in headers",
            direction="out",
            partitions=n,
            # A payload of the maximum size of `transactions` must fit together with the headers that state the reason.
            config=a_month | {"max.message.bytes": str(2 * 1024 * 1024)},
        ),
        Topic(
            role="redrives",
            name=settings.redrives_topic,
            key="transaction id and place",
            record="Redrive",
            direction="internal",
            partitions=1,
            config=safe | {"cleanup.policy": "compact"},
        ),
        Topic(
            role="labels",
            name=settings.labels_topic,
            key="transaction id",
            record="Label",
            direction="in",
            partitions=n,
            config=training_history,
        ),
        Topic(
            role="drift-panes",
            name=settings.drift_panes_topic,
            key="model version, input partition and minute",
            record="PaneSnapshot",
            direction="internal",
            partitions=n,
            # A monthly report reads all panes; of the cursors only the last one of each partition is needed.
            config=safe
            | {
                "cleanup.policy": "compact,delete",
                "retention.ms": str(35 * DAY_MS),
                "max.message.bytes": str(MAX_RECORD_BYTES),
            },
        ),
        Topic(
            role="drift-reports",
            name=settings.drift_reports_topic,
            key="model",
            record="DriftReport",
            direction="out",
            partitions=1,
            config=a_month,
        ),
        Topic(
            role="drift-alerts",
            name=settings.drift_alerts_topic,
            key="incident id",
            record="DriftAlert",
            direction="out",
            partitions=1,
            config=a_month,
        ),
        Topic(
            role="retrain-requests",
            name=settings.retrain_requests_topic,
            key="model",
            record="RetrainRequest",
            direction="out",
            partitions=1,
            config=a_month,
        ),
        Topic(
            role="model-events",
            name=settings.model_events_topic,
            key="model",
            record="ModelEvent",
            direction="out",
            partitions=1,
            config=a_month,
        ),
    ]


def with_own_topics(settings: Settings, prefix: str) -> Settings:
    """The settings with every topic under a prefix, the inputs among them. The topics are not created."""
    return msgspec.structs.replace(
        settings, topic_prefix=prefix, existing_transactions_topic=None, existing_labels_topic=None
    )
