"""Topic administration: creates topics and reads their partitions, ids and configuration. Uses kafka-python."""

import base64
import contextlib
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from schemas.errors import BrokerError
from schemas.topics import Topic
from stream_app.kafka.kafka_clients import client_config, require_broker

VISIBLE_TIMEOUT_S = 15.0
ASSUMED_MAX_MESSAGE_BYTES = 1_048_576  # if the broker does not return it: Kafka's default, rounded down


@contextlib.contextmanager
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """An admin client, closed afterwards. Raises BrokerError if the broker does not respond."""
    with require_broker(bootstrap):
        client = KafkaAdminClient(**client_config(bootstrap), request_timeout_ms=15_000, bootstrap_timeout_ms=15_000)
    try:
        yield client
    finally:
        client.close()


def create_topics(bootstrap: str, topics: Iterable[Topic], replication_factor: int) -> list[str]:
    """Create the topics that do not exist yet and return their names. Existing topics are not changed.

    Raises BrokerError if the broker does not respond or refuses a topic.
    """
    created = []
    with admin(bootstrap) as client:
        for topic in topics:
            new = NewTopic(
                name=topic.name,
                num_partitions=topic.partitions,
                replication_factor=replication_factor,
                topic_configs=dict(topic.config),
            )
            try:
                client.create_topics([new])
            except TopicAlreadyExistsError:
                continue
            except KafkaError as error:
                raise BrokerError(f"topic {topic.name} cannot be created: {error}") from None
            created.append(topic.name)
        _wait_until_visible(client, set(created))
    return created


def _wait_until_visible(client: KafkaAdminClient, names: set[str]) -> None:
    """Wait until brokers know the topics: the controller responds before the brokers that clients query are updated."""
    deadline = time.monotonic() + VISIBLE_TIMEOUT_S
    while invisible := names - set(client.list_topics()):
        if time.monotonic() > deadline:
            raise BrokerError(
                f"topics created, but not visible within {VISIBLE_TIMEOUT_S:.0f} s: {', '.join(sorted(invisible))}"
            )
        time.sleep(0.05)


def partition_counts(bootstrap: str, names: Sequence[str]) -> dict[str, int]:
    """Partitions of each of the topics that exist."""
    return {name: topic.partitions for name, topic in describe_topics(bootstrap, names).items()}


def topic_ids(bootstrap: str, names: Sequence[str]) -> dict[str, str]:
    """The id of each of the topics that exist, as `DescribedTopic.id`."""
    return {name: topic.id for name, topic in describe_topics(bootstrap, names).items()}


class DescribedTopic(NamedTuple):
    """A topic's partitions and id."""

    partitions: int
    id: str  # 22 characters, as in Kafka's tools; empty if the broker gives none (before Kafka 2.8)


def describe_topics(bootstrap: str, names: Sequence[str]) -> dict[str, DescribedTopic]:
    """The topics that exist, by name. Raises BrokerError if the broker does not respond."""
    with admin(bootstrap) as client:
        return described(client, names)


def described(client: KafkaAdminClient, names: Sequence[str]) -> dict[str, DescribedTopic]:
    """As `describe_topics`, with an existing client."""
    existing = sorted(set(client.list_topics()) & set(names))
    if not existing:
        return {}
    return {
        str(topic["name"]): DescribedTopic(len(topic["partitions"]), _topic_id(topic.get("topic_id")))
        for topic in client.describe_topics(existing)
        if not topic["error_code"]
    }


def _topic_id(raw: Any) -> str:
    id_ = uuid.UUID(str(raw)) if raw else uuid.UUID(int=0)
    return base64.urlsafe_b64encode(id_.bytes).decode().rstrip("=") if id_.int else ""


def message_limits(bootstrap: str, names: Sequence[str]) -> dict[str, int | None]:
    """The largest record batch that each topic accepts (`max.message.bytes`); None without the right to read it.

    Raises BrokerError if the broker does not respond.
    """
    return {name: int(value) if value else None for name, value in _configs(bootstrap, names, "max.message.bytes")}


def is_compacted(bootstrap: str, name: str) -> bool:
    """Whether a topic is compacted and so accepts no record without a key; False without the right to read it.

    Raises BrokerError if the broker does not respond.
    """
    ((_, policy),) = _configs(bootstrap, [name], "cleanup.policy")
    return policy is not None and "compact" in policy


def _configs(bootstrap: str, names: Sequence[str], setting: str) -> list[tuple[str, str | None]]:
    with admin(bootstrap) as client:
        try:
            answer = client.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, name, {setting: None}) for name in names],
                config_filter="all",
            )
        except KafkaError:
            return [(name, None) for name in names]
    configs = answer.get("topic", {})
    found = [(name, configs.get(name, {}).get(setting)) for name in names]
    return [(name, config["value"] if config else None) for name, config in found]


def max_message_bytes(bootstrap: str, names: Sequence[str]) -> int:
    """The largest record batch that all of the topics accept (`max.message.bytes`).

    Kafka's default without the right to read it. Raises BrokerError if the broker does not respond.
    """
    found = [limit for limit in message_limits(bootstrap, names).values() if limit is not None]
    return min(found, default=ASSUMED_MAX_MESSAGE_BYTES)
