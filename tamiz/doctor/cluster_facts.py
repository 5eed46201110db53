"""Facts about a Kafka cluster, from read-only requests. A part that is refused is `Unknown` with the reason."""

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import CoordinatorNotAvailableError, KafkaError

from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from schemas.topics import topic_table
from stream_app.kafka.topic_admin import admin, described
from stream_app.offsets.offset_validation import read_metadata
from tamiz.doctor.facts import ClusterFacts, GroupFacts, Position, TopicFacts, Unknown

T = TypeVar("T")
COORDINATOR_TIMEOUT_S = 5.0  # a broker without commits has no coordinator at first


def cluster_facts(settings: Settings) -> ClusterFacts | Unknown:
    """Facts about the cluster; Unknown if no broker responds."""
    try:
        with admin(settings.bootstrap) as client:
            return _cluster_facts(client, settings)
    except (BrokerError, KafkaError, OSError, ValueError) as error:
        return Unknown.from_error(error)


def _cluster_facts(client: KafkaAdminClient, settings: Settings) -> ClusterFacts:
    names = [t.name for t in topic_table(settings)]
    brokers = _known(lambda: client.describe_cluster()["brokers"])
    topics = _topics(client, names)
    partitions = topics[settings.transactions_topic].partitions if settings.transactions_topic in topics else 0
    ids = [int(broker["broker_id"]) for broker in brokers] if not isinstance(brokers, Unknown) else []
    return ClusterFacts(
        brokers=max(1, len(ids)),
        topics=topics,
        group=_known(lambda: _group(client, settings, partitions)),
        broker_config=_known(lambda: _config(client, ConfigResourceType.BROKER, str(ids[0])))
        if ids
        else Unknown("the cluster does not return its brokers"),
        clock_ahead_s=_known(lambda: _clock_ahead_s(client)),
    )


def _topics(client: KafkaAdminClient, names: list[str]) -> dict[str, TopicFacts]:
    existing = sorted(set(client.list_topics()) & set(names))
    if not existing:
        return {}
    ids = {name: topic.id for name, topic in described(client, existing).items()}
    found = {}
    for topic in client.describe_topics(existing):
        name = str(topic["name"])
        if topic["error_code"] or name not in ids:
            continue
        # One request per topic: a topic that may not be described must not hide the others.
        config = _known(partial(_config, client, ConfigResourceType.TOPIC, name))
        operations = topic.get("authorized_operations")
        partitions = topic["partitions"]
        newest = _known(partial(_newest_ms, client, name, len(partitions)))
        found[name] = TopicFacts(
            id=ids[name],
            partitions=len(partitions),
            replicas=min(len(p["replica_nodes"]) for p in partitions),
            in_sync=min(len(p["isr_nodes"]) for p in partitions),
            operations=None if operations is None else frozenset(operations),
            config=config,
            newest_ms=None if isinstance(newest, Unknown) else newest,
        )
    return found


def _config(client: KafkaAdminClient, kind: Any, name: str) -> Mapping[str, str] | Unknown:
    answer: dict[Any, Any] = client.describe_configs([ConfigResource(kind, name, None)], config_filter="all")
    (of_kind,) = answer.values()
    (entries,) = of_kind.values()
    if not entries:  # this is how the client reports a refusal
        return Unknown("DESCRIBE_CONFIGS is not allowed")
    return {str(key): str(entry["value"]) for key, entry in entries.items() if entry["value"] is not None}


def _newest_ms(client: KafkaAdminClient, topic: str, partitions: int) -> int | None:
    requests = {TopicPartition(topic, p): OffsetSpec.MAX_TIMESTAMP for p in range(partitions)}
    stamps = [at.timestamp for at in client.list_partition_offsets(requests).values()]
    return max((stamp for stamp in stamps if stamp is not None and stamp >= 0), default=None)


def _group(client: KafkaAdminClient, settings: Settings, partitions: int) -> GroupFacts:
    group, topic = settings.consumer_group, settings.transactions_topic
    places = [TopicPartition(topic, p) for p in range(partitions)]
    committed = _with_coordinator(lambda: client.list_group_offsets({group: places}))[group] if places else {}
    committed_at = {place: at for place, at in committed.items() if at.offset >= 0}
    first = client.list_partition_offsets(dict.fromkeys(committed_at, OffsetSpec.EARLIEST)) if committed_at else {}
    end = client.list_partition_offsets(dict.fromkeys(committed_at, OffsetSpec.LATEST)) if committed_at else {}
    operations = None
    with contextlib.suppress(KafkaError):  # a group that does not exist yet cannot be described
        authorized = client.describe_groups([group])[group].get("authorized_operations")
        operations = None if authorized is None else frozenset(authorized)
    return GroupFacts(
        positions={
            place.partition: Position(
                committed=at.offset,
                first=first[place].offset,
                end=end[place].offset,
                topic_id=read_metadata(at.metadata) or "",
            )
            for place, at in committed_at.items()
        },
        operations=operations,
    )


def _with_coordinator(request: Callable[[], T]) -> T:
    deadline = time.monotonic() + COORDINATOR_TIMEOUT_S
    while True:
        try:
            return request()
        except CoordinatorNotAvailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _clock_ahead_s(client: KafkaAdminClient) -> float | Unknown:
    """Clock of the controller's leader minus this clock, in s: its own last-caught-up timestamp is its current time."""
    before_s = time.time()
    quorum = client.describe_metadata_quorum()["topics"][0]["partitions"][0]
    after_s = time.time()
    stamps = {v["replica_id"]: v["last_caught_up_timestamp"] for v in quorum["current_voters"]}
    stamp = stamps.get(quorum["leader_id"], -1)
    if stamp < 0:
        return Unknown("the brokers do not return their time (before Kafka 3.3)")
    now_s = min(max(stamp / 1000, before_s), after_s)  # differences within the duration of the request are unknown
    return float(stamp / 1000 - now_s)


def _known(request: Callable[[], T]) -> T | Unknown:
    try:
        return request()
    except (KafkaError, KeyError, IndexError, ValueError, TypeError) as error:
        return Unknown.from_error(error)
