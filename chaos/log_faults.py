"""States of the log that no worker causes: retention passes it by, its group's offsets expire, a log is cut short."""

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from schemas.configuration.settings import Settings
from stream_app.kafka.topic_admin import admin, topic_ids
from stream_app.offsets.offset_validation import metadata

SPARED = 50  # records at the end of each partition that retention leaves
CUT = 1_000_000  # offsets that the group is ahead of a log that was cut short; more than is sent until a worker looks


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
        client.delete_records({place: max(0, end - SPARED) for place, end in _ends(settings).items()})


def forget_offsets(settings: Settings) -> None:
    """Delete the group's offsets, as the broker does once a group has been away for a week. Nobody may work."""
    with admin(settings.bootstrap) as client:
        client.delete_group_offsets(settings.consumer_group, _places(settings))


def commit_beyond_the_end(settings: Settings) -> None:
    """Commit as if the log had been longer once. Nobody may work."""
    text = metadata(topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic])
    consumer = KafkaConsumer(
        bootstrap_servers=settings.bootstrap, group_id=settings.consumer_group, enable_auto_commit=False
    )
    try:
        ends = _ends(settings)
        consumer.assign(list(ends))
        consumer.commit({place: OffsetAndMetadata(end + CUT, text, -1) for place, end in ends.items()})
    finally:
        consumer.close()
