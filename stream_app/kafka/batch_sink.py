"""What the transport passes fetches to: the interface of the worker's loop."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from faust.types import TP


class Fetch(NamedTuple):
    """The records of one fetch, by partition, each list in offset order."""

    generation: int
    records: Mapping[TP, Sequence[Any]]  # aiokafka's ConsumerRecord
    topic_id: str = ""  # Kafka's id of the topic that they were read from
    resets: int = 0  # number of position resets before this fetch


class BatchSink(Protocol):
    """Receives fetches. An app has one, as `app.batch_sink`."""

    topics: frozenset[str]

    def offer(self, fetch: Fetch) -> bool:
        """Accept a fetch unless full."""

    async def put(self, fetch: Fetch) -> None:
        """Accept a fetch. Waits while full."""

    async def drain(self) -> bool:
        """Wait until every fetch is processed; False after a timeout."""

    def is_idle(self) -> bool:
        """Whether every fetch is processed."""

    async def prepare(self, starts: Mapping[TP, int], topic_id: str) -> set[TP]:
        """Prepare partitions to be read from an offset each. Returns those that must not be read yet."""

    async def prepared(self) -> set[int]:
        """Of the partitions that must not be read yet, those that can be read now."""

    async def retain(self, partitions: set[TP]) -> None:
        """Give up all other partitions."""

    async def save(self) -> None:
        """Save what a restart would need, at the end."""
