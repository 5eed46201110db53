"""The facts that the checks need. Each group of facts is known, or `Unknown` with the reason. Pure."""

from collections.abc import Mapping

import msgspec

from schemas.security.sanitizer import printable, without_credentials

MAX_REASON_LENGTH = 300  # characters


class Unknown(msgspec.Struct, frozen=True):
    """Facts that are not available: no response, or no permission."""

    reason: str

    @classmethod
    def from_error(cls, error: Exception) -> "Unknown":
        """The first line of an error, printable and without credentials."""
        line = (str(error) or type(error).__name__).splitlines()[0]
        return cls(printable(without_credentials(line), MAX_REASON_LENGTH))


class TopicFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One topic of the cluster."""

    id: str  # empty if the broker gives none
    partitions: int
    replicas: int  # lowest number of any partition
    in_sync: int  # lowest number of any partition
    operations: frozenset[str] | None  # authorized operations; None: the broker does not return them
    config: Mapping[str, str] | Unknown
    newest_ms: int | None  # largest timestamp of a record; None: no record, or not known


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """The consumer group's committed offset in one partition, and the range of the log."""

    committed: int
    first: int
    end: int
    topic_id: str  # topic id at the commit; empty if not recorded


class GroupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The workers' consumer group."""

    positions: Mapping[int, Position]  # by partition of the transactions
    operations: frozenset[str] | None


class ClusterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A Kafka cluster."""

    brokers: int
    topics: Mapping[str, TopicFacts]  # by name; existing topics that this principal may describe
    group: GroupFacts | Unknown
    broker_config: Mapping[str, str] | Unknown
    clock_ahead_s: float | Unknown  # broker's clock minus this machine's


class RegistryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The champion in the model registry."""

    champion: int | None
    inconsistency: str | None  # how the alias differs from the recorded promotions
    dataset: str | Unknown  # the bundle's data set; unknown if it cannot be loaded


class MachineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """This machine."""

    codecs: Mapping[str, bool]  # codec -> whether records compressed with it can be read
    state_exists: bool
    state_private: bool
    pages_refused: str | None  # the error with which programs refuse to serve pages; None: no error
    users_private: bool  # whether only its owner may read the file of users
    free_bytes: int | Unknown  # on the disk of the state folder
    outdated: tuple[str, ...] | Unknown  # libraries whose version does not meet Tamiz' requirements


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All facts."""

    cluster: ClusterFacts | Unknown
    registry: RegistryFacts | Unknown
    machine: MachineFacts | Unknown
    now_ms: int
