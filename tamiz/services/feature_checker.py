"""`tamiz features check`: reads transactions, labels and feature log, replays the profiles and compares."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import ConfigError
from schemas.records import Label
from schemas.transaction_ids import transaction_id
from scoring.profiles.feature_check import CheckedRows, FeatureCheck, check_features
from scoring.profiles.feature_log import FeatureLog
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.replay import Transactions, replay_profiles
from scoring.profiles.shared.label_inputs import label_inputs
from stream_app.decisions.handler import HandlerPolicy
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, read_to_end
from tamiz.services.history_reader import clean_valid, read_feature_log, read_labels

log = logging.getLogger("tamiz.features")
Progress = Callable[[str, int, int], None]


def check_logged_features(
    settings: Settings,
    *,
    from_ms: int | None = None,
    until_ms: int | None = None,
    progress: Progress = lambda step, done, of: None,
) -> FeatureCheck:
    """Compare the logged values of transactions with event times in [`from_ms`, `until_ms`) with replayed ones.

    All transactions of the topic are replayed: those before the range are the past of those in it.
    progress: called with a step, how much of it is done, and of how much.
    Raises ConfigError if the data set declares no profiles, BrokerError if no broker responds.
    """
    dataset = load_dataset(settings.dataset)
    if not dataset.profiles:
        raise ConfigError(
            f"dataset {settings.dataset!r} declares no profiles, so there are no values to check; name another with "
            "TAMIZ_DATASET, or add a [[profiles]] table (docs/data-set.md)"
        )
    plan = ProfilePlan.of(dataset)
    topic = settings.transactions_topic
    policy = HandlerPolicy.from_settings(settings, dataset, counting=False)._replace(
        topic_id=topic_ids(settings.bootstrap, [topic]).get(topic, "")
    )

    def step(name: str) -> Callable[[int, int], None]:
        return lambda done, of: progress(name, done, of)

    found = _Rows(plan, policy)
    for records in read_to_end(
        settings.bootstrap, topic, step(f"reading {topic}"), keep_bytes=settings.max_payload_bytes
    ):
        found.update(records)
    intake = RecordIntake(settings, log, log_text="skipped, not a valid record")
    labels: list[Label] = []
    if len(plan.columns_of("labels")):
        labels += read_labels(settings, intake, step(f"reading {settings.labels_topic}"))
    logged = FeatureLog(plan)
    for partition, record in read_feature_log(settings, intake, step(f"reading {settings.feature_log_topic}")):
        logged.update(partition, record)
    intake.log_summary(at_once=True)
    return check_features(plan, logged, found.replayed(from_ms, until_ms, labels, step("replaying profiles")))


class _Rows:
    """Collects transactions for the replay, with what identifies them."""

    def __init__(self, plan: ProfilePlan, policy: HandlerPolicy) -> None:
        self._policy = policy
        self._transactions = Transactions(plan)
        self._places: list[tuple[int, int]] = []
        self._ids: list[str] = []
        self._event_time_ms: list[int] = []

    def update(self, records: Sequence[ConsumedRecord]) -> None:
        """Add records; those that are no transactions are left out."""
        for some, cleaned in clean_valid(records, self._policy):
            self._transactions.update(cleaned, [r.partition for r in some], [r.offset for r in some])
            for row, declared in zip(cleaned.rows.tolist(), cleaned.transaction_ids, strict=True):
                self._places.append((some[row].partition, some[row].offset))
                self._ids.append(declared or transaction_id(some[row], self._policy.topic_id))
            self._event_time_ms += cleaned.event_time_ms.tolist()

    def replayed(
        self,
        from_ms: int | None,
        until_ms: int | None,
        labels: Sequence[Label],
        progress: Callable[[int, int], None],
    ) -> CheckedRows:
        """The rows of a range of event times, by partition and offset, with their replayed values."""
        replayed = replay_profiles(self._transactions, label_inputs(self._transactions.plan, labels), progress)
        order = sorted(range(len(self._places)), key=self._places.__getitem__)
        times = np.array([self._event_time_ms[i] for i in order], dtype=np.int64)
        rows = CheckedRows(
            replayed.partitions,
            replayed.offsets,
            [self._ids[i] for i in order],
            times,
            replayed.values,
            replayed.complete,
        )
        inside = np.ones(len(times), np.bool_)
        if from_ms is not None:
            inside &= times >= from_ms
        if until_ms is not None:
            inside &= times < until_ms
        return rows.at(np.flatnonzero(inside))
