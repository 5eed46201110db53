"""Reads the labelled history for a training from the topics `transactions`, `labels` and `feature-log`."""

import logging
from collections.abc import Callable, Iterator, Sequence

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.records import FeatureRecord, Label
from schemas.time_units import DAY_MS, MINUTE_MS
from scoring.input.cleaning import CleanedBatch
from stream_app.decisions.handler import HandlerPolicy, clean_records
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, first_timestamp_ms, read_to_end
from training.data.history import History
from training.data.topic_history import TopicHistory

log = logging.getLogger("tamiz.training")


def read_kafka_history(
    settings: Settings,
    *,
    from_ms: int | None = None,
    until_ms: int | None = None,
    progress: Callable[[str, int, int], None] = lambda step, done, of: None,
) -> History:
    """The labelled transactions with event times in [`from_ms`, `until_ms`), in ms since 1970; None for no bound.

    Reads each topic from its beginning, because record timestamps do not bound event times, to its end at the start.
    progress: called with a step, how much of it is done, and of how much: offsets of a topic, rows of a replay.
    Raises TrainingError if there is too little data to train on, BrokerError if no broker responds.
    """
    dataset = load_dataset(settings.dataset)
    found = TopicHistory(
        dataset,
        from_ms=from_ms,
        until_ms=until_ms,
        max_payload_bytes=settings.max_payload_bytes,
        topic_id=topic_ids(settings.bootstrap, [settings.transactions_topic]).get(settings.transactions_topic, ""),
        max_event_time_ahead_ms=settings.max_event_time_ahead_minutes * MINUTE_MS,
    )

    def step(name: str) -> Callable[[int, int], None]:
        return lambda done, of: progress(name, done, of)

    intake = RecordIntake(settings, log, log_text="skipped, not a valid record")
    transactions, labels = settings.transactions_topic, settings.labels_topic
    for records in read_to_end(
        settings.bootstrap, transactions, step(f"reading {transactions}"), keep_bytes=settings.max_payload_bytes
    ):
        found.update(records)
    for label in read_labels(settings, intake, step(f"reading {labels}")):
        found.update_label(label)
    if found.unsure_labels:
        log.info("%s: %d labels of reviewers who are not sure are not used", labels, found.unsure_labels)
    if dataset.profiles:
        for partition, features in read_feature_log(settings, intake, step(f"reading {settings.feature_log_topic}")):
            found.update_features(partition, features)
    intake.log_summary(at_once=True)
    return found.history(f"the topic {transactions}", settings.label_delay_days * DAY_MS, step("replaying profiles"))


def clean_valid(
    records: Sequence[ConsumedRecord], policy: HandlerPolicy
) -> Iterator[tuple[Sequence[ConsumedRecord], CleanedBatch]]:
    """The cleaned transactions with their records. One that a bug in cleaning rejects is left out, as by workers."""
    try:
        cleaned, _ = clean_records(records, policy)
    except Exception:
        for half in (records[: len(records) // 2], records[len(records) // 2 :]) if len(records) > 1 else ():
            yield from clean_valid(half, policy)
        return
    yield records, cleaned


def read_labels(settings: Settings, intake: RecordIntake, progress: Callable[[int, int], None]) -> Iterator[Label]:
    """The valid labels of the topic, in the order of each partition."""
    for records in read_to_end(settings.bootstrap, settings.labels_topic, progress):
        for record in records:
            if (label := intake.read(record, Label)) is not None:
                yield label


def read_feature_log(
    settings: Settings, intake: RecordIntake, progress: Callable[[int, int], None]
) -> Iterator[tuple[int, FeatureRecord]]:
    """The valid records of the feature log with their partition, in the order of each. Nothing if there is no topic.

    The log can be older than the transactions: it is read from the time of the first transaction on.
    """
    topic = settings.feature_log_topic
    if topic not in topic_ids(settings.bootstrap, [topic]):
        log.warning("topic %s does not exist; all profile features are replayed", topic)
        return
    first_ms = first_timestamp_ms(settings.bootstrap, settings.transactions_topic)
    since_ms = None if first_ms is None else max(0, first_ms - DAY_MS)  # clocks differ
    for records in read_to_end(settings.bootstrap, topic, progress, since_ms=since_ms):
        for record in records:
            if (features := intake.read(record, FeatureRecord)) is not None:
                yield record.partition, features
