"""Faults of the log: retention deletes unread records, the group's offsets expire, the log is truncated."""

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from schemas.configuration.settings import Settings
from stream_app.kafka.topic_admin import admin, topic_ids
from stream_app.offsets.offset_validation import commit_metadata

RETAINED_RECORDS = 50  # records at the end of each partition that are not deleted
TRUNCATED_OFFSETS = (
    1_000_000  # offsets that the group is beyond the end of the truncated log; more than is sent during a run
)


def _places(settings: Settings) -> list[TopicPartition]:
    return [TopicPartition(settings.transactions_topic, p) for p in range(settings.partitions)]


def _ends(settings: Settings) -> dict[TopicPartition, int]:
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap, enable_auto_commit=False)
    try:
        return dict(consumer.end_offsets(_places(settings)))
    finally:
        consumer.close()


def delete_unread(settings: Settings) -> None:
    """Delete all but the last records of each partition, as retention does."""
    with admin(settings.bootstrap) as client:
        client.delete_records({place: max(0, end - RETAINED_RECORDS) for place, end in _ends(settings).items()})


def forget_offsets(settings: Settings) -> None:
    """Delete the group's offsets, as the broker does after a week without members. The group must have no members."""
    with admin(settings.bootstrap) as client:
        client.delete_group_offsets(settings.consumer_group, _places(settings))


def commit_beyond_the_end(settings: Settings) -> None:
    """Commit offsets beyond the end, as after a truncation of the log. The group must have no members."""
    text = commit_metadata(topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic])
    consumer = KafkaConsumer(
        bootstrap_servers=settings.bootstrap, group_id=settings.consumer_group, enable_auto_commit=False
    )
    try:
        ends = _ends(settings)
        consumer.assign(list(ends))
        consumer.commit({place: OffsetAndMetadata(end + TRUNCATED_OFFSETS, text, -1) for place, end in ends.items()})
    finally:
        consumer.close()
