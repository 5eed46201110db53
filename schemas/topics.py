"""The table of topics: what travels where, how it is keyed and how long it is kept."""

from dataclasses import dataclass, field

from schemas.settings import Settings

DAY_MS = 86_400_000
KEEP_A_WEEK = {"retention.ms": str(7 * DAY_MS)}
KEEP_A_MONTH = {"retention.ms": str(30 * DAY_MS)}
COMPACT = {"cleanup.policy": "compact"}


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One row of the table."""

    role: str  # what the code calls it, whatever its name is on this cluster
    name: str
    key: str
    record: str
    direction: str  # seen from Tamiz: in, out or internal
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def table(settings: Settings) -> list[Topic]:
    """Every topic this installation uses, under the names its settings give them."""
    n = settings.partitions
    return [
        Topic(
            role="transactions",
            name=settings.transactions_topic,
            key="card holder",
            record="the producer's own JSON",
            direction="in",
            partitions=n,
            config=KEEP_A_WEEK,
        ),
        Topic(
            role="decisions",
            name=settings.decisions_topic,
            key="as its transaction",
            record="Decision",
            direction="out",
            partitions=n,
            config=KEEP_A_WEEK,
        ),
        Topic(
            role="dead-letters",
            name=settings.dead_letters_topic,
            key="as its transaction",
            record="the payload untouched, reason and origin in headers",
            direction="out",
            partitions=n,
            # A payload that just fitted into `transactions` must still fit with its reasons beside it.
            config=KEEP_A_MONTH | {"max.message.bytes": str(2 * 1024 * 1024)},
        ),
        Topic(
            role="redrives",
            name=settings.redrives_topic,
            key="transaction id",
            record="Redrive",
            direction="internal",
            partitions=1,
            config=COMPACT,
        ),
        Topic(
            role="labels",
            name=settings.labels_topic,
            key="transaction id",
            record="Label",
            direction="in",
            partitions=n,
            config=KEEP_A_MONTH,
        ),
        Topic(
            role="drift-panes",
            name=settings.drift_panes_topic,
            key="input partition and minute",
            record="PaneSnapshot",
            direction="internal",
            partitions=n,
            # A month's report reads them all; of a partition's cursor only the last matters.
            config={
                "cleanup.policy": "compact,delete",
                "retention.ms": str(35 * DAY_MS),
                "max.message.bytes": str(4 * 1024 * 1024),
            },
        ),
        Topic(
            role="drift-reports",
            name=settings.drift_reports_topic,
            key="model",
            record="DriftReport",
            direction="out",
            partitions=1,
            config=KEEP_A_MONTH,
        ),
        Topic(
            role="drift-alerts",
            name=settings.drift_alerts_topic,
            key="incident id",
            record="DriftAlert",
            direction="out",
            partitions=1,
            config=KEEP_A_MONTH,
        ),
        Topic(
            role="retrain-requests",
            name=settings.retrain_requests_topic,
            key="model",
            record="RetrainRequest",
            direction="out",
            partitions=1,
            config=KEEP_A_MONTH,
        ),
        Topic(
            role="model-events",
            name=settings.model_events_topic,
            key="model",
            record="ModelEvent",
            direction="out",
            partitions=1,
            config=KEEP_A_MONTH,
        ),
    ]
