"""What the checks judge. Each group of facts is either known, or `Unknown` with the reason. Pure."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Unknown(msgspec.Struct, frozen=True):
    """Facts that could not be had: nobody answers, or we may not ask."""

    reason: str


class TopicFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One topic as the cluster has it."""

    id: str  # empty where the broker gives none
    partitions: int
    replicas: int  # of the partition that has the fewest
    in_sync: int  # likewise
    operations: frozenset[str] | None  # what we may do with it; None: the broker does not say
    config: Mapping[str, str] | Unknown
    newest_ms: int | None  # largest timestamp of a record; None: no record, or not known


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where the consumer group is in one partition, and what the log holds."""

    committed: int
    first: int
    end: int
    topic_id: str  # of the topic when it was committed; empty where it is not recorded


class GroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The workers' consumer group."""

    positions: Mapping[int, Position]  # by partition of the transactions
    operations: frozenset[str] | None


class ClusterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A Kafka cluster."""

    brokers: int
    topics: Mapping[str, TopicFacts]  # by name; those that are there and that we may see
    group: GroupFacts | Unknown
    broker_config: Mapping[str, str] | Unknown
    clock_ahead_s: float | Unknown  # of a broker, before this machine's


class RegistryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The champion in the model registry."""

    champion: int | None
    disagreement: str | None  # how the alias differs from the recorded promotions
    dataset: str | Unknown  # that the bundle was trained on; unknown where it cannot be loaded


class MachineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """This machine."""

    codecs: Mapping[str, bool]  # whether records that are compressed so can be read
    state_exists: bool
    state_private: bool
    pages_refused: str | None  # why no page would be served, as programs say it; None: they would
    users_private: bool  # whether only its owner may read the file of users
    free_bytes: int | Unknown  # on the disk of the state folder
    outdated: tuple[str, ...] | Unknown  # libraries whose version is not one that Tamiz asks for


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was gathered."""

    cluster: ClusterFacts | Unknown
    registry: RegistryFacts | Unknown
    machine: MachineFacts | Unknown
    now_ms: int
